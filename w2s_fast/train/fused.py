"""Whole epochs of a stack by the kernels: what `Stack` does step by step in torch, in a few launches per step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from w2s_fast.heads.linear import Linear
from w2s_fast.heads.prototype import Prototype
from w2s_fast.train.features import Resident
from w2s_fast.train.gemm import batched
from w2s_fast.train.kernels import CudaRecorder, EpochGraph, Kind, Recorder, kind_of, own_labels
from w2s_fast.train.layout import Layout
from w2s_fast.train.slices import Slice

if TYPE_CHECKING:
    from w2s_fast.train.stack import Stack

log = logging.getLogger("w2s_fast")

ALIGN = 8
PREFIX = "hyperparameter:"
"""Columns of logits come in multiples of this: 16 bytes of bf16."""


def why_not_fused(stack: Stack) -> str | None:
    """Why a stack is left to torch, in words for the log; None if the kernels serve it."""
    from w2s_fast.train.kernels import adam, unit

    head, context = stack.head, stack.context
    if context.dtype != torch.float32:
        return "the kernels compute in single precision"
    if not isinstance(stack.x, Resident):
        return "features are streamed"
    if type(head) not in (Linear, Prototype):
        return f"head {head.name or type(head).__name__} is not linear or prototype"
    if stack.x.d > unit.WIDEST and isinstance(head, Prototype):
        return f"features have {stack.x.d} dimensions, more than {unit.WIDEST}"
    if not adam.serves(stack.setups[0].solver):
        return "the solver is not adam, adamw or sgd"
    for part in stack.slices:
        one = part.supervisions[0]
        if one.pick is not None or part.memory or _kind(part, context.start.k) is None:
            return f"loss {part.label} has no kernel"
        if one.weak.dtype != torch.float32 or not part.joins:
            return "weak logits are not kept in single precision, or are too large to be joined"
    return None


class Fused:
    """The kernels' view of a stack: parameters padded to aligned rows, of which `stack.theta` becomes a view.

    Columns that pad the classes never move: their slopes are 0.
    """

    def __init__(self, stack: Stack, recorder: Recorder | None = None) -> None:
        self.stack = stack
        self.k = stack.context.start.k
        self.parameters = {name: self._padded(p) for name, p in stack.theta.items()}
        self.state = {name: {s: self._padded(t) for s, t in slots.items()} for name, slots in stack.state.items()}
        stack.theta = {name: p[:, : self.k] for name, p in self.parameters.items()}
        stack.state = {n: {s: t[:, : self.k] for s, t in slots.items()} for n, slots in self.state.items()}
        main = next(p for p in self.parameters.values() if p.ndim == 3)
        self.cosine = isinstance(stack.head, Prototype)
        operand = stack.context.precision.operand
        self.low = torch.empty_like(main, dtype=operand) if operand != main.dtype else None
        self.unit = torch.empty_like(main) if self.cosine and self.low is None else None
        self.kinds = {id(part): self._served(part) for part in stack.slices}
        self._refresh(main)
        device = stack.context.device
        if recorder is None and device.type == "cuda":
            recorder = CudaRecorder(device)
        self.graph = EpochGraph(self._epoch, recorder, device=device)

    def train_epoch(self, layout: Layout) -> Tensor:
        """The mean training loss f[R] of one epoch."""
        values = {"rows": layout.rows, "t": layout.t.flatten(1), "n": layout.n, "inverse": _table(layout.inverse)}
        values |= {PREFIX + name: _table(table) for name, table in layout.hyperparameters.items()}
        if layout.valid is not None:
            values["valid"] = layout.valid
        if layout.active is not None:
            values["active"] = layout.active
        return self.graph.run(values)

    def _epoch(self, values: Mapping[str, Tensor]) -> Tensor:
        size = self.stack.setups[0].run.batch_size
        rows = values["rows"]
        total = torch.zeros_like(values["n"])
        for step, at in enumerate(range(0, rows.shape[-1], size)):
            valid = values["valid"][:, at : at + size] if "valid" in values else None
            total += self._step(values, step, rows[..., at : at + size], valid)
        return total / values["n"]

    def _step(self, values: Mapping[str, Tensor], step: int, rows: Tensor, valid: Tensor | None) -> Tensor:
        assert isinstance(self.stack.x, Resident)
        runs, b = len(self.stack), rows.shape[-1]
        x = self.stack.x.table.index_select(0, rows.reshape(-1)).view(*rows.shape, -1)
        wide = x.expand(runs, *x.shape) if x.ndim == 2 else x
        w = self._operand()
        z = batched(wide, w.mT, torch.float32)
        dz = torch.empty_like(z, dtype=w.dtype)
        value = torch.empty(runs, b, dtype=torch.float32, device=z.device)
        t, inverse = values["t"][step], values["inverse"][step]
        cache: dict[Any, Tensor] = {}
        for part in self.stack.slices:
            batch = part.batch(rows, valid, t.view(-1, 1, 1), cache)
            self._rows(part, batch, z, dz, value, t=t, inverse=inverse)
        numbers = {n.removeprefix(PREFIX): t[step] for n, t in values.items() if n.startswith(PREFIX)}
        active = values["active"][step] if "active" in values else None
        self._move(batched(dz.mT, wide, torch.float32), dz, numbers, active)
        return value.sum(dim=-1)

    def _rows(
        self, part: Slice, batch: Any, z: Tensor, dz: Tensor, value: Tensor, *, t: Tensor, inverse: Tensor
    ) -> None:
        from w2s_fast.train.kernels import rows as kernel

        kind, numbers = self.kinds[id(part)]
        here = slice(part.start, part.stop)
        weak, numbered = batch.table("weak")
        bias = self.parameters.get("bias")
        own = None
        if kind.hardens:
            logits = z[here, :, : self.k]
            logits = logits if bias is None else logits + bias[here, None, : self.k]
            own = own_labels(part.loss, logits, batch)
        truth = None
        if part.has_gt:
            assert isinstance(part.w_gt, Tensor) and isinstance(part.tau_gt, Tensor)
            truth = kernel.Truth(labels=batch.table("labels")[0], w=part.w_gt.view(-1), tau=part.tau_gt.view(-1))
        kernel.value_and_dz(
            kind,
            numbers,
            z[here],
            weak,
            numbered,
            k=self.k,
            t=t[here],
            inverse=inverse[here],
            factor=part.factor(batch, z.dtype),
            own=own,
            offset=None if bias is None else bias[here],
            truth=truth,
            value=value[here],
            dz=dz[here],
        )

    def _move(self, dw: Tensor, dz: Tensor, numbers: dict[str, Tensor], active: Tensor | None) -> None:
        from w2s_fast.train.kernels import adam, unit
        from w2s_fast.train.solver import Adam

        solver = self.stack.setups[0].solver
        for name, p in self.parameters.items():
            state = self.state[name]
            spared = {} if name not in self.stack.head.undecayed else {"l2", "shrink"}
            own = {n: hyperparameter for n, hyperparameter in numbers.items() if n not in spared}
            if p.ndim == 2:
                adam.update(solver, p, dz.sum(dim=-2, dtype=torch.float32), state, own, active)
            elif not self.cosine:
                adam.update(solver, p, dw, state, own, active, low=self.low)
            elif isinstance(solver, Adam):
                unit.step(solver, p, dw, state, own, active, w=self.unit, low=self.low)
            else:
                adam.update(solver, p, unit.pull(p, dw, out=dw), state, own, active)
                self._refresh(p)

    def _operand(self) -> Tensor:
        if self.low is not None:
            return self.low
        return self.unit if self.unit is not None else next(p for p in self.parameters.values() if p.ndim == 3)

    def _refresh(self, p: Tensor) -> None:
        """The operand of the next product, from parameters that were set from outside the fused kernels."""
        from w2s_fast.train.kernels import unit

        if self.cosine:
            unit.normalise(p, w=self.unit, low=self.low)
        elif self.low is not None:
            self.low.copy_(p)

    def _padded(self, p: Tensor) -> Tensor:
        wide = -(-self.k // ALIGN) * ALIGN
        out = p.new_zeros(p.shape[0], wide, *p.shape[2:])
        out[:, : self.k] = p
        return out

    def _served(self, part: Slice) -> tuple[Kind, Tensor]:
        kind = _kind(part, self.k)
        assert kind is not None
        return kind, kind.numbers(part.loss, part.stop - part.start, device=self.stack.context.device)


def _kind(part: Slice, k: int) -> Kind | None:
    return kind_of(part.loss, k=-(-k // ALIGN) * ALIGN, teachers=part.supervisions[0].teachers)


def _table(hyperparameter: list[float] | Tensor) -> Tensor:
    assert isinstance(hyperparameter, Tensor)
    return hyperparameter


def make_fused(stack: Stack) -> Fused | None:
    """The fused form of a stack; None, with a line in the log, where torch has to do it."""
    reason = why_not_fused(stack)
    if reason is None:
        return Fused(stack)
    log.info("%d runs are left to torch: %s", len(stack), reason)
    return None
