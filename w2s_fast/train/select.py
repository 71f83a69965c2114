"""Which epoch of a run counts: the selections of the protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.train.evaluate import CURVES

CRITERIA = {"last": None, "weak_val": "agree_val", "oracle": "acc_val", "test_best": "acc_test"}
"""What each selection maximises over epochs >= 1; ties go to the earlier epoch; `last` is the last epoch."""
WHY_ABSENT = {
    "weak_val": "the split has no val rows",
    "oracle": "the split has no val rows with known truth",
    "test_best": "the split has no test rows with known truth",
}


@dataclass(kw_only=True)
class Track:
    """Curves and kept parameters of one run."""

    epochs: int
    selections: tuple[str, ...]
    curves: dict[str, NDArray[np.float64]] = field(init=False)
    best: dict[str, float] = field(default_factory=dict)
    epoch: dict[str, int] = field(default_factory=dict)
    theta: dict[str, Theta] = field(default_factory=dict)
    predicted: dict[str, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"compile": 0.0, "train": 0.0, "evaluate": 0.0})

    def __post_init__(self) -> None:
        self.curves = {name: np.full(self.epochs + 1, np.nan) for name in ("loss", *CURVES)}

    def log(self, epoch: int, loss: float, scores: list[float]) -> list[str]:
        """Write an epoch into the curves; the selections that it now holds."""
        self.curves["loss"][epoch] = loss
        for name, value in zip(CURVES, scores, strict=True):
            self.curves[name][epoch] = value
        taken = ["last"] if "last" in self.selections and epoch == self.epochs else []
        if epoch == 0:
            return taken
        for selection in self.selections:
            criterion = CRITERIA[selection]
            if criterion is None:
                continue
            value = float(self.curves[criterion][epoch])
            if not math.isnan(value) and value > self.best.get(selection, -math.inf):
                self.best[selection] = value
                taken.append(selection)
        return taken

    def hold(self, selections: list[str], epoch: int, theta: Theta) -> None:
        """Keep one epoch's parameters for some selections."""
        for selection in selections:
            self.epoch[selection] = epoch
            self.theta[selection] = theta

    def held(self) -> dict[int, Theta]:
        """The parameters that are kept, by epoch: selections may share one."""
        return {self.epoch[name]: theta for name, theta in self.theta.items()}

    def notes(self) -> tuple[str, ...]:
        """Why selections are absent."""
        return tuple(
            f"no selection {name!r}: {'no epoch was trained' if self.epochs == 0 else WHY_ABSENT[name]}"
            for name in self.selections
            if name not in self.epoch and name != "last"
        )
