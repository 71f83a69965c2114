"""One epoch of a stack, laid out on the host before it runs: rows, padding, and every step's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.train.order import Order, shuffled
from w2s_fast.train.run import Setup
from w2s_fast.train.solver import Hyperparameter
from w2s_fast.train.sorted_order import shuffled_on


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """rows i[n] where all runs share their batches, else i[R, n] padded with a valid row number.

    valid: bool[R, n], None if nothing is padded; whole[S]: no padding in that step. t: f[S, R, 1, 1]. inverse: 1 / B of
    the run's own rows B in a batch. active: f[S, R], None if no run idles in the epoch's tail; idle[S]: some run does.
    hyperparameters: the solver's numbers per step. n: train rows f[R].
    """

    rows: Tensor
    valid: Tensor | None
    steps: int
    t: Tensor
    whole: NDArray[np.bool_]
    inverse: list[float] | Tensor
    active: Tensor | None
    idle: NDArray[np.bool_]
    hyperparameters: dict[str, list[float] | Tensor]
    n: Tensor

    def numbers(self, step: int) -> dict[str, Hyperparameter]:
        """The solver's numbers of a step."""
        return {name: hyperparameter[step] for name, hyperparameter in self.hyperparameters.items()}


def lay_out(
    setups: Sequence[Setup],
    train_rows: Sequence[NDArray[np.int64]],
    epoch: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    order: Order = shuffled,
    on_device: bool = False,
    sort_there: bool = False,
) -> Layout:
    """Training epoch `epoch`, counted from 0, of runs that all have an epoch left; `train_rows` per run.

    on_device: every step's numbers are tensors, also where all runs share them. sort_there: orders are sorted on the
    device also where that is a CPU, which is slower.
    """
    first = setups[0]
    size = first.run.batch_size
    n = np.array([len(rows) for rows in train_rows])
    per_epoch = -(-n // size)
    steps = int(per_epoch.max())
    shared = all(s.run.split == first.run.split and s.run.seed == first.run.seed for s in setups)
    if shared:
        rows = torch.as_tensor(order(train_rows[0], first.run.seed, epoch)).to(device)
    elif order is shuffled and (device.type != "cpu" or sort_there):
        rows = shuffled_on(device, train_rows, [s.run.seed for s in setups], epoch)
    else:
        rows = torch.as_tensor(_padded(setups, train_rows, order, epoch)).to(device)

    step = np.arange(steps)[:, None]
    own = np.clip(n - step * size, 0, size)
    active = own > 0
    widths = np.clip(int(n.max()) - step * size, 0, size)
    done = epoch * per_epoch
    number = np.where(active, done + step, np.maximum(done + per_epoch - 1, 0))
    totals = np.array([s.steps for s in setups])
    lr = np.stack([s.lr * s.schedule.factor(number[:, r], int(totals[r])) for r, s in enumerate(setups)], axis=1)
    decay = np.array([s.run.weight_decay for s in setups], np.float64)
    tables = first.solver.hyperparameters(np.where(active, lr, 0.0), number + 1.0, decay)

    def up(table: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(np.array(table, order="C")).to(device=device, dtype=dtype)

    def hyperparameter(table: NDArray[np.float64]) -> list[float] | Tensor:
        same = bool((table == table[:, :1]).all())
        return table[:, 0].tolist() if same and not on_device else up(table)

    padded = bool((n != n[0]).any())
    return Layout(
        rows=rows,
        valid=torch.as_tensor(np.arange(int(n.max())) < n[:, None]).to(device) if padded else None,
        steps=steps,
        t=up(number / totals).view(steps, len(setups), 1, 1),
        whole=np.asarray((own == widths).all(axis=1)),
        inverse=hyperparameter(1.0 / np.maximum(own, 1)),
        active=None if bool(active.all()) else up(active.astype(np.float64)),
        idle=np.asarray((own == 0).any(axis=1)),
        hyperparameters={name: hyperparameter(table) for name, table in tables.items()},
        n=up(n.astype(np.float64)),
    )


def _padded(
    setups: Sequence[Setup], train_rows: Sequence[NDArray[np.int64]], order: Order, epoch: int
) -> NDArray[np.int64]:
    rows = np.empty((len(setups), max(map(len, train_rows))), np.int64)
    for r, (setup, own) in enumerate(zip(setups, train_rows, strict=True)):
        rows[r, : len(own)] = order(own, setup.run.seed, epoch)
        # a row of its last batch, which a streamed table still holds
        rows[r, len(own) :] = rows[r, len(own) - 1]
    return rows
