"""Losses through torch.compile, where many steps pay for it: one pass over the logits instead of about ten."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.fields import is_real
from w2s_fast.losses.loss import LogProbLoss, Loss, slice_key
from w2s_fast.losses.supervision import Batch
from w2s_fast.train.run import Setup

SECONDS = 20.0
"""What compiling one loss takes, about."""
SAVED = 4e-10
"""Seconds that a compiled loss saves per logit, about: 315 against 260 us for kd on 512 x 345, more for others."""
log = logging.getLogger("w2s_fast")

Columns = dict[str, Tensor]
Step = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]


class Compiler:
    """Which losses of a call are compiled; `seconds` have been spent on it."""

    def __init__(self, mode: str, setups: Sequence[Setup], *, k: int) -> None:
        self.seconds = 0.0
        self._mode = mode
        self._logits: dict[Any, float] = {}
        self._made: dict[Any, Compiled | None] = {}
        for s in setups:
            seen = s.run.epochs * s.n_train * k
            self._logits[slice_key(s.loss)] = self._logits.get(slice_key(s.loss), 0.0) + seen

    def of(self, loss: Loss) -> Step:
        """`loss.value_and_dz`, or the same compiled."""
        key = slice_key(loss)
        if self._mode == "never" or not isinstance(loss, LogProbLoss) or loss.mixes_rows:
            return loss.value_and_dz
        if self._mode == "auto" and self._logits.get(key, 0.0) * SAVED < SECONDS:
            return loss.value_and_dz
        if key not in self._made:
            self._made[key] = Compiled(loss) if has_compiler() else None
        made = self._made[key]
        return loss.value_and_dz if made is None else Bound(compiler=self, compiled=made, loss=loss)


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs on a CPU."""
    return any(map(shutil.which, ("g++", "clang++", "c++")))


class Compiled:
    """One loss class, compiled for any numbers and shapes."""

    def __init__(self, loss: Loss) -> None:
        def body(z: Tensor, numbers: Columns, columns: Columns, t: Tensor) -> tuple[Tensor, Tensor]:
            return replace(loss, **numbers).value_and_dz(z, Given(columns, t))  # type: ignore[arg-type]

        # dynamo counts recompilations by code object, and every loss is a function of its own
        code = body.__code__.replace(co_name=f"value_and_dz_of_{type(loss).__name__.lower()}")
        own = FunctionType(code, body.__globals__, closure=body.__closure__)
        self.call: Callable[..., tuple[Tensor, Tensor]] = torch.compile(own, dynamic=True)
        self.shapes: set[Any] = set()
        self.why: str | None = None


@dataclass(kw_only=True)
class Bound:
    """A compiled loss with the numbers of one slice; its first step runs as it is, to see what the loss reads."""

    compiler: Compiler
    compiled: Compiled
    loss: Loss
    read: dict[str, Any] | None = None

    def __call__(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.compiled.why is not None:
            return self.loss.value_and_dz(z, batch)
        if self.read is None:
            asked = Asked(batch)
            found = self.loss.value_and_dz(z, asked)
            self.read, self.compiled.why = asked.read, asked.why
            return found
        columns = {name: getattr(batch, name)(*arguments) for name, arguments in self.read.items()}
        began = time.perf_counter()
        try:
            found = self.compiled.call(z, _numbers(self.loss, z), columns, batch.t)
        except Exception as error:
            # whatever a compiler raises, torch as it is gives the numbers
            self.compiled.why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            log.warning("loss %s is not compiled: %s", type(self.loss).__name__, self.compiled.why)
            return self.loss.value_and_dz(z, batch)
        shape = tuple(n if n == 1 else None for n in z.shape)
        if shape not in self.compiled.shapes:
            self.compiled.shapes.add(shape)
            self.compiler.seconds += time.perf_counter() - began
        return found


class Asked(Batch):
    """A batch that notes which columns a loss reads, and at which temperature."""

    _batch: Batch
    read: dict[str, Any]
    why: str | None

    def __init__(self, batch: Batch) -> None:
        why = "it has memory" if batch.memory else None
        self.__dict__.update(_batch=batch, read={}, why=why, t=batch.t, memory=batch.memory, valid=batch.valid)

    @property
    def weak(self) -> Tensor:  # type: ignore[override]
        return self._as_it_is("weak")

    @property
    def prior(self) -> Tensor | None:  # type: ignore[override]
        return self._as_it_is("prior")

    @property
    def labels(self) -> Tensor | None:  # type: ignore[override]
        return self._as_it_is("labels")

    @property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        return self._as_it_is("weight")

    def probs(self, tau: float | Tensor) -> Tensor:
        return self._note("probs", tau)

    def neg_entropy(self, tau: float | Tensor) -> Tensor:
        return self._note("neg_entropy", tau)

    def label(self) -> Tensor:
        return self._note("label")

    def _as_it_is(self, name: str) -> Any:
        self.__dict__["why"] = f"it reads {name}"
        return getattr(self._batch, name)

    def _note(self, name: str, *arguments: float | Tensor) -> Tensor:
        if any(not _same(a, b) for a, b in zip(self.read.get(name, arguments), arguments, strict=True)):
            self.__dict__["why"] = f"it reads {name} at two temperatures"
        self.read[name] = arguments
        return getattr(self._batch, name)(*arguments)


class Given(Batch):
    """A batch whose columns are there already."""

    _columns: Columns

    def __init__(self, columns: Columns, t: Tensor) -> None:
        self.__dict__.update(_columns=columns, t=t, memory={}, valid=None)

    def probs(self, tau: float | Tensor) -> Tensor:
        return self._columns["probs"]

    def neg_entropy(self, tau: float | Tensor) -> Tensor:
        return self._columns["neg_entropy"]

    def label(self) -> Tensor:
        return self._columns["label"]


def _same(a: float | Tensor, b: float | Tensor) -> bool:
    return a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)


def _numbers(loss: Loss, z: Tensor) -> Columns:
    """Every real field as a tensor [1, 1, 1] or [R, 1, 1]: another temperature is no other program."""
    found: Columns = {}
    for field in fields(loss):
        number = getattr(loss, field.name)
        if is_real(field) and number is not None:
            found[field.name] = number if isinstance(number, Tensor) else z.new_full((1, 1, 1), number)
    return found
