"""What changes while a network is trained, and how it is written down and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast.core.errors import ModelError
from w2s_fast.finetune import state as states
from w2s_fast.finetune.objective import Objective

Predicted = dict[str, NDArray[np.int64]]


@dataclass(eq=False)
class Running:
    """Everything but the tensors of networks and optimiser. sums: loss, right ones and rows of the epoch so far."""

    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    curves: dict[str, list[float]] = field(default_factory=dict[str, "list[float]"])
    best: dict[str, int] = field(default_factory=dict[str, int])
    predicted: dict[str, Predicted] = field(default_factory=dict[str, Predicted])
    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, "dict[str, Tensor]"])
    seconds: float = 0.0
    off_since: int | None = None
    """The epoch from which on the teacher is no longer heard."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The objects whose tensors are state."""

    model: nn.Module
    average: nn.Module | None
    objective: Objective
    optimizer: torch.optim.Optimizer

    def write(self, folder: Path, now: Running, question: Mapping[str, Any]) -> None:
        """Write all of it, at once."""
        tensors = {
            **states.named("model", self.model.state_dict()),
            **states.optimizer_tensors(self.optimizer),
            **states.named("memory", self.objective.memory or {}),
        }
        if self.average is not None:
            tensors |= states.named("average", self.average.state_dict())
        if self.objective.module is not None:
            tensors |= states.named("distiller", self.objective.module.state_dict())
        for selection, parts in now.predicted.items():
            tensors |= {f"predicted.{selection}.{part}": torch.from_numpy(found) for part, found in parts.items()}
        for selection, weights in now.weights.items():
            tensors |= states.named(f"weights.{selection}", weights)
        record = {
            "question": dict(question),
            "step": now.step,
            "sums": now.sums,
            "curves": now.curves,
            "best": now.best,
            "seconds": now.seconds,
            "off_since": now.off_since,
        }
        states.write_state(folder, tensors, record)

    def restore(self, folder: Path, found: tuple[dict[str, Tensor], dict[str, Any]]) -> Running:
        """Put the tensors back and give the rest; `ModelError` where the state is of another network."""
        tensors, record = found
        try:
            self.model.load_state_dict(states.under("model", tensors))
            if self.average is not None:
                self.average.load_state_dict(states.under("average", tensors))
            if self.objective.module is not None:
                self.objective.module.load_state_dict(states.under("distiller", tensors))
        except RuntimeError:
            raise ModelError(
                f"{folder} holds a fit of another architecture; name that one, or give another folder"
            ) from None
        states.load_optimizer(self.optimizer, tensors)
        for name, value in states.under("memory", tensors).items():
            assert self.objective.memory is not None
            self.objective.memory[name].copy_(value)
        now = Running(
            step=record["step"],
            sums=record["sums"],
            curves=record["curves"],
            best=record["best"],
            seconds=record["seconds"],
            off_since=record["off_since"],
        )
        for name, value in states.under("predicted", tensors).items():
            selection, _, part = name.partition(".")
            now.predicted.setdefault(selection, {})[part] = value.numpy()
        for name, value in states.under("weights", tensors).items():
            selection, _, key = name.partition(".")
            now.weights.setdefault(selection, {})[key] = value
        return now
