"""How unevenly classes occur, in all and per part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Imbalance(Diagnostic):
    """How unevenly are classes dealt, in truth and by the weak labels?

    `ratio` is the most frequent class over the least frequent one that occurs, `even` the entropy of the class shares
    over that of equal shares (1: all alike), `absent` the classes without a row.
    """

    source: ClassVar[str] = "class imbalance ratio; Pielou's evenness"

    def of(self, subject: Subject) -> Diagnosis:
        parts = {"all": np.arange(len(subject)), **subject.parts}
        labels = {} if subject.labels is None else {"ground truth": subject.labels}
        labels |= {name: z.argmax(-1) for name, z in subject.weak.items()}
        rows = tuple(
            self._row(name, part, of[torch.from_numpy(at)].numpy(), subject.classes)
            for name, of in labels.items()
            for part, at in parts.items()
            if len(at)
        )
        return Diagnosis(
            name="imbalance",
            title="Class balance",
            columns=("labels", "part", "rows", "ratio", "even", "absent", "rarest", "rows of rarest", "commonest"),
            rows=rows,
            reads_truth=subject.labels is not None,
            source=self.source,
        )

    def _row(self, name: str, part: str, labels: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[Value, ...]:
        counts = np.bincount(labels[labels >= 0], minlength=len(classes))
        if not counts.sum():
            return (name, part, len(labels), None, None, len(classes), None, None, None)
        there = np.flatnonzero(counts)
        rare = int(there[counts[there].argmin()])
        share = counts[there] / counts.sum()
        even = float(-(share * np.log(share)).sum() / math.log(len(classes))) if len(classes) > 1 else 1.0
        return (
            name,
            part,
            len(labels),
            float(counts.max() / counts[rare]),
            even,
            int((counts == 0).sum()),
            classes[rare],
            int(counts[rare]),
            classes[int(counts.argmax())],
        )
