"""Overlap density: the rows that a weak model is sure of and that lie near those it is not sure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from w2s_fast.core.errors import UsageError
from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.change_points import change_point
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.labels import weak_probs
from w2s_fast.supervisions.selection import Choosing, Selection, foremost


@dataclass(frozen=True, kw_only=True)
class ByOverlap(Selection):
    """The rows that carry an easy and a hard pattern at once: those that are sure, and near to rows that are not.

    Rows below the change point of the sorted confidences max w are hard only. Any other row's overlap is its largest
    cosine with a hard-only row, and the change point of these, or a share `keep` of all rows, says which are kept. A
    change point is the cut of a sorted sequence into two with the least sum of squares, each of two values at least.
    Differs from the published code in that every cut is tried (there each fifth), and that confidence, there |2 p - 1|
    of two classes, is max w, which cuts two classes in the same place. Data sources are not chosen by it.

    keep: the share of all rows; None leaves it to the change point.
    """

    keep: float | None = None

    limits: ClassVar[Limits] = {"keep": "(0, 1]"}
    source: ClassVar[str] = (
        "Shin et al. 2025, overlap density (arXiv 2412.03881); "
        "github.com/SprocketLab/datacentric_w2s, commit not at hand"
    )
    equation: ClassVar[str] = "rows with max w >= c_1 and max cos(x, x_hard) >= c_2, hard: max w < c_1"
    verified: ClassVar[bool] = True

    def chosen(self, context: Context) -> Choosing:
        yield from ()
        rows = context.split.train
        sure = weak_probs(context, rows).amax(-1).numpy()
        least = change_point(sure)
        hard = sure < least
        if not hard.any():
            raise UsageError(
                f"{context.task.data}: the weak model is equally sure of all {len(rows)} rows, so none is hard and "
                "none overlaps; take another rule: --supervision select_knn"
            )
        x = context.shared.features()[torch.from_numpy(rows)]
        _, near = neighbours(x[torch.from_numpy(hard)], x[torch.from_numpy(~hard)], k=1)
        overlap = np.full(len(rows), -np.inf)
        overlap[~hard] = near[:, 0].double().numpy()
        if self.keep is not None:
            kept = foremost(overlap, self.keep, None) & ~hard
        else:
            kept = overlap >= change_point(overlap[~hard])
        return kept, {
            "n_hard": int(hard.sum()),
            "confidence_from": float(least),
            "overlap_from": float(overlap[kept].min()),
        }
