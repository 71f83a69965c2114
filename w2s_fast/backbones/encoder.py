"""The one encoder class: a frozen module, how an image is prepared for it, what is read out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from w2s_fast.backbones.digests import state_digest
from w2s_fast.backbones.preprocess import Transform
from w2s_fast.core.errors import MissingText

if TYPE_CHECKING:
    from w2s_fast.backbones.text import OpenClipText

Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenEncoder:
    """An `Encoder` (core's protocol) around a module in evaluation mode.

    `name` is the model's name as given; `config` the resolved configuration of the model (JSON; it enters the key) and
    `preprocess` all that decides `prepare`. `weight_files` are the local files that decide
    the key: weights, configuration, tokenizer. `classes`
    are a supervisor's class names. `forward` maps f[b, 3, h, w] to features f[b, d] and logits f[b, k] or None.
    """

    name: str
    module: nn.Module
    forward: Forward
    dim: int
    config: dict[str, Any]
    preprocess: dict[str, Any]
    classes: tuple[str, ...] | None = None
    weight_files: tuple[Path, ...] = ()
    card: dict[str, Any] = field(default_factory=dict[str, Any])
    tower: Callable[[], OpenClipText] | None = None

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)

    @property
    def weights_digest(self) -> str:
        """sha256 over the sorted (name, dtype, shape, bytes) of all weights, text tower included."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return state_digest(self.module.state_dict())

    @cached_property
    def transform(self) -> Callable[[Any], Tensor]:
        """How an image is prepared, without the network."""
        return Transform(self.preprocess)

    def prepare(self, image: Any) -> Tensor:
        """The model's own evaluation transform: RGB `PIL.Image` -> f[3, h, w]."""
        return self.transform(image)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """f[b, 3, h, w] on the module's device -> raw features f[b, d] and logits f[b, k] or None."""
        with torch.inference_mode():
            return self.forward(x)

    def text_tower(self) -> OpenClipText:
        """The text tower that shares this module, or `MissingText`."""
        if self.tower is None:
            raise MissingText(f"{self.name} has no usable text tower; use a CLIP model, or init='weak_mean'")
        return self.tower()
