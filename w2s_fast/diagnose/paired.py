"""Pairs of systems on the same test rows: McNemar's test, and Holm's correction over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from w2s_fast.core.statistics import mcnemar
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Pairs(Diagnostic):
    """Which students differ on the same test rows by more than chance?

    McNemar's exact test for every pair of students that were tested on the same rows; `holm` is its p adjusted over
    all pairs (Holm's step-down). It tells of these rows and this one seed; intervals over seeds are in `report`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "students"})
    source: ClassVar[str] = "McNemar 1947 (exact binomial); Holm 1979"

    def of(self, subject: Subject) -> Diagnosis:
        right = {name: (said.rows, said.labels == subject.truth(said.rows)) for name, said in subject.students.items()}
        found = [
            (a, b, *mcnemar(right[a][1].numpy(), right[b][1].numpy()))
            for a, b in combinations(right, 2)
            if np.array_equal(right[a][0], right[b][0])
        ]
        adjusted = holm([p for *_, p in found])
        rows: list[tuple[Value, ...]] = [
            (a, b, only_a, only_b, p, q) for (a, b, only_a, only_b, p), q in zip(found, adjusted, strict=True)
        ]
        return Diagnosis(
            name="pairs",
            title=f"McNemar's test over {len(rows)} pairs of students",
            columns=("a", "b", "only a right", "only b right", "p", "holm"),
            rows=tuple(rows),
            reads_truth=True,
            source=self.source,
        )


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the order given: the running maximum of (m - rank) p, at most 1."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p, float)[order]))
    out = np.empty(len(p))
    out[order] = steps
    return out.tolist()
