"""Misfit: how far a student is from its weak labels, which theory sets equal to its gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value, rounded
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Misfit(Diagnostic):
    """How far is each student from its weak model on the test rows, beside the gain that was measured?

    `disagree` is the share of rows with another label; `squared` the mean squared distance of the two probability
    vectors, `kl` the mean KL(student || weak), both where the student gives probabilities. Misfit reads no label; with
    ground truth `gain` (accuracy over the weak model's) and `gain squared` (the fall of the mean squared distance to
    the one-hot labels, which the theory bounds from below by `squared` for a convex class that holds the truth) follow.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weak", "students"})
    source: ClassVar[str] = (
        "Charikar et al. 2024 (arXiv 2405.15116), theorem 1; Mulgund and Pabbaraju 2025 (2501.19105)"
    )

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        for name, said in subject.students.items():
            at = torch.from_numpy(said.rows)
            for weak_name, z in subject.weak.items():
                weak = z[at].double().softmax(-1)
                row: tuple[Value, ...] = (
                    name,
                    weak_name,
                    len(at),
                    rounded((said.labels != z[at].argmax(-1)).double().mean()),
                )
                probs = None if said.probs is None else said.probs.double()
                row += (None, None) if probs is None else (squared(probs, weak), kl(probs, weak))
                if subject.labels is not None:
                    truth = subject.truth(said.rows)
                    known = truth >= 0
                    right = [(x[known] == truth[known]).double().mean() for x in (said.labels, z[at].argmax(-1))]
                    row += (rounded(right[0] - right[1]),)
                    one_hot = torch.nn.functional.one_hot(truth.clamp_min(0), weak.shape[1]).double()
                    row += (
                        None
                        if probs is None
                        else rounded(_distance(weak, one_hot, known) - _distance(probs, one_hot, known)),
                    )
                rows.append(row)
        truth_columns = () if subject.labels is None else ("gain", "gain squared")
        return Diagnosis(
            name="misfit",
            title="Misfit of students to their weak labels",
            columns=("student", "weak", "rows", "disagree", "squared", "kl", *truth_columns),
            rows=tuple(rows),
            reads_truth=subject.labels is not None,
            source=self.source,
        )


def squared(p: torch.Tensor, q: torch.Tensor) -> float | None:
    """The mean over rows of ||p - q||^2."""
    return rounded((p - q).square().sum(-1).mean())


def kl(p: torch.Tensor, q: torch.Tensor) -> float | None:
    """The mean over rows of KL(p || q), with probabilities of at least 1e-30."""
    return rounded((p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum(-1).mean())


def _distance(p: torch.Tensor, one_hot: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return (p - one_hot)[known].square().sum(-1).mean()
