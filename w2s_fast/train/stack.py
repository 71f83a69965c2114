"""A stack while it trains: parameters, optimiser state, slices; runs leave it when they end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.linear import Linear
from w2s_fast.heads.prototype import Prototype
from w2s_fast.train.context import EngineContext
from w2s_fast.train.evaluate import Scored, make_rows, score
from w2s_fast.train.gemm import single_precision
from w2s_fast.train.layout import Layout, lay_out
from w2s_fast.train.onepass import Job, predict_all
from w2s_fast.train.run import Setup
from w2s_fast.train.slices import Slice, loss_key, make_slices, split_memory
from w2s_fast.train.step import forward, shape_of


class Stack:
    """Runs of one head, batch size and solver, sorted by loss; position r of every tensor's lead is `setups[r]`."""

    def __init__(self, context: EngineContext, setups: Sequence[Setup]) -> None:
        rank: dict[object, int] = {}
        keys = [loss_key(s, context.supervisions[s.run.supervision]) for s in setups]
        places = sorted(range(len(setups)), key=lambda i: rank.setdefault(keys[i], len(rank)))
        self.context = context
        self.setups = [setups[i] for i in places]
        self.head = self.setups[0].head
        self.x = context.shaped[shape_of(self.head)]
        self.theta = self._start()
        self.moving = tuple(name for name in self.theta if name not in self.head.fixed())
        slots = self.setups[0].solver.slots
        self.state = {name: {slot: torch.zeros_like(self.theta[name]) for slot in slots} for name in self.moving}
        self._arrange(None)

    @property
    def kernels(self) -> str:
        """What its steps are made of: `triton` or `torch`."""
        return "torch" if self.fused is None else "triton"

    def __len__(self) -> int:
        return len(self.setups)

    def train_epoch(self, epoch: int) -> Tensor:
        """One training epoch, counted from 0, of every run; the mean training loss f[R]."""
        with torch.no_grad(), single_precision(self.context.precision, self.context.device):
            size = self.setups[0].run.batch_size
            rows = [self.context.splits[s.run.split].train for s in self.setups]
            layout = lay_out(
                self.setups,
                rows,
                epoch,
                dtype=self.context.dtype,
                device=self.context.device,
                order=self.x.order,
                on_device=self.fused is not None,
            )
            if self.fused is not None:
                return self.fused.train_epoch(layout)
            total = torch.zeros(len(self), dtype=self.context.dtype, device=self.context.device)
            for step, (part, x) in enumerate(self.x.batches(layout.rows, size)):
                valid = None
                if layout.valid is not None and not layout.whole[step]:
                    valid = layout.valid[:, step * size : step * size + part.shape[-1]]
                total += self._step(layout, step, part, x, valid)
            return total / layout.n

    def _step(self, layout: Layout, step: int, rows: Tensor, x: Tensor, valid: Tensor | None) -> Tensor:
        inverse = layout.inverse[step]
        z, back = forward(self.head, self.theta, x, len(self))
        cache: dict[object, Tensor] = {}
        values: list[Tensor] = []
        slopes: list[Tensor] = []
        later: list[tuple[Slice, dict[str, Tensor], Tensor, object]] = []
        for part in self.slices:
            own = z if len(self.slices) == 1 else z[part.start : part.stop]
            batch = part.batch(rows, valid, layout.t[step], cache)
            value, dz, grads = part.value_and_dz(own, batch, inverse)
            values.append(value)
            slopes.append(dz)
            if part.steps:
                later.append((part, grads, own, batch))
        dz = slopes[0] if len(slopes) == 1 else torch.cat(slopes)
        grads_of = back(dz * (inverse.view(-1, 1, 1) if isinstance(inverse, Tensor) else inverse))
        active = layout.active[step] if layout.active is not None and layout.idle[step] else None
        numbers = layout.numbers(step)
        solver = self.setups[0].solver
        for name in self.moving:
            p = self.theta[name]
            kept = {**numbers, **solver.undecayed} if name in self.head.undecayed else numbers
            solver.update(p, grads_of[name], self.state[name], kept, active)
        for part, grads, own, batch in later:
            _step_memory(part, grads, own, batch, active)
        value = values[0] if len(values) == 1 else torch.cat(values)
        return value.sum(dim=-1)

    def evaluate(self, *, test: bool) -> Tensor:
        """Agreement and accuracy on val, then on test (NaN unless asked for), f64[R, 4]."""
        with torch.no_grad(), single_precision(self.context.precision, self.context.device):
            table = torch.full((len(self), 4), torch.nan, dtype=torch.float64, device=self.context.device)
            asked = [(part, 0) for part in self.scored] + [(part, 2) for part in self.scored if test]
            jobs = (Job(part=part, test=at > 0, theta=self._theta_of(part.runs)) for part, at in asked)
            for (part, at), found in zip(asked, predict_all(self.x, self.head, jobs), strict=True):
                table[list(part.runs), at : at + 2] = score(found, part.test if at else part.val)
            return table

    def predicted(self, held: Sequence[tuple[int, Theta]]) -> list[Tensor]:
        """Class numbers i32[n_test] of the test rows for each run `r` and its parameters without lead."""
        asked: list[tuple[Scored, list[int]]] = []
        for part in self.scored:
            mine = [place for place, (r, _) in enumerate(held) if r in part.runs]
            asked += [(part, mine[at : at + len(part.runs)]) for at in range(0, len(mine), len(part.runs))]
        found: dict[int, Tensor] = {}
        with torch.no_grad(), single_precision(self.context.precision, self.context.device):
            jobs = (
                Job(
                    part=part,
                    test=True,
                    theta={name: torch.stack([held[p][1][name] for p in places]) for name in self.theta},
                )
                for part, places in asked
            )
            for (_, places), classes in zip(asked, predict_all(self.x, self.head, jobs), strict=True):
                found.update(zip(places, classes.to(torch.int32), strict=True))
        return [found[place] for place in range(len(held))]

    def _theta_of(self, runs: Sequence[int]) -> Theta:
        return self.theta if len(runs) == len(self) else {name: p[list(runs)] for name, p in self.theta.items()}

    def finite(self) -> Tensor:
        """bool[R]: whether every parameter of a run is finite."""
        oks = [p.isfinite().flatten(1).all(dim=1) for p in self.theta.values() if p.is_floating_point()]
        return torch.stack(oks).all(dim=0)

    def theta_of(self, r: int) -> Theta:
        """A copy of one run's parameters, without lead."""
        return {name: p[r].detach().clone() for name, p in self.theta.items()}

    def learned(self, r: int) -> dict[str, NDArray[np.float64]]:
        """What one run's loss has learned beside the head."""
        part = next(s for s in self.slices if s.start <= r < s.stop)
        return {name: part.memory[name][r - part.start].detach().double().cpu().numpy() for name in part.learns}

    def keep(self, places: Sequence[int]) -> None:
        """Let all runs but those at `places` (ascending) leave."""
        memories = split_memory(self.slices)
        index = torch.tensor(list(places), dtype=torch.int64, device=self.context.device)
        self.setups = [self.setups[r] for r in places]
        self.theta = {name: p.index_select(0, index) for name, p in self.theta.items()}
        self.state = {
            name: {slot: t.index_select(0, index) for slot, t in slots.items()} for name, slots in self.state.items()
        }
        if places:
            self._arrange([memories[r] for r in places])

    def _start(self) -> Theta:
        context = self.context
        ours = type(self.head) in (Linear, Prototype)
        # runs of one seed start alike; another head may read anything of a run
        keys = [
            (str(s.head.spec()), s.run.seed, s.run.split, s.run.supervision) if ours else s.index for s in self.setups
        ]
        distinct = dict(zip(keys, self.setups, strict=True))
        if ours and context.device.type == "cuda" and len(distinct) > 1:
            # drawn on the host, where one run's start takes longer than its training on a large GPU
            with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1, len(distinct)))) as pool:
                drawn = dict(zip(distinct, pool.map(self._drawn, distinct.values()), strict=True))
        else:
            drawn = {key: self._drawn(s) for key, s in distinct.items()}
        found = {name: torch.stack([drawn[key][name] for key in keys]) for name in drawn[keys[0]]}
        for name, p in found.items():
            # one question to the device for all runs
            bad = (~p.isfinite()).flatten(1).any(dim=1).nonzero()
            if len(bad):
                at = self.setups[int(bad[0])].index
                raise TrainError(f"run {at}: {name} of its head is not finite at the start; check the text features")
        return found

    def _drawn(self, s: Setup) -> Theta:
        context = self.context
        rows = context.raw.as_stored(torch.as_tensor(context.splits[s.run.split].train, device=context.device))
        theta = s.head.init(
            context.start,
            seed=s.run.seed,
            x=context.raw,
            rows=rows,
            supervision=context.supervisions[s.run.supervision],
        )
        return {name: p.detach().to(device=context.device, dtype=context.dtype) for name, p in theta.items()}

    def _arrange(self, memories: Sequence[dict[str, Tensor]] | None) -> None:
        context = self.context
        theirs = [context.supervisions[s.run.supervision] for s in self.setups]
        self.slices = make_slices(
            self.setups,
            theirs,
            k=context.start.k,
            dtype=context.dtype,
            device=context.device,
            tables=context.tables,
            compiler=context.compiler,
            memories=memories,
        )
        groups: dict[int, list[int]] = {}
        for r, s in enumerate(self.setups):
            groups.setdefault(s.run.split, []).append(r)
        self.scored: list[Scored] = []
        # features of rows to be scored are kept while there is room, and gathered in every epoch beyond
        room = context.tables.most
        for split, runs in groups.items():
            rows = context.splits[split]
            val, test = (
                make_rows(self.x, part, truth=context.truth, supervisions=[theirs[r] for r in runs], k=context.start.k)
                for part in (rows.val, rows.test)
            )
            size = (len(rows.val) + len(rows.test)) * self.x.d * context.precision.operand.itemsize
            room -= size
            kept = (val.parts(), test.parts()) if room >= 0 else (None, None)
            self.scored.append(Scored(runs=tuple(runs), val=val, test=test, kept=kept))
        self.fused = context.fuse(self)


def _step_memory(part: Slice, grads: dict[str, Tensor], z: Tensor, batch: object, active: Tensor | None) -> None:
    memory = part.memory
    before = {name: t.detach().clone() for name, t in memory.items()} if active is not None else {}
    part.loss.step(memory, grads, z, batch)  # type: ignore[arg-type]
    if active is None:
        return
    moves = active[part.start : part.stop] > 0
    for name, old in before.items():
        wide = moves.view(-1, *[1] * (old.ndim - 1))
        memory[name].copy_(torch.where(wide, memory[name], old))
