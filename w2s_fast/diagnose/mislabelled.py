"""Rows whose given label their surroundings contradict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.confident_joint import neighbour_probs
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Mislabelled(Diagnostic):
    """Which given labels do the labels of their neighbours contradict?

    k: neighbours, by cosine among all rows. A row is named if more than half of the neighbours that have a label carry
    one other label, and less than `share` carry its own. Those with the widest margin come first.
    """

    k: int = 10
    share: float = 0.2

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    limits: ClassVar[Limits] = {"k": "[1, inf)", "share": "(0, 1]"}
    source: ClassVar[str] = "Wilson 1972, edited nearest neighbours; margins: Northcutt et al. 2021 (arXiv 1911.00068)"

    def of(self, subject: Subject) -> Diagnosis:
        near, _ = subject.near(self.k)
        given = subject.truth(np.arange(len(subject)))
        probs = neighbour_probs(given, near, len(subject.classes)).numpy()
        known = (given >= 0).numpy()
        likely = probs.argmax(axis=1)
        own = probs[np.arange(len(given)), given.clamp_min(0).numpy()]
        named = known & (probs.max(axis=1) > 0.5) & (likely != given.numpy()) & (own < self.share)
        at = np.flatnonzero(named)
        at = at[np.argsort(own[at] - probs[at, likely[at]], kind="stable")]
        part = subject.part_of()
        rows: tuple[tuple[Value, ...], ...] = tuple(
            (
                subject.ids[i],
                part[i],
                subject.classes[int(given[i])],
                subject.classes[likely[i]],
                float(own[i]),
                float(probs[i, likely[i]]),
            )
            for i in at.tolist()
        )
        return Diagnosis(
            name="mislabelled",
            title=f"Given labels that neighbours contradict: {len(rows)} of {int(known.sum())} rows",
            columns=("id", "part", "given", "likely", "own", "other"),
            rows=rows,
            notes=(
                f"own, other: shares of the {near.shape[1]} nearest rows that carry the given and the likely label",
            ),
            reads_truth=True,
            source=self.source,
        )
