"""Several weak models: one table of their mixture for any loss, or all of them for losses that read several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.supervision import TINY
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import share_right
from w2s_fast.supervisions.strategy import Strategy

CHUNK = 8192
"""Rows mixed at a time."""


@dataclass(frozen=True, kw_only=True)
class Ensemble(Strategy):
    """One teacher made of all weak models of the task (weak seeds and --teachers): the mixture of their probabilities.

    mode: `uniform`, or `entropy`, where a model's weight on a row is the inverse of the entropy that it has there.

    The published code can also take the inverse of a model's mean entropy for all rows; this is its way row by row.
    """

    mode: str = "uniform"

    limits: ClassVar[Limits] = {"mode": ("uniform", "entropy")}
    source: ClassVar[str] = (
        "Jeon et al. 2025 (arXiv 2510.21332), its ensembles; github.com/mlbio-epfl/raven, commit not at hand"
    )
    equation: ClassVar[str] = "w = sum_m v_m w_m, v_m = 1 / M, or v_m ~ 1 / (H(w_m) + 1e-8) of each row"
    verified: ClassVar[bool] = True
    teachers: ClassVar[int] = 2

    def requests(self, context: Context) -> FitRequests:
        shared, named = context.shared, context.shared.teachers()

        def mix() -> tuple[Any, Tensor]:
            p, weights = mixture(list(named.values()), mode=self.mode)
            return shared.supervision(p.clamp_min(TINY).log()), weights

        made, weights = shared.once(("ensemble", self.mode), mix)
        request = FitRequest(supervision=made)
        (fit,) = yield [request]
        rows = context.split.train
        told = _told(context, named, weights[torch.from_numpy(rows)].mean(0))
        return Student(
            fit=fit, request=request, details=({**told, "acc_mixture": share_right(context, made.weak, rows)},)
        )


@dataclass(frozen=True, kw_only=True)
class Teachers(Strategy):
    """All weak models of the task at once, for losses that read several teachers: raven and edl."""

    source: ClassVar[str] = "Cui et al. 2025 (arXiv 2406.03199); Jeon et al. 2025 (arXiv 2510.21332)"
    equation: ClassVar[str] = "w_m = softmax(z_m / tau_w), m = 1..M"
    verified: ClassVar[bool] = True
    teachers: ClassVar[int] = 2
    several: ClassVar[bool] = True

    def requests(self, context: Context) -> FitRequests:
        shared, named = context.shared, context.shared.teachers()
        made = shared.once("teachers", lambda: shared.supervision(torch.stack(list(named.values()), dim=1)))
        request = FitRequest(supervision=made)
        (fit,) = yield [request]
        learned = fit.learned.get("v")
        weights = None if learned is None else torch.from_numpy(learned)
        return Student(fit=fit, request=request, details=(_told(context, named, weights),))


def mixture(tables: Sequence[Tensor], *, mode: str) -> tuple[Tensor, Tensor]:
    """The mixed probabilities f[n, k] of M tables of logits f[n, k], and the weights f[n, M] of their rows."""
    mixed: list[Tensor] = []
    weights: list[Tensor] = []
    for parts in zip(*(table.split(CHUNK) for table in tables), strict=True):
        # an entropy near zero is a difference that single precision would lose
        logp = torch.stack([part.double().log_softmax(-1) for part in parts], dim=1)
        p = logp.exp()
        v = 1 / ((-p * logp).sum(-1) + 1e-8) if mode == "entropy" else torch.ones(p.shape[:2], dtype=p.dtype)
        v = v / v.sum(dim=1, keepdim=True)
        mixed.append((v.unsqueeze(-1) * p).sum(dim=1).float())
        weights.append(v.float())
    return torch.cat(mixed), torch.cat(weights)


def _told(context: Context, named: dict[str, Tensor], weights: Tensor | None) -> dict[str, Any]:
    """What is logged of teachers: who, with which weight, how often right on hold-train."""
    return {
        "teachers": list(named),
        "weights": None if weights is None else [float(v) for v in weights],
        "acc_teachers": [share_right(context, table, context.split.train) for table in named.values()],
    }
