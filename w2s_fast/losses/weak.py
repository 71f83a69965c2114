"""Any function as a loss."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError, W2SError
from w2s_fast.losses.loss import Loss
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Weak:
    """The weak model's output on a batch, as a callable loss sees it."""

    logits: Tensor
    """f[b, k] (f[b, m, k] of m teachers), divided by tau_w."""

    @cached_property
    def log_probs(self) -> Tensor:
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def probs(self) -> Tensor:
        return self.log_probs.exp()


@dataclass(frozen=True, kw_only=True, eq=False)
class CallableLoss(Loss):
    """A function `(z / tau_s, Weak, Batch) -> f[b]`, called once per run without lead; gradients by autograd.

    The function may carry attributes: `needs`, a set of `labels`, `prior`, `teachers`, and `mixes_rows`, True if it
    uses statistics of its batch. Its batch has no `labels` in training unless it needs them (or `w_gt` is above 0).
    """

    fn: Callable[[Tensor, Weak, Batch], Tensor]

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(getattr(self.fn, "needs", ()))

    @property
    def mixes_rows(self) -> bool:
        return bool(getattr(self.fn, "mixes_rows", False))

    @property
    def label(self) -> str:
        """What rows and messages call it."""
        return str(getattr(self.fn, "__name__", type(self.fn).__name__))

    @property
    def _code(self) -> CodeType | None:
        inner: Any = getattr(self.fn, "func", self.fn)  # functools.partial
        return getattr(inner if hasattr(inner, "__code__") else type(inner).__call__, "__code__", None)

    @property
    def where(self) -> str:
        """Its name with the file and line of its definition, for messages."""
        code = self._code
        return f"your loss {self.label}" + ("" if code is None else f" ({code.co_filename}:{code.co_firstlineno})")

    def value(self, z: Tensor, batch: Batch) -> Tensor:
        z, logits = self.scaled(z), self.weak_scaled(batch)
        if z.ndim == 2:
            return self._one(z, logits, batch)
        return torch.stack([self._one(z[r], logits[r], batch.run(r)) for r in range(z.shape[0])])

    def _one(self, z: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        try:
            value: Any = self.fn(z, Weak(logits=logits), batch)
        except (W2SError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise TrainError(f"{self._at(error)} raised {why}; fix the function") from error
        if not isinstance(value, Tensor) or value.shape != z.shape[:-1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TrainError(
                f"{self.where} returned {got}, not one value per sample ({z.shape[0]},); leave out the reduction"
            )
        if z.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
            raise TrainError(
                f"{self.where} returned values that do not depend on z by a gradient, so nothing can be learned; "
                "compute them from z, without detach, argmax or numpy"
            )
        return value

    def _at(self, error: Exception) -> str:
        """Its name with the file and the line of it that raised."""
        code = self._code
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
        return self.where if code is None or not lines else f"your loss {self.label} ({code.co_filename}:{lines[-1]})"
