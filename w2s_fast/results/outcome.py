"""What an arm became: its fit, and the split that it ran on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from w2s_fast.data.splits import Split
from w2s_fast.methods.plan import Trial
from w2s_fast.supervisions.fit_request import Student
from w2s_fast.tasks.task import Task
from w2s_fast.train import Fit


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What an arm was taught, and the split it ran on."""

    task: Task
    trial: Trial
    student: Student
    split: Split

    @property
    def fit(self) -> Fit:
        """The student's fit."""
        return self.student.fit

    def correct(self, selection: str) -> np.ndarray | None:
        """bool[n_test], or None when this fit has no such selection."""
        predicted = self.fit.predicted.get(selection)
        return None if predicted is None else np.asarray(predicted) == self.task.manifest.labels[self.split.test]
