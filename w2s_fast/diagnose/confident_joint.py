"""The confident joint: how many rows of each given label are confidently of another class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject
from w2s_fast.diagnose.weak_errors import votes

FLOOR, SLACK = 0.02, 1e-6
"""The least threshold of a class, and how far below its threshold a probability still counts (as cleanlab 2.9)."""


@dataclass(frozen=True, kw_only=True)
class ConfidentJoint(Diagnostic):
    """Which classes do weak labels confuse, judged by the weak labels of their neighbours alone?

    k: neighbours whose weak labels, counted, are the out-of-sample probabilities of a row. A row of weak label i counts
    for class j if its probability of j reaches the mean probability of j over rows labelled j (the likeliest such j).
    `estimated` is the share of rows off the diagonal after calibration to the labels' counts; `most` cells are shown.
    """

    k: int = 20
    most: int = 15

    needs: ClassVar[frozenset[str]] = frozenset({"weak"})
    limits: ClassVar[Limits] = {"k": "[1, inf)", "most": "[1, inf)"}
    source: ClassVar[str] = "Northcutt et al. 2021, confident learning (arXiv 1911.00068), equations 1 and 3"

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        near, _ = subject.near(self.k, pool=True)
        truth = None if subject.labels is None else subject.labels[pool].numpy()
        rows: list[tuple[Value, ...]] = []
        notes = ["likely: rows of that weak label that are confidently of the other class, by their neighbours"]
        for name, z in subject.weak.items():
            weak = z[pool].argmax(-1)
            joint = confident_joint(weak.numpy(), neighbour_probs(weak, near, z.shape[1]).numpy())
            share = calibrated(joint, np.bincount(weak.numpy(), minlength=z.shape[1]))
            noise = 1 - float(np.trace(share)) if share.sum() else 0.0
            said = f"{name}: {100 * noise:.1f} % of the weak labels are estimated wrong"
            if truth is not None and (truth >= 0).any():
                said += f"; {100 * float(np.mean((weak.numpy() != truth)[truth >= 0])):.1f} % are"
            notes.append(said)
            off = joint - np.diag(np.diag(joint))
            order = np.argsort(-off, axis=None, kind="stable")[: self.most]
            for at in order.tolist():
                i, j = divmod(at, len(joint))
                if not off[i, j]:
                    break
                row: tuple[Value, ...] = (name, subject.classes[i], subject.classes[j], int(off[i, j]))
                if truth is not None:
                    row = (*row, int(((weak.numpy() == i) & (truth == j)).sum()))
                rows.append(row)
        return Diagnosis(
            name="confident_joint",
            title="Confident joint of the weak labels",
            columns=("weak", "weak label", "class", "likely", *(() if truth is None else ("in truth",))),
            rows=tuple(rows),
            notes=tuple(notes),
            reads_truth=truth is not None,
            source=self.source,
        )


def confident_joint(labels: NDArray[np.int64], probs: NDArray[np.floating]) -> NDArray[np.int64]:
    """Counts i[k, k] of rows with given label i (axis 0) that are confidently of class j, from probs f[n, k].

    A class without a row has no threshold, so that none is confidently of it. Rows confident of nothing do not count.
    """
    confident = confident_class(labels, probs)
    k = probs.shape[1]
    joint = np.zeros((k, k), np.int64)
    counted = confident >= 0
    np.add.at(joint, (labels[counted], confident[counted]), 1)
    return joint


def confident_class(labels: NDArray[np.int64], probs: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class i[n] that each row is confidently of, the likeliest if several, or -1."""
    least = thresholds(labels, probs)
    reached = np.where(probs >= least - SLACK, probs, -np.inf)
    return np.where(np.isfinite(reached).any(axis=1), reached.argmax(axis=1), -1)


def thresholds(labels: NDArray[np.int64], probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """f[k]: the mean probability of each class over the rows that carry it, infinity for a class without rows."""
    k = probs.shape[1]
    counts = np.bincount(labels, minlength=k)
    own = np.bincount(labels, weights=probs[np.arange(len(labels)), labels].astype(np.float64), minlength=k)
    means = np.divide(own, counts, out=np.full(k, np.inf), where=counts > 0)
    return np.maximum(means, FLOOR)


def calibrated(joint: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The joint as shares of all rows, each row of it scaled to the count of its given label; sums to 1."""
    rows = joint.sum(axis=1, keepdims=True)
    scaled = np.divide(joint, rows, out=np.zeros(joint.shape), where=rows > 0) * counts[:, None]
    # a label whose rows are confident of nothing is taken at its word
    empty = np.flatnonzero((rows[:, 0] == 0) & (counts > 0))
    scaled[empty, empty] = counts[empty]
    return scaled / max(scaled.sum(), 1)


def neighbour_probs(labels: Tensor, near: Tensor, k: int) -> Tensor:
    """f64[n, k]: shares of the neighbours' labels; a row's own label does not enter, so they are out of sample."""
    counted = votes(labels[near], k).double()
    return counted / counted.sum(1, keepdim=True).clamp_min(1)
