"""Class weights against the text features that they started from: drift, angles, confusions, collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.spectrum import effective_rank
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Prototypes(Diagnostic):
    """How far did each class weight move from its text feature, and which class is nearest to it now?

    most: classes shown per head, those that moved farthest first (those nearest to another class where there is no
    text); the line `all` carries means over the classes, `cosine` there is the mean over all pairs (1: collapsed) and
    `rank` the effective rank of the unit weights. Angles are in degrees.
    """

    most: int = 20

    needs: ClassVar[frozenset[str]] = frozenset({"heads"})
    limits: ClassVar[Limits] = {"most": "[1, inf)"}
    source: ClassVar[str] = "effective rank: Roy and Vetterli 2007"

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        for name, weights in subject.heads.items():
            unit = normalize(weights.double(), dim=-1)
            cosines = unit @ unit.T
            between = cosines.masked_fill(torch.eye(len(unit), dtype=torch.bool), -math.inf)
            nearest = between.argmax(1)
            near = between.amax(1)
            drift = None if subject.text is None else angles(unit, subject.text)
            norms = weights.double().norm(dim=1)
            k = len(unit)
            mean = (cosines.sum() - cosines.diagonal().sum()) / max(1, k * (k - 1))
            rank = effective_rank(torch.linalg.svdvals(unit).square())
            rows.append(
                (
                    name,
                    "all",
                    None if drift is None else float(drift.mean()),
                    float(norms.mean()),
                    None,
                    float(mean),
                    rank,
                )
            )
            order = (near if drift is None else drift).argsort(descending=True, stable=True)
            for c in order[: self.most].tolist():
                moved = None if drift is None else float(drift[c])
                other = subject.classes[int(nearest[c])]
                rows.append((name, subject.classes[c], moved, float(norms[c]), other, float(near[c]), None))
        return Diagnosis(
            name="prototypes",
            title="Class weights: drift from text, nearest classes",
            columns=("head", "class", "drift", "norm", "nearest", "cosine", "rank"),
            rows=tuple(rows),
            notes=("drift: the angle in degrees between a class weight and the class name's text feature",),
            source=self.source,
        )


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Degrees f64[n] between the rows of a and b f[n, d]; exact for small angles too (2 atan2 of chord and sum)."""
    u, v = normalize(a.double(), dim=-1), normalize(b.double(), dim=-1)
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))
