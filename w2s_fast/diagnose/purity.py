"""Neighbour purity: how often a row's nearest rows carry its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import MOST, Subject

AT = (1, 5, 10, 50)


@dataclass(frozen=True, kw_only=True)
class Purity(Diagnostic):
    """How often the k nearest rows share a row's label, for k = 1, 5, 10, 50: of weak labels, and of true ones.

    most: the largest k. Rows are those of the pool, neighbours are searched among them, a row is not its own.
    Purity that is high for true and low for weak labels is what a student can correct; `base` is what labels dealt at
    random would give, the sum of squared class shares.
    """

    most: int = MOST

    limits: ClassVar[Limits] = {"most": "[1, inf)"}
    source: ClassVar[str] = "kNN label agreement, as in Lang et al. 2024 (arXiv 2405.16043), section 4"

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        near, _ = subject.near(min(self.most, MOST), pool=True)
        labels = {name: z[pool].argmax(-1) for name, z in subject.weak.items()}
        if subject.labels is not None:
            labels["ground truth"] = subject.labels[pool]
        ks = [k for k in AT if k <= min(self.most, near.shape[1])]
        rows: list[tuple[Value, ...]] = [
            (name, len(pool), *(purity(of, near[:, :k]) for k in ks), base(of)) for name, of in labels.items()
        ]
        return Diagnosis(
            name="purity",
            title="Neighbour purity in the strong encoder's space",
            columns=("labels", "rows", *(f"k={k}" for k in ks), "base"),
            rows=tuple(rows),
            notes=(
                "share of the k nearest rows (cosine, pool) with the row's own label; base: labels dealt at random",
            ),
            reads_truth=subject.labels is not None,
            source=self.source,
        )


def purity(labels: Tensor, near: Tensor) -> float | None:
    """Mean share of neighbours i[n, k] with the row's label i[n]; pairs with an unknown label (-1) do not count."""
    own, other = labels.unsqueeze(1), labels[near]
    known = (own >= 0) & (other >= 0)
    return float((own == other)[known].double().mean()) if bool(known.any()) else None


def base(labels: Tensor) -> float | None:
    """The sum of squared class shares among known labels."""
    known = labels[labels >= 0]
    return float((known.bincount().double() / len(known)).square().sum()) if len(known) else None
