"""AutoAugment and RandAugment with torchvision's operations, rows of one operation and strength together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.fields import Limits

BINS = 10
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
RANDAUGMENT = (*SIGNED, "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize")
Draws = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Autoaugment:
    """Cubuk et al. 2019, arXiv 1805.09501: one of a policy's 25 pairs of operations.

    Differs from timm's `original-mstd0.5` in having no noise on the magnitudes.
    """

    policy: str = "imagenet"
    draws: ClassVar[int] = 5
    limits: ClassVar[Limits] = {"policy": ("imagenet", "cifar10", "svhn")}

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        pairs = _policies(self.policy)
        chosen = np.floor(u[:, 0] * len(pairs)).astype(int)
        for turn in range(2):
            used, sign = u[:, 1 + turn], u[:, 3 + turn]
            groups: dict[tuple[str, float], list[int]] = {}
            for row, pair in enumerate(chosen):
                name, probability, magnitude = pairs[pair][turn]
                if used[row] <= probability:
                    strength = strength_of(name, magnitude, x.shape[1:3], negative=bool(sign[row] < 0.5))
                    groups.setdefault((name, strength), []).append(row)
            x = _applied(x, groups)
        return x


@dataclass(frozen=True, kw_only=True)
class Randaugment:
    """Cubuk et al. 2020, arXiv 1909.13719: `count` operations of one `magnitude` (of 10), each with probability `p`.

    Differs from timm's `rand-m9-mstd0.5-inc1` in having no noise on the magnitudes.
    """

    magnitude: int = 9
    count: int = 2
    p: float = 0.5
    limits: ClassVar[Limits] = {"magnitude": "[0, 9]", "count": "[1, 4]", "p": "[0, 1]"}

    @property
    def draws(self) -> int:
        return 3 * self.count

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        for turn in range(self.count):
            which, used, sign = u[:, 3 * turn : 3 * turn + 3].T
            groups: dict[tuple[str, float], list[int]] = {}
            for row in np.flatnonzero(used < self.p):
                name = RANDAUGMENT[int(which[row] * len(RANDAUGMENT))]
                strength = strength_of(name, self.magnitude, x.shape[1:3], negative=bool(sign[row] < 0.5))
                groups.setdefault((name, strength), []).append(int(row))
            x = _applied(x, groups)
        return x


def strength_of(name: str, magnitude: int | None, size: Any, *, negative: bool) -> float:
    """What an operation gets for a magnitude 0..9: the paper's ranges in ten steps, as torchvision has them."""
    share = (magnitude or 0) / (BINS - 1)
    h, w = size
    if name == "Posterize":
        return float(8 - round((magnitude or 0) / ((BINS - 1) / 4)))
    if name == "Solarize":
        return 255.0 * (1 - share)
    ranges = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331 * w, "TranslateY": 150 / 331 * h, "Rotate": 30.0}
    value = ranges.get(name, 0.9 if name in SIGNED else 0.0) * share
    return -value if negative and name in SIGNED else value


def operate(x: Tensor, name: str, strength: float) -> Tensor:
    """One operation on bytes [b, 3, h, w]."""
    from torchvision.transforms import functional as f

    if name.startswith("Shear"):
        angle = float(np.degrees(np.arctan(strength)))
        shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
        return f.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    if name.startswith("Translate"):
        shift = [int(strength), 0] if name == "TranslateX" else [0, int(strength)]
        return f.affine(x, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    made: dict[str, Any] = {
        "Rotate": lambda: f.rotate(x, strength),
        "Brightness": lambda: f.adjust_brightness(x, 1 + strength),
        "Color": lambda: f.adjust_saturation(x, 1 + strength),
        "Contrast": lambda: f.adjust_contrast(x, 1 + strength),
        "Sharpness": lambda: f.adjust_sharpness(x, 1 + strength),
        "Posterize": lambda: f.posterize(x, int(strength)),
        "Solarize": lambda: f.solarize(x, strength),
        "AutoContrast": lambda: f.autocontrast(x),
        "Equalize": lambda: f.equalize(x),
        "Invert": lambda: f.invert(x),
    }
    return made[name]()


def _applied(x: Tensor, groups: dict[tuple[str, float], list[int]]) -> Tensor:
    if not groups:
        return x
    pixels = x.permute(0, 3, 1, 2)
    pixels = (pixels if x.dtype == torch.uint8 else pixels.round().clamp(0, 255).to(torch.uint8)).clone()
    for (name, strength), rows in groups.items():
        at = torch.tensor(rows, device=x.device)
        pixels[at] = operate(pixels[at], name, strength)
    return pixels.permute(0, 2, 3, 1)


@lru_cache(maxsize=3)
def _policies(policy: str) -> tuple[Any, ...]:
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    return tuple(AutoAugment(AutoAugmentPolicy(policy)).policies)
