"""Rows far from all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject

MAD = 1.4826
"""What makes the median absolute deviation of normal values their standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Outliers(Diagnostic):
    """Which rows lie far from all others in the strong encoder's space?

    k: neighbours over which cosine distances are averaged; a row is an outlier if that mean lies more than `z` robust
    standard deviations (1.4826 times the median absolute deviation) above the median row.
    """

    k: int = 10
    z: float = 6.0

    limits: ClassVar[Limits] = {"k": "[1, inf)", "z": "(0, inf)"}
    source: ClassVar[str] = "mean distance to k nearest neighbours (Ramaswamy et al. 2000), median rule"

    def of(self, subject: Subject) -> Diagnosis:
        _, near = subject.near(self.k)
        far = mean_distance(near)
        score = robust_z(far)
        at = (score > self.z).nonzero()[:, 0]
        at = at[score[at].argsort(descending=True, stable=True)]
        part = subject.part_of()
        rows: tuple[tuple[Value, ...], ...] = tuple(
            (subject.ids[i], part[i], float(far[i]), float(score[i])) for i in at.tolist()
        )
        return Diagnosis(
            name="outliers",
            title=f"Outliers: {len(rows)} of {len(subject)} rows",
            columns=("id", "part", "distance", "z"),
            rows=rows,
            notes=(f"distance: mean cosine distance to {near.shape[1]} neighbours; median {float(far.median()):.4f}",),
            source=self.source,
        )


def mean_distance(near: Tensor) -> Tensor:
    """f64[n]: the mean cosine distance to neighbours with cosines f[n, k]."""
    return (1 - near.double()).clamp_min(0).mean(1)


def robust_z(values: Tensor) -> Tensor:
    """How many robust standard deviations each value lies above the median; 0 where all are alike."""
    middle = values.quantile(0.5)
    spread = MAD * (values - middle).abs().quantile(0.5)
    return (values - middle) / spread if spread > 0 else torch.zeros_like(values)
