"""Augmentation of whole batches, each row by its own draws: `crop(pad=4)`, `flip`, `rrc`, `autoaugment`, `mixup`.

An augmentation takes pixels in 0..255 and uniform numbers, so that it is a pure function of (seed, epoch, image).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from w2s_fast.core.errors import SpecError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

AUGMENTS: dict[str, str] = {
    "flip": "geometry:Flip",
    "crop": "geometry:Crop",
    "rrc": "geometry:RandomResizedCrop",
    "erase": "geometry:Erase",
    "autoaugment": "policies:Autoaugment",
    "randaugment": "policies:Randaugment",
    "jitter": "colour:Jitter",
    "gray": "colour:Gray",
    "mixup": "mix:Mixup",
    "cutmix": "mix:Cutmix",
    "mix": "mix:MixupOrCutmix",
}
"""Name -> "file:class" in this folder."""
MIXES = ("mixup", "cutmix", "mix")


class Augment(Protocol):
    """One augmentation; frozen dataclass, parsed from a spec."""

    draws: int
    """How many uniform numbers it takes per row."""

    def __call__(self, x: Tensor, u: NDArray[np.float64]) -> Tensor:
        """Pixels [b, h, w, 3] in 0..255 (bytes or floats) and draws f64[b, draws] -> pixels of the same shape."""
        ...


def parse_augments(text: str) -> list[Any]:
    """The augmentations of `crop(pad=4), flip, mixup(alpha=0.1)` in their order; `none` or nothing is no augmentation.

    At most one mixes images, and it comes last. Errors: `SpecError`.
    """
    from w2s_fast.core.fields import build
    from w2s_fast.core.specs import parse, split_list

    made: list[Any] = []
    names: list[str] = []
    for one in split_list(text):
        spec = parse(one)
        if spec.name == "none":
            continue
        if spec.name not in AUGMENTS:
            raise SpecError(f"no augmentation {spec.name!r}{nearest(spec.name, AUGMENTS)}")
        if names and names[-1] in MIXES:
            raise SpecError(f"augmentation {text!r}: {names[-1]} mixes whole images and comes last")
        module, _, cls = AUGMENTS[spec.name].partition(":")
        made.append(build(getattr(import_module(f"{__name__}.{module}"), cls), spec, what="augmentation"))
        names.append(spec.name)
    return made


def total_draws(augments: Sequence[Any]) -> int:
    """How many uniform numbers a row takes."""
    return sum(one.draws for one in augments)
