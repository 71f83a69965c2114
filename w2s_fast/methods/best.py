"""One fitted head, taken out: as an `nn.Module`, a file, or an open_clip zero-shot classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from w2s_fast import heads
from w2s_fast.core.errors import UsageError
from w2s_fast.core.version import CODE

if TYPE_CHECKING:
    from w2s_fast.methods.score import Scored


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
        task, arm = self.scored.task, self.scored.arm
        return {
            "method": arm.method.name,
            "head": str(arm.method.head),
            "loss": arm.method.loss_name,
            "supervision": arm.supervision,
            "reads": "features of the strong encoder"
            if self._own_features
            else f"features that {arm.supervision} made",
            "classes": list(task.classes),
            "data": task.data,
            "strong": task.strong,
            "weak": task.weak,
            "template": task.template,
            "seed": arm.seed,
            "weak_seed": arm.weak_seed,
            "selection": self.selection,
            "selected_epoch": self.scored.fit.selected_epoch[self.selection],
            "feature_key": task.keys.get("features"),
            "resolved": self.scored.fit.resolved,
            "code": CODE,
        }

    @property
    def _own_features(self) -> bool:
        """Whether the head was fitted on the task's features as they are."""
        return self.scored.taught.lesson.features is None

    def to_torch(self) -> nn.Module:
        """A module f[b, d] raw features -> logits f[b, k] (before the temperature)."""
        lesson = self.scored.taught.lesson
        own = classifier(self.head, self.theta)
        if lesson.features is None:
            return own
        if lesson.move is None:
            raise UsageError(
                f"{self.scored.arm.method.name} was fitted on features that {self.scored.arm.supervision} made for the "
                "rows of the task alone, so it is no function of an image's own features; read its predictions instead"
            )
        return nn.Sequential(lesson.move, own)

    def save(self, path: str | Path) -> Path:
        """Write safetensors and a JSON card; `heads.load_head` reads them back.

        The head alone: where its card says that it reads features that a supervision made, `to_torch` has both.
        """
        head = self.scored.taught.lesson.head or self.scored.arm.method.head
        return heads.save_head(path, head, self.theta, self.card)

    def export(self, path: str | Path) -> Path:
        """Write the open_clip-compatible zero-shot classifier matrix f[d, k] with its class names.

        `UsageError` where the head reads other features than the encoder's.
        """
        if not self._own_features:
            raise UsageError(
                f"{self.scored.arm.method.name} reads features that {self.scored.arm.supervision} made, which no "
                "zero-shot classifier of the encoder does; take to_torch(), which makes them first"
            )
        return heads.export_classifier(self.theta, self.head, path, names=self.scored.task.classes, card=self.card)


def classifier(head: heads.Head, theta: dict[str, Tensor]) -> Classifier:
    """A module from the features that a head was fitted on f[b, e] to logits f[b, k], before the temperature.

    It lies on the CPU.
    """
    return Classifier(head, theta).cpu()  # where tables of features are, wherever the fit was


class Classifier(nn.Module):
    """A frozen head: weights, bias and what moves its features as buffers, the head's own scaling of the features."""

    def __init__(self, head: heads.Head, theta: dict[str, Tensor]) -> None:
        super().__init__()
        self.unit_x, self.x_scale = head.unit_x, head.x_scale
        with torch.no_grad():
            weight, bias = head.weights(theta)
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", None if bias is None else bias.clone())
        moves = type(head).features is not heads.Head.features
        self.head, self.names = (head, tuple(theta)) if moves else (None, ())
        for number, name in enumerate(self.names):
            # a buffer's name may hold no dot, as those of a text tower do
            self.register_buffer(f"theta{number}", theta[name].detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(self.x_scale * self.moved(features), self.get_buffer("weight"), self._bias())

    def moved(self, features: Tensor) -> Tensor:
        """phi of raw features f[b, e]: normalised where the head does so, and moved by an adapter; not yet scaled."""
        features = features.to(self.get_buffer("weight").dtype)
        x = nn.functional.normalize(features, dim=-1) if self.unit_x else features
        if self.head is None:
            return x
        theta = {name: self.get_buffer(f"theta{number}") for number, name in enumerate(self.names)}
        return self.head.features(theta, x)

    def _bias(self) -> Tensor | None:
        return self.bias if isinstance(self.bias, torch.Tensor) else None
