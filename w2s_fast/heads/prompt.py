"""Learned context before class names, through the text tower: CoOp's head, the TP rows of W2S papers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.core.fields import Limits
from w2s_fast.core.prompts import POSITIONS, RANDOM_LENGTH, ClassPrompts, class_prompts
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head, Pull, Start, WeakLabels, unit

BLOCKS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
STD = 0.02

_made: WeakKeyDictionary[Start, dict[tuple[object, ...], ClassPrompts]] = WeakKeyDictionary()
"""What the heads of one start share: token embeddings of the class names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt(Head):
    """W = unit text features of `[V1]..[VM] name`, V the only parameters; no offsets, the scale lives in tau_s.

    init: `words`, the token embeddings of `words` (M is their number; the start is zero-shot with that template), or
    `random`, N(0, 0.02^2) by `torch.randn` in single precision with a CPU generator of the run seed, M = m or 16.
    tau_s: the temperature; 0 takes the tower's own, 1 / logit_scale: .01 for OpenAI's CLIP.
    words: the words that the context starts as.
    m: length M of a random context; 0 is 16.
    position: of the class name (end, middle, front).
    csc: a context per class.
    tail: text after the name (CoOp: ".").
    blocks: precision of the tower's matrix products (fp32, bf16, fp16); its norms and softmax stay in fp32.
    chunk: classes at a time, recomputed for the gradient; 0 takes all while they fit.

    Each step is one pass through the tower and one back, whatever the batch; runs of a stack share it.
    """

    tau_s: float = 0.0
    init_from: str = "words"
    words: str = "a photo of a"
    m: int = 0
    position: str = "end"
    csc: bool = False
    tail: str = ""
    blocks: str = "fp32"
    chunk: int = 0
    bound: ClassPrompts | None = field(default=None, init=False, repr=False)

    max_stack: ClassVar[int | None] = 8
    default_lr: ClassVar[float] = 2e-3
    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from", "words", "m", "bound"})
    unit_rows: ClassVar[bool] = True
    needs_tower: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **Head.limits,
        "tau_s": "[0, inf)",
        "init_from": ("words", "random"),
        "m": "[0, inf)",
        "position": POSITIONS,
        "blocks": tuple(BLOCKS),
        "chunk": "[0, inf)",
    }
    name: ClassVar[str] = "prompt"
    equation: ClassVar[str] = "z_i = <x_hat, t_i / |t_i|>, t_i = text tower of [V1]..[VM] name_i"
    source: ClassVar[str] = "Zhou et al. 2022, arXiv 2109.01134; TP of Li et al. 2025, arXiv 2511.18396, Eq. 2"

    def bind(self, start: Start) -> Prompt:
        """A copy that holds the tower and the class names' token embeddings.

        `MissingText` without a tower, or for a name that it cannot read; `UsageError` for names that do not fit.
        """
        if start.tower is None:
            raise MissingText(
                f"head {self.name!r} learns through the text tower, and this encoder has none; take a CLIP model, or "
                "head prototype(init='weak_mean')"
            )
        if len(start.names) != start.k:
            raise UsageError(f"head {self.name!r} needs one class name per class: {len(start.names)} for k={start.k}")
        length = (self.m or RANDOM_LENGTH) if self.init_from == "random" else 0
        key = (length or self.words, self.position, self.tail, self.csc)
        held = _made.setdefault(start, {})
        if key not in held:
            held[key] = self._checked(start, length)
        if self.m and self.m != held[key].m:
            raise UsageError(
                f"head {self.name!r}: {self.words!r} has {held[key].m} tokens, and m={self.m}; leave m out"
            )
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__, bound=held[key], tau_s=self.tau_s or 1 / start.tower.logit_scale)
        return found

    def _checked(self, start: Start, length: int) -> ClassPrompts:
        assert start.tower is not None
        prompts = class_prompts(
            start.tower,
            start.names,
            words=self.words,
            m=length,
            position=self.position,
            end=self.tail,
            csc=self.csc,
        )
        with torch.no_grad():
            d = prompts.encode(prompts.start).shape[-1]
        if d != start.d:
            raise UsageError(f"head {self.name!r}: the text tower gives {d} dimensions and the features have {start.d}")
        return prompts

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        context = self._prompts.start.clone()
        if self.init_from == "random":
            context = STD * torch.randn(context.shape, generator=torch.Generator().manual_seed(seed))
        return {"context": context}

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        return unit(self._prompts.encode(theta["context"], dtype=BLOCKS[self.blocks], chunk=self.chunk or None)), None

    def vjp(self, theta: Theta) -> tuple[Tensor, Tensor | None, Pull]:
        w, b, pull = super().vjp(theta)
        if self.blocks != "fp16":
            return w, b, pull

        def at_unit_size(dw: Tensor, db: Tensor | None) -> Theta:
            # a pull is linear: small gradients go through half precision at a size that does not vanish there
            size = dw.abs().amax(dim=(-2, -1)).clamp_min(torch.finfo(dw.dtype).tiny)
            found = pull(dw / size[..., None, None], db)
            return {name: g * size.view(*size.shape, *[1] * (g.ndim - size.ndim)) for name, g in found.items()}

        return w, b, at_unit_size

    @property
    def _prompts(self) -> ClassPrompts:
        if self.bound is None:
            raise UsageError(
                f"head {self.name!r} is not bound to a text tower; call "
                "head.bind(Start(k=..., d=..., names=..., tower=...)) first"
            )
        return self.bound
