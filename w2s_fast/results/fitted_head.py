"""One fitted head, taken out: as an `nn.Module`, a file, or an open_clip zero-shot classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from w2s_fast import heads
from w2s_fast.core.errors import UsageError
from w2s_fast.core.version import CODE
from w2s_fast.heads.classifier import classifier

if TYPE_CHECKING:
    from w2s_fast.results.outcome import Scored


@dataclass(frozen=True, kw_only=True, eq=False)
class BestHead:
    """The head of one run under one selection."""

    scored: Scored
    selection: str

    @property
    def head(self) -> heads.Head:
        """The head, bound to the task's frozen inputs."""
        return self.scored.fit.head

    @property
    def theta(self) -> dict[str, Tensor]:
        """The parameters under this selection."""
        return self.scored.fit.theta[self.selection]

    @property
    def card(self) -> dict[str, Any]:
        """What the head is and where it comes from, as JSON."""
        task, trial = self.scored.task, self.scored.trial
        return {
            "method": trial.method.name,
            "head": str(trial.method.head),
            "loss": trial.method.loss_name,
            "supervision": trial.supervision,
            "reads": "features of the strong encoder"
            if self._own_features
            else f"features that {trial.supervision} made",
            "classes": list(task.classes),
            "data": task.data,
            "strong": task.strong,
            "weak": task.weak,
            "template": task.template,
            "seed": trial.seed,
            "weak_seed": trial.weak_seed,
            "selection": self.selection,
            "selected_epoch": self.scored.fit.selected_epoch[self.selection],
            "feature_key": task.keys.get("features"),
            "resolved": self.scored.fit.resolved,
            "code": CODE,
        }

    @property
    def _own_features(self) -> bool:
        """Whether the head was fitted on the task's features as they are."""
        return self.scored.student.request.features is None

    def to_torch(self) -> nn.Module:
        """A module f[b, d] raw features -> logits f[b, k] (before the temperature)."""
        request = self.scored.student.request
        own = classifier(self.head, self.theta)
        if request.features is None:
            return own
        if request.move is None:
            raise UsageError(
                f"{self.scored.trial.method.name} was fitted on features that {self.scored.trial.supervision} made for "
                "the rows of the task alone, so it is no function of an image's own features; read its "
                "predictions instead"
            )
        return nn.Sequential(request.move, own)

    def save(self, path: str | Path) -> Path:
        """Write safetensors and a JSON card; `heads.load_head` reads them back.

        The head alone: where its card says that it reads features that a supervision made, `to_torch` has both.
        """
        head = self.scored.student.request.head or self.scored.trial.method.head
        return heads.save_head(path, head, self.theta, self.card)

    def export(self, path: str | Path) -> Path:
        """Write the open_clip-compatible zero-shot classifier matrix f[d, k] with its class names.

        `UsageError` where the head reads other features than the encoder's.
        """
        if not self._own_features:
            raise UsageError(
                f"{self.scored.trial.method.name} reads features that {self.scored.trial.supervision} made, which no "
                "zero-shot classifier of the encoder does; take to_torch(), which makes them first"
            )
        return heads.export_classifier(self.theta, self.head, path, names=self.scored.task.classes, card=self.card)
