"""Runs under the closed form: linear heads on squared error, every weight decay from one eigendecomposition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from w2s_fast.heads.head import Features
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.full_batch.moments import Cross, Spectrum, Target, cross, spectrum
from w2s_fast.train.run import Setup
from w2s_fast.train.stack import Stack

SHARED = 8
"""Eigendecompositions that one call keeps for its stacks; runs come sorted by split, so that few are in use."""

_known: WeakKeyDictionary[Features, dict[tuple[int, str], Spectrum]] = WeakKeyDictionary()


class RidgeStack(Stack):
    """With u = W / tau_s and x, q the features (times x_scale) and weak probabilities, centred by their weighted means,
    u = 1/n q^T S x (1/n x^T S x + r)^-1 and r = weight_decay tau_s^2, S = diag(weight).

    The offset is what the means leave. Runs share the inner matrix's eigenvectors by split and weights.
    """

    _losses: Tensor | None = None
    _scores: Tensor | None = None

    def train_epoch(self, epoch: int) -> Tensor:
        """The optimum of every run, solved once; the mean training loss there, without weight decay, f[R]."""
        if self._losses is None:
            with torch.no_grad():
                self._losses = self._solve()
            self._scores = None
        return self._losses

    def evaluate(self, *, test: bool) -> Tensor:
        """As of any stack; of parameters that have not moved, what it was before."""
        if self._scores is None:
            self._scores = super().evaluate(test=test)
        return self._scores

    def keep(self, places: Sequence[int]) -> None:
        super().keep(places)
        self._scores = None
        if self._losses is not None:
            self._losses = self._losses[list(places)]

    def _solve(self) -> Tensor:
        context = self.context
        losses = torch.empty(len(self), dtype=torch.float64, device=context.device)
        groups: dict[tuple[int, str], list[int]] = {}
        for r, setup in enumerate(self.setups):
            rows = self._rows(setup)
            weight = self._weight(setup, rows)
            groups.setdefault((setup.run.split, "" if weight is None else _digest(weight)), []).append(r)
        for key, members in groups.items():
            rows = self._rows(self.setups[members[0]])
            weight = self._weight(self.setups[members[0]], rows)
            found = self._spectrum(key, rows, weight)
            kinds = dict.fromkeys((self.setups[r].run.supervision, self.setups[r].loss.tau_w) for r in members)
            targets = [_target(context.supervisions[number], float(tau)) for number, tau in kinds]
            sides = cross(self.x, rows, weight, found, targets, k=context.start.k)
            side_of = dict(zip(kinds, sides, strict=True))
            for r in members:
                setup = self.setups[r]
                losses[r] = self._place(r, found, side_of[setup.run.supervision, setup.loss.tau_w])
        return losses.to(context.dtype)

    def _place(self, r: int, found: Spectrum, side: Cross) -> Tensor:
        """Write run r's optimum; its mean loss."""
        setup = self.setups[r]
        assert setup.loss.tau_s is not None
        tau = float(setup.loss.tau_s)
        inverse = found.inverse(setup.run.weight_decay * tau**2)
        u = side.rotated * inverse
        plain = u @ found.vectors.T
        self.theta["weight"][r] = (plain * tau).to(self.context.dtype)
        self.theta["bias"][r] = ((side.mean - plain @ found.mean) * tau).to(self.context.dtype)
        return (side.spread - 2 * (u * side.rotated).sum() + (u.square() * found.values).sum()) / 2

    def _spectrum(self, key: tuple[int, str], rows: Tensor, weight: Tensor | None) -> Spectrum:
        known = _known.setdefault(self.x, {})
        if key not in known:
            while len(known) >= SHARED:
                del known[next(iter(known))]
            known[key] = spectrum(self.x, rows, weight)
        return known[key]

    def _rows(self, setup: Setup) -> Tensor:
        return self.x.as_stored(torch.as_tensor(self.context.splits[setup.run.split].train, device=self.context.device))

    def _weight(self, setup: Setup, rows: Tensor) -> Tensor | None:
        table = self.context.supervisions[setup.run.supervision].weight
        return None if table is None else table.index_select(0, rows).double()


def _target(supervision: Supervision, tau: float) -> Target:
    def of(rows: Tensor) -> Tensor:
        return torch.softmax(supervision.logits(rows).double() / tau, dim=-1)

    return of


def _digest(weight: Tensor) -> str:
    return hashlib.sha256(weight.cpu().numpy().tobytes()).hexdigest()
