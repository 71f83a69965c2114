"""Students against truth and against the weak model: accuracies, gains and losses by class, confusions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value, rounded
from w2s_fast.diagnose.subject import Said, Subject

TRUTH = frozenset({"labels", "students"})


@dataclass(frozen=True, kw_only=True)
class Students(Diagnostic):
    """How good is each student, and does it agree with its supervisor where that is right or where it is wrong?

    `balanced` is the mean recall over the classes that occur; `top-5` needs probabilities; `agree right` and `agree
    wrong` are the shares of test rows on which the student agrees with the weak model, among those where that is right
    and wrong; `corrected` and `spoiled` are the shares of all test rows that it turns from wrong to right and
    from right to wrong, so that their difference is the gain.
    """

    needs: ClassVar[frozenset[str]] = TRUTH
    source: ClassVar[str] = "agreement by supervisor correctness: Burns et al. 2023 (arXiv 2312.09390), section 5.1.3"

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        for name, said, truth, weak_name, weak in against_weak(subject):
            right, weak_right = said.labels == truth, weak == truth
            same = said.labels == weak
            rows.append(
                (
                    name,
                    weak_name,
                    len(truth),
                    rounded(right.double().mean()),
                    balanced(said.labels, truth),
                    None if said.probs is None else top(said.probs, truth, 5),
                    _mean(same, weak_right),
                    _mean(same, ~weak_right),
                    rounded((right & ~weak_right).double().mean()),
                    rounded((weak_right & ~right).double().mean()),
                    rounded(right.double().mean() - weak_right.double().mean()),
                )
            )
        return Diagnosis(
            name="students",
            title="Students on the test rows",
            columns=(
                "student", "weak", "rows", "accuracy", "balanced", "top-5", "agree right", "agree wrong", "corrected",
                "spoiled", "gain",
            ),
            rows=tuple(rows),
            reads_truth=True,
            source=self.source,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassGains(Diagnostic):
    """In which classes does a student gain over its supervisor, and in which does it lose?

    most: classes shown per student, those with the largest change of recall first.
    """

    most: int = 20

    needs: ClassVar[frozenset[str]] = TRUTH
    limits: ClassVar[Limits] = {"most": "[1, inf)"}

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        for name, said, truth, weak_name, weak in against_weak(subject):
            counts = truth.bincount(minlength=len(subject.classes))
            ours, theirs = (recalls(labels, truth, len(subject.classes)) for labels in (said.labels, weak))
            change = torch.nan_to_num(ours - theirs)
            for c in change.abs().argsort(descending=True, stable=True)[: self.most].tolist():
                if counts[c]:
                    found = (rounded(theirs[c]), rounded(ours[c]), rounded(change[c]))
                    rows.append((name, weak_name, subject.classes[c], int(counts[c]), *found))
        return Diagnosis(
            name="class_gains",
            title="Recall by class: student against weak model",
            columns=("student", "weak", "class", "rows", "weak recall", "student recall", "gain"),
            rows=tuple(rows),
            reads_truth=True,
        )


@dataclass(frozen=True, kw_only=True)
class Confusion(Diagnostic):
    """Which classes does the weak model take for which, and what does the student say there?

    most: pairs (true class, weak label) per student, the most frequent first. `kept` counts the rows on which the
    student repeats the weak label, `corrected` those that it gets right; the rest is another wrong class.
    """

    most: int = 20

    needs: ClassVar[frozenset[str]] = TRUTH
    limits: ClassVar[Limits] = {"most": "[1, inf)"}

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        k = len(subject.classes)
        for name, said, truth, weak_name, weak in against_weak(subject):
            cell = truth * k + weak
            counts = torch.where(truth != weak, cell, -1)
            found, times = counts[counts >= 0].unique(return_counts=True)
            for at in times.argsort(descending=True, stable=True)[: self.most].tolist():
                here = cell == found[at]
                i, j = divmod(int(found[at]), k)
                kept, fixed = (int((said.labels[here] == c).sum()) for c in (j, i))
                rows.append((name, weak_name, subject.classes[i], subject.classes[j], int(times[at]), kept, fixed))
        return Diagnosis(
            name="confusion",
            title="The weak model's confusions, and what students make of them",
            columns=("student", "weak", "class", "weak label", "rows", "kept", "corrected"),
            rows=tuple(rows),
            reads_truth=True,
        )


def against_weak(subject: Subject) -> Iterator[tuple[str, Said, Tensor, str, Tensor]]:
    """(student, what it says, truth i[m], weak model, weak labels i[m]) over its rows with a known label."""
    for name, said in subject.students.items():
        truth = subject.truth(said.rows)
        known = truth >= 0
        at = torch.from_numpy(said.rows)[known]
        probs = None if said.probs is None else said.probs[known]
        for weak_name, z in subject.weak.items():
            labelled = Said(rows=said.rows[known.numpy()], labels=said.labels[known], probs=probs)
            yield name, labelled, truth[known], weak_name, z[at].argmax(-1)


def recalls(labels: Tensor, truth: Tensor, k: int) -> Tensor:
    """f64[k]: the share of each class's rows that is met, NaN for a class without rows."""
    hits = (labels == truth).double()
    return torch.zeros(k, dtype=torch.float64).index_add_(0, truth, hits) / truth.bincount(minlength=k)


def balanced(labels: Tensor, truth: Tensor) -> float | None:
    """The mean recall over the classes that occur."""
    found = recalls(labels, truth, int(max(truth.max(), labels.max())) + 1)
    return rounded(np.nanmean(found.numpy())) if len(truth) else None


def top(probs: Tensor, truth: Tensor, k: int) -> float | None:
    """The share of rows whose label is among the k likeliest of probs f[n, c]; ties go to the lower class."""
    own = probs.gather(1, truth.unsqueeze(1))
    earlier = torch.arange(probs.shape[1]).unsqueeze(0) < truth.unsqueeze(1)
    before = (probs > own).sum(1) + ((probs == own) & earlier).sum(1)
    return rounded((before < k).double().mean())


def _mean(values: Tensor, among: Tensor) -> float | None:
    return rounded(values[among].double().mean()) if bool(among.any()) else None
