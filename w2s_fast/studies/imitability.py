"""Are weak errors easy to imitate: how often a student of them says the same on images it never saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from w2s_fast.methods.fit import fit
from w2s_fast.tasks.task import Task


def imitability(task: Task, *, seeds: int | Sequence[int] = 1, head: str = "linear", loss: str = "ce") -> float:
    """How often a student of the weak labels agrees with the weak model on test images it never saw; mean of runs.

    The share of argmax p_w that the strong features predict, with whatever errors it holds; reads no ground truth.
    """
    results = fit(task, loss=loss, head=head, seeds=seeds, references=False)
    found = [row.get("agreement") for row in results.rows if row.get("selection") == "last"]
    return float(np.mean([value for value in found if value is not None]))
