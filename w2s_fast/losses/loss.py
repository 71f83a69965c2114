"""What a loss is: per-sample, unreduced, broadcast over stacked heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar, final

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.core.fields import Limits, is_real
from w2s_fast.losses.supervision import LOW, Batch

Real = float | Tensor
"""A parameter: a float, or inside a stack of unlike losses a tensor [R, 1, 1]."""

L = TypeVar("L", bound="Loss")


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """A function of logits and supervision; subclass it and write `value`, the rest follows by autograd.

    tau_s: temperature of the student's logits; None is the head's.
    tau_w: temperature of the weak logits.

    `needs` names what must be there: `labels`, `prior`, `teachers`. `limits` is checked where specs are parsed.
    """

    tau_s: Real | None = None
    tau_w: Real = 1.0

    needs: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[Limits] = {"tau_s": "(0, inf)", "tau_w": "(0, inf)"}
    source: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    verified: ClassVar[bool] = False
    default_head: ClassVar[str | None] = None

    def check(self) -> None:
        """Raise `SpecError` for parameters that do not fit each other, where specs are parsed."""

    @property
    def mixes_rows(self) -> bool:
        """Whether a row's value depends on the other rows of its batch, so that a batch must not be cut into chunks."""
        return False

    def memory(
        self, lead: tuple[int, ...], k: int, m: int, *, dtype: torch.dtype, device: torch.device
    ) -> dict[str, Tensor]:
        """Tensors that live through a run, each with the lead; those that require grad are learned through `step`."""
        return {}

    def value(self, z: Tensor, batch: Batch) -> Tensor:
        """The published per-sample value f[*r, b] of logits f[*r, b, k]; right under autograd, never writes memory."""
        raise NotImplementedError

    def value_and_dz(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Value f[*r, b] and its gradient f[*r, b, k] by the logits, detached; here by autograd of `value`."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            value = self.value(leaf, batch)
            (dz,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), dz

    def step(self, memory: dict[str, Tensor], grads: Mapping[str, Tensor], z: Tensor, batch: Batch) -> None:
        """Write memory in place after an optimiser step; `grads` holds those of memory that requires grad."""

    def scaled(self, z: Tensor) -> Tensor:
        """z / tau_s, at least in single precision."""
        z = z.float() if z.dtype in LOW else z
        return z if self.tau_s is None or _is_one(self.tau_s) else z / self.tau_s

    def weak_scaled(self, batch: Batch) -> Tensor:
        """The weak logits / tau_w, at least in single precision."""
        return batch.softened(self.tau_w)


class LogProbLoss(Loss):
    """A loss of log-probabilities: write `at`, and the gradient by the logits is (h - p sum h) / tau_s."""

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Per-sample value f[*r, b] and h = dl/dlogp f[*r, b, k] at log-probabilities f[*r, b, k], in one pass."""
        raise NotImplementedError

    @final
    def value(self, z: Tensor, batch: Batch) -> Tensor:
        return self.at(torch.log_softmax(self.scaled(z), dim=-1), batch)[0]

    @final
    def value_and_dz(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logp = torch.log_softmax(self.scaled(z), dim=-1)
            value, h = self.at(logp, batch)
            # h - exp(logp) sum(h) in one pass: what autograd runs for log_softmax
            dz = torch.ops.aten._log_softmax_backward_data(h, logp, -1, logp.dtype)
            if self.tau_s is not None and not _is_one(self.tau_s):
                dz.div_(self.tau_s)
        return value, dz


class TargetLoss(LogProbLoss):
    """Cross-entropy to a detached target mixture: write `target`."""

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        """The target f[*r, b, k]; detached; its rows may sum to other than 1."""
        raise NotImplementedError

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        target = self.target(logp.detach(), batch)
        return -(target * logp).sum(dim=-1), -target


def slice_key(loss: Loss) -> tuple[Any, ...]:
    """What two losses of one slice of a stack have in common: the class, all fields that are not real numbers, and
    which of the real ones are None."""
    values = [(f, getattr(loss, f.name)) for f in fields(loss)]
    return (type(loss), *((f.name, value is None if is_real(f) else value) for f, value in values))


def stack(losses: Sequence[L], *, dtype: torch.dtype, device: torch.device | str) -> L:
    """One loss for R runs: real fields become tensors [R, 1, 1]; all other fields must be equal (`TrainError`)."""
    first = losses[0]
    if any(slice_key(other) != slice_key(first) for other in losses[1:]):
        raise TrainError(
            f"losses of one slice differ in class, in a field that is not a number, or in one of None: {first}, ..."
        )
    changed: dict[str, Tensor | None] = {}
    for field in fields(first):
        if not is_real(field):
            continue
        values = [getattr(loss, field.name) for loss in losses]
        if values[0] is not None:
            changed[field.name] = torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
    return replace(first, **changed)  # type: ignore[arg-type]


def per_row(parameter: Real) -> Real:
    """A parameter for arithmetic with values [*r, b]: a stacked [R, 1, 1] loses its last axis."""
    return parameter.squeeze(-1) if isinstance(parameter, Tensor) else parameter


def at_least(x: Tensor, floor: Real) -> Tensor:
    """max(x, floor) of f[*r, b, k]."""
    return torch.maximum(x, floor) if isinstance(floor, Tensor) else x.clamp_min(floor)


def ramp(t: Tensor, warmup: Real) -> Real:
    """min(1, t / warmup) as f[*r, 1, 1]; 1 where warmup is 0, from the first step on."""
    if isinstance(warmup, Tensor):
        return torch.where(t >= warmup, torch.ones_like(t), t / warmup.clamp_min(torch.finfo(t.dtype).tiny))
    return (t / warmup).clamp_max(1.0) if warmup > 0 else 1.0


def hot(shape_like: Tensor, index: Tensor) -> Tensor:
    """One-hot rows f[*r, b, k] of class numbers i[*r, b], in the shape and type of `shape_like`."""
    return torch.zeros_like(shape_like).scatter_(-1, index.unsqueeze(-1), 1.0)


def _is_one(parameter: Real) -> bool:
    return not isinstance(parameter, Tensor) and parameter == 1.0
