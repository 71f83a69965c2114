"""Two stages against overfitting: first the consistent labels, then the others, relabelled by the first student."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.supervisions.labels import hardened, share_right, weak_log_probs, weak_probs
from w2s_fast.supervisions.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class TwoStage(Strategy):
    """Stage A trains on the most consistent weak labels; stage B on all rows, the others relabelled by stage A.

    keep: share of hold-train whose labels are kept.
    by: what consistent means: `confidence`, max p_w; `knn`, the mean weak probability of the row's weak label among its
    k nearest strong features; `agreement`, how many teachers name the weak label, the more confident first among equals
    (needs several: --teachers).
    k: neighbours that `knn` asks.
    hard: whether stage A gives its argmax instead of its probabilities.

    Stage B is a fresh student. Rows outside hold-train keep their weak labels. The source judges consistency by
    repeated answers of a language model; its reading for logits is made here.
    """

    keep: float = 0.5
    by: str = "confidence"
    k: int = 20
    hard: bool = False

    limits: ClassVar[Limits] = {"keep": "(0, 1]", "by": ("confidence", "knn", "agreement"), "k": "[1, inf)"}
    source: ClassVar[str] = "Shi et al. 2025, two-stage training against overfitting weak labels (arXiv 2503.04249)"
    equation: ClassVar[str] = "A: rows with the largest consistency, w = p_w; B: w = p_w on those, p_A on the others"
    verified: ClassVar[bool] = False

    @property
    def stages(self) -> int:
        return 2

    @property
    def teachers(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2 if self.by == "agreement" else 1

    def requests(self, context: Context) -> FitRequests:
        train = context.split.train
        kept = most_consistent(self.consistency(context), train, self.keep)
        rows, rest = context.kept(kept), context.kept(~kept)
        key = ("two_stage", self.keep, self.by, self.k, context.weak_seed)
        (first,) = yield [FitRequest(supervision=context.weak, train=rows, scored=False, key=key)]
        said = context.shared.log_probs(first)
        table = weak_log_probs(context).clone()
        at = torch.from_numpy(rest)
        table[at] = (hardened(said[at]) if self.hard else said[at]).to(table.dtype)
        request = FitRequest(supervision=context.shared.supervision(table))
        (student,) = yield [request]
        weak = context.weak.weak
        details = (
            {"stage": "A", "keep_rate": len(rows) / len(train), "precision_kept": share_right(context, weak, rows)},
            {
                "stage": "B",
                "acc_discarded": share_right(context, weak, rest),
                "acc_relabelled": share_right(context, table, rest),
            },
        )
        return Student(fit=student, request=request, details=details)

    def consistency(self, context: Context) -> Tensor:
        """How far each row's weak label is to be trusted, f64[N]; 0 outside hold-train."""
        rows = context.split.train
        at = torch.from_numpy(rows)
        p = weak_probs(context, rows)
        sure, label = p.max(dim=-1)
        if self.by == "knn":
            near, _ = neighbours(context.shared.features()[at], k=min(self.k, len(rows) - 1))
            sure = p[near, label.unsqueeze(1)].mean(dim=1)
        elif self.by == "agreement":
            named = [logits[at].argmax(-1) == label for logits in context.shared.teachers().values()]
            # a share of teachers outweighs any confidence, which is at most 1
            sure = torch.stack(named).double().sum(dim=0) * 2 + sure
        found = torch.zeros(len(context.task.ids), dtype=torch.float64)
        found[at] = sure
        return found


def most_consistent(score: Tensor, rows: Rows, keep: float) -> NDArray[np.bool_]:
    """bool[N], true for the ceil(keep n) of n rows with the largest score f[N]; of equals the earlier rows."""
    order = np.argsort(-score.numpy()[rows], kind="stable")
    found = np.zeros(len(score), np.bool_)
    found[rows[order[: math.ceil(keep * len(rows) - 1e-9)]]] = True
    return found
