"""Class weights from a text tower whose own weights are tuned."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.core.fields import Limits
from w2s_fast.core.prompts import spoken, tokenized
from w2s_fast.core.protocols import TextTower, Theta
from w2s_fast.heads.head import Features, Head, Start, WeakLabels, unit

TUNED = {"all": ("",), "projection": ("ln_final", "text_projection")}
"""What the names of tuned tensors begin with; the token table never is one."""
FROZEN = "token_embedding"
CHUNK = 256
"""Classes at a time, whose activations are computed again on the way back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen:
    """What stays while the tower is tuned: embedded prompts f[k, L, w], where each is read out, the other tensors."""

    tower: TextTower
    embedded: Tensor
    eot: Tensor
    others: Theta


@dataclass(frozen=True, kw_only=True, eq=False)
class TextEncoder(Head):
    """W = the text tower's unit features of `template` filled with the class names, through weights that are tuned.

    tune: `all` of the tower's tensors but the token table, or the `projection` behind the last block with its norm.
    template: the prompt, with one {} for the class name.

    Starts as the zero-shot classifier of that template. The tower runs in its own precision. Names are lower-cased and
    underscores become spaces, as for cached text features. CPL's Table 7 states neither which weights were tuned nor
    how.
    """

    tau_s: float = 0.05
    tune: str = "all"
    template: str = "a photo of a {}"
    frozen: Frozen | None = field(default=None, init=False, repr=False)

    max_stack: ClassVar[int | None] = 1
    default_lr: ClassVar[float] = 1e-5
    unit_rows: ClassVar[bool] = True
    needs_tower: ClassVar[bool] = True
    limits: ClassVar[Limits] = {**Head.limits, "tune": tuple(TUNED)}
    name: ClassVar[str] = "text_encoder"
    equation: ClassVar[str] = "z_i = <x_hat, unit f_t(prompt_i; theta)>, theta = weights of the text tower"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2511.18396, Table 7"
    verified: ClassVar[bool] = False

    def bind(self, start: Start) -> TextEncoder:
        if self.template.count("{}") != 1:
            raise UsageError(f"head {self.name!r}: template={self.template!r} needs exactly one {{}} for the name")
        if start.tower is None or not start.names:
            raise MissingText(
                f"head {self.name!r} tunes a text tower, and this encoder has none that can be used (or the classes "
                "have no names); use prototype(init='weak_mean') or linear"
            )
        tower = start.tower
        words = spoken(start.names)
        tokens = tokenized(tower, start.names, [self.template.replace("{}", word) for word in words])
        with torch.no_grad():
            embedded, eot = tower.embed(tokens).detach(), tower.eot(tokens)
            d = tower.encode(embedded[:1], eot[:1]).shape[-1]
            if d != start.d:
                raise UsageError(f"head {self.name!r}: the tower gives {d} dimensions and the features have {start.d}")
            frozen = Frozen(
                tower=tower,
                embedded=embedded,
                eot=eot,
                others={name: p.detach() for name, p in tower.params().items() if not self._tunes(name)},
            )
        bound = copy(self)
        object.__setattr__(bound, "frozen", frozen)
        return bound

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        found = {n: p.detach().clone() for n, p in self._bound.tower.params().items() if self._tunes(n)}
        if not found:
            raise UsageError(f"head {self.name!r}: this tower has no tensors of tune={self.tune!r}; use tune='all'")
        return found

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        own = self._bound.tower.params()
        name, some = next(iter(theta.items()))
        if some.ndim == own[name].ndim:
            return self._rows(theta), None
        return torch.stack([self._rows({n: p[r] for n, p in theta.items()}) for r in range(len(some))]), None

    def _rows(self, theta: Theta) -> Tensor:
        """Unit rows f[k, d] in the precision and place of one run's `theta`."""
        whole, like = self._bound.embedded, next(iter(theta.values()))
        cast = {**self._bound.others, **{name: p.to(whole) for name, p in theta.items()}}
        parts: list[Tensor] = []
        for at in range(0, len(whole), CHUNK):
            embedded, eot = whole[at : at + CHUNK], self._bound.eot[at : at + CHUNK]
            if len(whole) <= CHUNK or not torch.is_grad_enabled():
                parts.append(self._bound.tower.encode(embedded, eot, params=cast))
            else:
                parts.append(checkpoint(self._encoded, embedded, eot, cast, use_reentrant=False))  # type: ignore[arg-type]
        return unit(torch.cat(parts).to(like))

    def _encoded(self, embedded: Tensor, eot: Tensor, params: Theta) -> Tensor:
        return self._bound.tower.encode(embedded, eot, params=params)

    @property
    def _bound(self) -> Frozen:
        if self.frozen is None:
            raise UsageError(f"head {self.name!r} holds no text tower yet; call bind(start) with one first")
        return self.frozen

    def _tunes(self, name: str) -> bool:
        return not name.startswith(FROZEN) and name.startswith(TUNED[self.tune])
