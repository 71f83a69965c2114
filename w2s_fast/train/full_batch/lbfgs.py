"""A run under L-BFGS: any loss on any head, all train rows, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.losses.supervision import Batch
from w2s_fast.train.evaluate import MOST_LOGITS
from w2s_fast.train.features import Resident
from w2s_fast.train.gemm import single_precision
from w2s_fast.train.solver import Lbfgs
from w2s_fast.train.stack import Stack
from w2s_fast.train.step import forward

SCALE = 2.0**20
"""torch keeps curvature only where it exceeds 1e-10, which a mean loss falls below long before its optimum."""


def chunk_rows(*, k: int, d: int) -> int:
    """Rows whose logits and features a pass holds at a time."""
    return max(256, MOST_LOGITS // max(k, d))


class _OutOfBounds(Exception):
    pass


class LbfgsStack(Stack):
    """One run. A batch is all train rows: statistics of a batch (aux_conf, balanced) are theirs.

    t, by which losses warm up, is the part of epochs done, and stands still within an epoch. Losses that aim at the
    student's own predictions hold their targets while they differentiate, so their value is not an integral of the
    gradient; the line search then takes the shorter steps that it can find. In single precision the objective comes
    within about 1e-6 of its optimum, under `bf16` the search ends at the noise of the products.
    """

    _parts: list[tuple[Tensor, Tensor, dict[Any, Tensor]]] | None = None
    _optimiser: torch.optim.LBFGS | None = None
    _reached: float = math.nan
    _scores: Tensor | None = None

    def train_epoch(self, epoch: int) -> Tensor:
        """At most `iterations` of L-BFGS; the mean training loss f[1] where it ends."""
        setup, context = self.setups[0], self.context
        solver = setup.solver
        assert isinstance(solver, Lbfgs)
        t = torch.full((1, 1, 1), epoch / setup.run.epochs, dtype=context.dtype, device=context.device)
        objective, mean, slope = self._measure(t)
        steepest = max((float(g.abs().max()) for g in slope.values()), default=0.0)
        if not math.isfinite(objective + steepest):
            mean = math.nan
        elif steepest > solver.tolerance:
            if objective != self._reached:
                self._optimiser = None  # a loss that warms up is another function now, with other curvature
            self._scores = None
            within = self._minimise(solver, t)
            self._reached, mean, _ = self._measure(t) if within else (math.nan, math.nan, {})
        return torch.full((1,), mean, dtype=context.dtype, device=context.device)

    def evaluate(self, *, test: bool) -> Tensor:
        """As of any stack; of parameters that have not moved, what it was before."""
        if self._scores is None:
            self._scores = super().evaluate(test=test)
        return self._scores

    def _minimise(self, solver: Lbfgs, t: Tensor) -> bool:
        """Move the parameters; False where the objective leaves all bounds, with the parameters somewhere there."""
        leaves = {name: self.theta[name].detach() for name in self.moving}
        optimiser = torch.optim.LBFGS(
            list(leaves.values()),
            max_iter=solver.iterations,
            max_eval=2 * solver.iterations,
            tolerance_grad=solver.tolerance,
            # near an optimum a gain is of the order of the gradient's square
            tolerance_change=solver.tolerance**2,
            history_size=solver.history,
            line_search_fn="strong_wolfe",
        )

        # the line search knows no infinity: it would go on with NaN, or step further than the type can hold
        bound = torch.finfo(self.context.dtype).max ** 0.5

        def closure() -> float:
            objective, _, slope = self._measure(t)
            if not abs(objective) < bound:
                raise _OutOfBounds
            for name, leaf in leaves.items():
                leaf.grad = slope[name].mul_(SCALE)
            return objective * SCALE

        try:
            optimiser.step(closure)
        except _OutOfBounds:
            return False
        return True

    @torch.no_grad()
    def _measure(self, t: Tensor) -> tuple[float, float, Theta]:
        """Mean loss with weight decay, without it, and the gradient of the first."""
        run, inverse = self.setups[0].run, 1 / self.setups[0].n_train
        total = torch.zeros((), dtype=torch.float64, device=self.context.device)
        slope = {name: torch.zeros_like(self.theta[name]) for name in self.moving}
        with single_precision(self.context.precision, self.context.device):
            for x, batch in self._chunks(t):
                z, back = forward(self.head, self.theta, x, 1)
                value, dz, _ = self.slices[0].value_and_dz(z, batch, inverse)
                total += value.sum(dtype=torch.float64)
                for name, g in back(dz * inverse).items():
                    slope[name] += g
        mean = total * inverse
        objective = mean.clone()
        for name in self.moving:
            p = self.theta[name]
            if run.weight_decay and name not in self.head.undecayed:
                objective += run.weight_decay / 2 * p.square().sum(dtype=torch.float64)
                slope[name].add_(p, alpha=run.weight_decay)
        both = torch.stack([objective, mean]).tolist()
        return both[0], both[1], slope

    def _chunks(self, t: Tensor) -> Iterator[tuple[Tensor, Batch]]:
        """Features and supervision of the train rows; resident ones are gathered once."""
        part = self.slices[0]
        if self._parts is not None:
            for rows, x, cache in self._parts:
                yield x, part.batch(rows, None, t, cache)
            return
        start = self.context.start
        rows = torch.as_tensor(self.context.splits[self.setups[0].run.split].train, device=self.context.device)
        found: list[tuple[Tensor, Tensor, dict[Any, Tensor]]] = []
        for chunk, x in self.x.batches(self.x.as_stored(rows), chunk_rows(k=start.k, d=start.d)):
            cache: dict[Any, Tensor] = {}
            if isinstance(self.x, Resident):
                found.append((chunk, x, cache))
            yield x, part.batch(chunk, None, t, cache)
        self._parts = found or None
