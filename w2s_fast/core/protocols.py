"""What parts built apart ask of each other: a text tower, an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, dtype

Theta = dict[str, "Tensor"]
"""Named parameter tensors of one head, or of a stack of heads with a leading R."""


@runtime_checkable
class TextTower(Protocol):
    """A text encoder that heads can tune through; made by `backbones`, handed over as an object."""

    width: int
    context_length: int
    logit_scale: float
    """The multiplier of cosines, exp of the learned logarithm (100 for OpenAI's CLIP)."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids i[c, L], padded to the longest text's end-of-text or the context length."""
        ...

    def eot(self, tokens: Tensor) -> Tensor:
        """The position i[c] that is read out of each row of i[c, L]."""
        ...

    def params(self) -> Mapping[str, Tensor]: ...

    def embed(self, tokens: Tensor) -> Tensor:
        """i[c, L] -> f[c, L, w], without positions."""
        ...

    def encode(
        self,
        emb: Tensor,
        eot: Tensor,
        prefix: Tensor | None = None,
        params: Mapping[str, Tensor] | None = None,
        *,
        dtype: dtype | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """f[*r, c, L, w], i[c] (and a prefix f[*r, m, w]) -> f[*r, c, d], not normalised.

        dtype: that of the blocks' products, None that of `emb`; chunk: texts at a time, None as many as fit.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """A frozen network that turns prepared images into features, and logits if it has a classifier.

    One with text also has `text_tower()`, which gives a `TextTower`.
    """

    @property
    def dim(self) -> int: ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """A supervisor's class names."""
        ...

    @property
    def weights_digest(self) -> str: ...

    @property
    def config(self) -> dict[str, Any]:
        """The resolved model configuration (JSON types only); enters the cache key as it is."""
        ...

    @property
    def preprocess(self) -> dict[str, Any]:
        """Everything that decides `prepare` (JSON types only); enters the cache key as it is."""
        ...

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Local files and folders that the key is made of: weights, configuration, tokenizer; they are watched."""
        ...

    def prepare(self, image: Any) -> Tensor:
        """A decoded RGB `PIL.Image` -> f[3, h, w]."""
        ...

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """f[b, 3, h, w] -> features f[b, d] (raw), logits f[b, k] or None."""
        ...
