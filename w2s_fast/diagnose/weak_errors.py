"""Where weak labels err: against what the neighbours' weak labels say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value, rounded
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class WeakErrors(Diagnostic):
    """Do weak labels err where their neighbours disagree with them, and do wrong rows lie among right ones?

    k: neighbours, by cosine in the pool. A row is flagged when most of its neighbours' weak labels (ties: the lowest
    class) are not its own. `expansion` is, over the rows with a wrong weak label, the mean share of neighbours of their
    true class whose weak label is right; `robust` the share of right rows that are not flagged. The first asks whether
    a student that is smooth can correct, the second whether it keeps what is right.
    """

    k: int = 10

    needs: ClassVar[frozenset[str]] = frozenset({"weak"})
    limits: ClassVar[Limits] = {"k": "[1, inf)"}
    source: ClassVar[str] = (
        "Lang et al. 2024, expansion and robust neighbourhoods (arXiv 2405.16043), as shares over nearest neighbours"
    )

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        near, _ = subject.near(self.k, pool=True)
        truth = None if subject.labels is None else subject.labels[pool]
        rows = tuple(self._row(name, z[pool].argmax(-1), near, truth, z.shape[1]) for name, z in subject.weak.items())
        found = ("error", "error_flagged", "error_unflagged", "recall", "expansion", "robust")
        return Diagnosis(
            name="weak_errors",
            title=f"Weak labels against those of their {near.shape[1]} neighbours",
            columns=("weak", "rows", "flagged", *(() if truth is None else found)),
            rows=rows,
            notes=(
                "flagged: most neighbours carry another weak label",
                "error_flagged is the precision of the flag for weak errors, recall the share of errors that it meets",
            )[: 1 if truth is None else 2],
            reads_truth=truth is not None,
            source=self.source,
        )

    def _row(self, name: str, weak: Tensor, near: Tensor, truth: Tensor | None, k: int) -> tuple[Value, ...]:
        flagged = majority(weak[near], k) != weak
        head: tuple[Value, ...] = (name, len(weak), rounded(flagged.double().mean()))
        if truth is None:
            return head
        known = truth >= 0
        wrong = weak != truth
        same = (truth.unsqueeze(1) == truth[near]) & ~wrong[near]
        return (
            *head,
            _share(wrong, known),
            _share(wrong, known & flagged),
            _share(wrong, known & ~flagged),
            _share(flagged, known & wrong),
            _share(same.double().mean(1), known & wrong),
            _share(~flagged, known & ~wrong),
        )


def majority(labels: Tensor, k: int) -> Tensor:
    """The most frequent of labels i[n, m] in each row, of k classes; the lowest class where several are."""
    return votes(labels, k).argmax(-1)


def votes(labels: Tensor, k: int) -> Tensor:
    """How often each of k classes occurs in each row of labels i[n, m]; -1 does not count. i[n, k]."""
    out = torch.zeros(len(labels), k + 1, dtype=torch.int64)
    counted = torch.where(labels < 0, k, labels)
    return out.scatter_add_(1, counted, torch.ones_like(counted))[:, :k]


def _share(values: Tensor, among: Tensor) -> float | None:
    return rounded(values[among].double().mean()) if bool(among.any()) else None
