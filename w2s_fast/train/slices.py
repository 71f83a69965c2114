"""The part of a stack that one loss object serves, with what it sees of the supervision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.losses.loss import Loss, Real, slice_key, stack
from w2s_fast.losses.supervision import Batch, Supervision
from w2s_fast.train.batch import Gathered, Tables, Whole
from w2s_fast.train.compiled import Compiler, Step
from w2s_fast.train.run import Setup


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Runs `start` to `stop` of a stack: one loss, one supervision each, their memory."""

    start: int
    stop: int
    loss: Loss
    run: Step
    label: str
    supervisions: tuple[Supervision, ...]
    memory: dict[str, Tensor]
    tables: Tables
    columns: dict[Any, Any]
    w_gt: Real
    tau_gt: Real
    has_gt: bool

    @property
    def learns(self) -> list[str]:
        """Names of memory tensors that are learned."""
        return [name for name, tensor in self.memory.items() if tensor.requires_grad]

    @property
    def joins(self) -> bool:
        """Whether the tables of its runs that a kernel reads can be one; from then on they are."""
        read: dict[str, Whole] = {"weak": lambda s: s.weak, "labels": lambda s: s.labels}
        if len({id(s) for s in self.supervisions}) == 1:
            return True
        for name in ("weak", "labels") if self.has_gt else ("weak",):
            if self.columns.get(name) is None:
                self.columns[name] = self.tables.joined(name, self.supervisions, read[name])
        return all(self.columns[name] is not None for name in (("weak", "labels") if self.has_gt else ("weak",)))

    @property
    def steps(self) -> bool:
        return bool(self.memory) or type(self.loss).step is not Loss.step

    def batch(self, rows: Tensor, valid: Tensor | None, t: Tensor, cache: dict[Any, Tensor]) -> Gathered:
        """This slice's batch for row numbers i[b] (shared) or i[R, b] of the whole stack."""
        return Gathered(
            supervisions=self.supervisions,
            tables=self.tables,
            columns=self.columns,
            rows=rows if rows.ndim == 1 else rows[self.start : self.stop],
            valid=None if valid is None else valid[self.start : self.stop],
            t=t[self.start : self.stop],
            memory=self.memory,
            cache=cache,
            labelled=self.has_gt or "labels" in self.loss.needs,
        )

    def factor(self, batch: Batch, dtype: torch.dtype) -> Tensor | None:
        """valid * weight f[R, b], None where that is 1."""
        if batch.valid is None:
            return batch.weight
        valid = batch.valid.to(dtype)
        return valid if batch.weight is None else batch.weight * valid

    def value_and_dz(self, z: Tensor, batch: Batch, inverse: PerRun) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """valid * weight * value f[R, b], its gradient by z f[R, b, k] (not yet / B), and memory's gradients (/ B)."""
        factor = self.factor(batch, z.dtype)
        learned = self.learns
        grads: dict[str, Tensor] = {}
        if learned:
            value, dz, grads = self._learning(z, batch, factor, learned, inverse)
        else:
            value, dz = self.run(z, batch)
        if value.shape != z.shape[:-1] or dz.shape != z.shape:
            raise TrainError(
                f"loss {self.label}: value of shape {tuple(value.shape)} for logits {tuple(z.shape)}; "
                "return one value per sample, unreduced"
            )
        if self.has_gt:
            extra, more = self._ground_truth(z, batch)
            value, dz = value + extra, dz + (more if factor is None or not learned else more * factor.unsqueeze(-1))
        if factor is not None:
            value = value * factor
            if not learned:
                dz = dz * factor.unsqueeze(-1)
        return value, dz, grads

    def _learning(
        self, z: Tensor, batch: Batch, factor: Tensor | None, learned: Sequence[str], inverse: PerRun
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            value = self.loss.value(leaf, batch)
            total = (value if factor is None else value * factor).sum()
            wanted = [leaf, *(self.memory[name] for name in learned)]
            dz, *rest = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        part = inverse[self.start : self.stop] if isinstance(inverse, Tensor) else inverse
        grads = {
            name: g * (part.view(-1, *[1] * (g.ndim - 1)) if isinstance(part, Tensor) else part)
            for name, g in zip(learned, rest, strict=True)
        }
        return value.detach(), dz, grads

    def _ground_truth(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        labels = batch.labels
        assert labels is not None
        known = (labels >= 0).to(z.dtype)
        index = labels.clamp_min(0).unsqueeze(-1)
        logp = torch.log_softmax(z / self.tau_gt, dim=-1)
        share = known.unsqueeze(-1) * self.w_gt
        value = -logp.gather(-1, index) * share
        hot = torch.zeros_like(z).scatter_(-1, index, 1.0)
        return value.squeeze(-1), (logp.exp() - hot) * (share / self.tau_gt)


PerRun = float | Tensor


def make_slices(
    setups: Sequence[Setup],
    supervisions: Sequence[Supervision],
    *,
    k: int,
    dtype: torch.dtype,
    device: torch.device,
    tables: Tables,
    compiler: Compiler,
    memories: Sequence[dict[str, Tensor]] | None = None,
) -> list[Slice]:
    """Slices of runs sorted by `loss_key`; `memories` per run continues those of a stack that runs have left."""
    slices: list[Slice] = []
    start = 0
    while start < len(setups):
        stop = start + 1
        key = loss_key(setups[start], supervisions[start])
        while stop < len(setups) and loss_key(setups[stop], supervisions[stop]) == key:
            stop += 1
        members, theirs = setups[start:stop], supervisions[start:stop]
        loss = merged([s.loss for s in members], dtype=dtype, device=device)
        if memories is None:
            memory = loss.memory((len(members),), k, theirs[0].teachers, dtype=dtype, device=device)
        else:
            memory = _joined(memories[start:stop])
        weights = [s.run.w_gt for s in members]
        slices.append(
            Slice(
                start=start,
                stop=stop,
                loss=loss,
                run=compiler.of(loss),
                label=members[0].label,
                supervisions=tuple(theirs),
                memory=memory,
                tables=tables,
                columns={},
                w_gt=torch.tensor(weights, dtype=dtype, device=device).view(-1, 1, 1),
                tau_gt=torch.tensor([s.head.tau_s for s in members], dtype=dtype, device=device).view(-1, 1, 1),
                has_gt=any(w > 0 for w in weights),
            )
        )
        start = stop
    return slices


def loss_key(setup: Setup, supervision: Supervision) -> tuple[Any, ...]:
    """Runs of one slice have the same loss but for its numbers, and the same kinds of supervision tables."""
    kinds = (
        supervision.teachers,
        supervision.weak.ndim,
        *(getattr(supervision, f) is None for f in ("pick", "weight", "prior", "labels")),
    )
    return (slice_key(setup.loss), kinds, setup.run.w_gt > 0)


def merged(losses: Sequence[Loss], *, dtype: torch.dtype, device: torch.device) -> Loss:
    """The loss itself where all are equal (its numbers stay floats, which are cheaper), else their stack."""
    first = losses[0]
    values = [[getattr(loss, f.name) for f in fields(first)] for loss in losses]
    return first if all(v == values[0] for v in values) else stack(losses, dtype=dtype, device=device)


def split_memory(slices: Sequence[Slice]) -> list[dict[str, Tensor]]:
    """Memory per run, in the order of the stack."""
    return [{name: t[r] for name, t in s.memory.items()} for s in slices for r in range(s.stop - s.start)]


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: torch.stack([p[name].detach() for p in parts]).requires_grad_(tensor.requires_grad)
        for name, tensor in parts[0].items()
    }
