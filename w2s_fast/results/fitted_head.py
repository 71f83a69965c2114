"""One fitted head, taken out: as an `nn.Module`, a file, or an open_clip zero-shot classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast import heads
from w2s_fast.core.errors import UsageError
from w2s_fast.core.specs import Spec
from w2s_fast.data.splits import Split
from w2s_fast.heads.classifier import classifier
from w2s_fast.losses import Supervision
from w2s_fast.tasks.features import parts
from w2s_fast.tasks.task import Task
from w2s_fast.train import Fit


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """The head of one run on the cached features of its task, under one selection.

    split: the rows of its task. spec: how it was asked for. supervision, train: the tables and the rows i[n] that it
    was trained on (None: all of hold-train). features f[N, e], text f[k, e]: what its supervision put in place of the
    task's; move: the module that makes such features of raw ones [b, d] (None: there is none). about: the part of the
    card that no selection changes.
    """

    task: Task
    split: Split
    fit: Fit
    spec: Spec
    supervision: Supervision
    about: Mapping[str, Any]
    train: NDArray[np.int64] | None = None
    features: Tensor | None = None
    text: Tensor | None = None
    move: nn.Module | None = None
    selection: str = "last"

    @property
    def head(self) -> heads.Head:
        """The head, bound to the task's frozen inputs."""
        return self.fit.head

    @property
    def theta(self) -> dict[str, Tensor]:
        """The parameters under this selection."""
        return self.fit.theta[self.selection]

    @property
    def selections(self) -> tuple[str, ...]:
        """The selections under which there are parameters."""
        return tuple(self.fit.theta)

    @property
    def card(self) -> dict[str, Any]:
        """What the head is and where it comes from, as JSON."""
        supervision = self.about.get("supervision")
        return {
            **self.about,
            "reads": "features of the strong encoder" if self.features is None else f"features that {supervision} made",
            "classes": list(self.task.classes),
            "selection": self.selection,
            "selected_epoch": self.fit.selected_epoch[self.selection],
            "resolved": self.fit.resolved,
        }

    def under(self, selection: str) -> FittedHead:
        """The same run under another selection; `UsageError` where it has none such."""
        if selection not in self.fit.theta:
            known = ", ".join(self.fit.theta) or f"none ({self.fit.status})"
            raise UsageError(f"{self.about.get('method')}: no parameters under {selection!r}; there are: {known}")
        return replace(self, selection=selection)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each of these rows of the task, i[n]."""
        module = classifier(self.head, self.theta)
        features = self.task.features if self.features is None else self.features
        predicted = torch.full((len(self.task.ids),), -1)
        wanted = torch.from_numpy(np.asarray(rows))
        with torch.inference_mode():
            for part, x in parts(features, wanted):
                predicted[part] = module(x).argmax(-1)
        return predicted[wanted].numpy()

    def to_torch(self) -> nn.Module:
        """A module f[b, d] raw features -> logits f[b, k] (before the temperature)."""
        own = classifier(self.head, self.theta)
        if self.features is None:
            return own
        if self.move is None:
            raise UsageError(
                f"{self.about.get('method')} was fitted on features that {self.about.get('supervision')} made for "
                "the rows of the task alone, so it is not a function of an image's own features; read its "
                "predictions instead"
            )
        return nn.Sequential(self.move, own)

    def save(self, path: str | Path) -> Path:
        """Write safetensors and a JSON card; `heads.load_head` reads them back.

        The head alone: where its card says that it reads features that a supervision made, `to_torch` has both.
        """
        return heads.save_head(path, self.spec, self.theta, self.card)

    def export(self, path: str | Path) -> Path:
        """Write the open_clip-compatible zero-shot classifier matrix f[d, k] with its class names.

        `UsageError` where the head reads other features than the encoder's.
        """
        if self.features is not None:
            raise UsageError(
                f"{self.about.get('method')} reads features that {self.about.get('supervision')} made, which no "
                "zero-shot classifier of the encoder does; take to_torch(), which makes them first"
            )
        return heads.export_classifier(self.theta, self.head, path, names=self.task.classes, card=self.card)
