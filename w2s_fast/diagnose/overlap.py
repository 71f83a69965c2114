"""Overlap density: rows that carry an easy and a hard pattern at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.diagnose.change_points import change_point
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value, rounded
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.diagnose.subject import Subject

KINDS = ("hard", "overlap", "easy")


@dataclass(frozen=True, kw_only=True)
class Overlap(Diagnostic):
    """How many rows are hard (the weak model is unsure), easy, or overlap: sure, and near in features to hard ones.

    A row is hard below the change point of the sorted confidences max w; any other row's overlap is its largest cosine
    with a hard row, and those above the change point of these are the overlap. Generalisation follows the density of
    the overlap, which is found without ground truth; with it, each part's weak error is beside it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weak"})
    source: ClassVar[str] = "Shin et al. 2025, overlap density (arXiv 2412.03881)"

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        truth = None if subject.labels is None else subject.labels[pool]
        x, rows = subject.features[pool], []
        for name, z in subject.weak.items():
            kinds, cuts = overlap(x, z[pool].double().softmax(-1).amax(-1))
            for at, kind in enumerate(KINDS):
                row: tuple[Value, ...] = (name, kind, int((kinds == at).sum()), float((kinds == at).double().mean()))
                if truth is not None:
                    chosen = (kinds == at) & (truth >= 0)
                    wrong = (z[pool].argmax(-1) != truth)[chosen].double()
                    row = (*row, rounded(wrong.mean()) if len(wrong) else None)
                rows.append((*row, cuts[min(at, 1)]))
        return Diagnosis(
            name="overlap",
            title="Overlap density of the weak labels",
            columns=("weak", "part", "rows", "share", *(() if truth is None else ("weak_error",)), "cut"),
            rows=tuple(rows),
            notes=(
                "cut: the confidence below which rows are hard; for overlap and easy, the cosine that divides them",
            ),
            reads_truth=truth is not None,
            source=self.source,
        )


def overlap(x: Tensor, sure: Tensor) -> tuple[Tensor, tuple[float | None, float | None]]:
    """0, 1 or 2 (hard, overlap, easy) per row of x f[n, d] with confidences f[n], and the two cuts."""
    kinds = torch.full((len(x),), 2)
    if len(x) < 4:
        return kinds, (None, None)
    least = change_point(sure.numpy())
    hard = sure < least
    kinds[hard] = 0
    rest = (~hard).nonzero()[:, 0]
    if not hard.any() or len(rest) < 4:
        return kinds, (least, None)
    near = neighbours(normalize(x[hard], dim=-1), x[rest], k=1)[1][:, 0].double().numpy()
    cut = change_point(np.asarray(near))
    kinds[rest[torch.from_numpy(near >= cut)]] = 1
    return kinds, (least, cut)
