"""What the arms of one task share: supervision tables, teachers' logits, other encoders' features, fits by key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.heads.classifier import classifier
from w2s_fast.losses import Supervision, ground_truth
from w2s_fast.methods.features import parts
from w2s_fast.methods.references import zero_shot_prior
from w2s_fast.methods.task import Task
from w2s_fast.methods.teaching.lesson import Lesson
from w2s_fast.train import Fit
from w2s_fast.train.stream import Stream

T = TypeVar("T")


class Desk:
    """Tables of one task, made when first asked for and kept for all of its arms."""

    def __init__(self, task: Task, *, prior: Tensor | None) -> None:
        self.task = task
        self.prior = prior
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, called once per key: a function of the task and the key alone."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def supervision(self, weak: Tensor, *, pick: Tensor | None = None, weight: Tensor | None = None) -> Supervision:
        """Supervision by logits f[N, k] or f[N, m, k], with the labels and the prior that some losses read."""
        return Supervision(weak=weak, pick=pick, weight=weight, labels=self.task.labels, prior=self.prior)

    def weak(self, weak_seed: int) -> Supervision:
        """The supervision of one weak model."""
        return self.once(("weak", weak_seed), lambda: self.supervision(self.task.weak_logits[weak_seed]))

    @cached_property
    def zero_shot(self) -> Tensor:
        """log softmax(logit_scale cos) f[N, k]; `MissingText` without text."""
        return zero_shot_prior(self.task) if self.prior is None else self.prior

    @cached_property
    def truth(self) -> Supervision:
        """Ground truth as supervision."""
        # beside features that are too large for memory, a one-hot table in single precision would be so too
        half = torch.float16 if isinstance(self.task.features, Stream) else torch.float32
        return replace(ground_truth(self.task.labels, len(self.task.classes), half), prior=self.prior)

    def teachers(self, least: int = 2) -> dict[str, Tensor]:
        """name -> raw logits f[N, k] of every weak model of the task; `UsageError` if there are fewer than `least`."""
        found = self.task.teachers
        if len(found) < least:
            raise UsageError(
                f"{self.task.data}: {len(found)} weak model(s), and this supervision needs at least {least}; "
                "name more: --teachers weak:NAME/0 weak:NAME/1"
            )
        return dict(found)

    def features(self) -> Tensor:
        """Raw strong features f[N, d], read whole."""
        return self.once("features", lambda: torch.cat([x for _, x in parts(self.task.features)]))

    def unit_features(self) -> Tensor:
        """The strong features with unit rows f[N, d]."""
        return self.once("unit", lambda: normalize(self.features(), dim=-1))

    def weak_features(self, weak_seed: int) -> Tensor:
        """Raw features f[N, e] of a weak model's own encoder; `UsageError` where the task has none."""
        model = self.task.weak_models.get(weak_seed)
        if model is None or self.task.open_features is None:
            raise UsageError(
                f"{self.task.data}: the weak model of seed {weak_seed} has no cached features (the task was made from "
                f"arrays); give them: Task.from_arrays(encoders={{'weak/{weak_seed}': X}}, ...)"
            )
        return self.encoder(model)

    def encoder(self, model: str) -> Tensor:
        """Raw features f[N, e] of any encoder by name, extracted if the cache lacks them."""
        opener = self.task.open_features
        if opener is None:
            raise UsageError(
                f"{self.task.data}: no encoder {model!r}: the task was made from arrays; give its features: "
                f"Task.from_arrays(encoders={{{model!r}: X}}, ...)"
            )
        return self.once(("encoder", model), lambda: opener(model))

    def says(self, fit: Fit, lesson: Lesson | None = None, *, selection: str = "last") -> Tensor:
        """Log-probabilities f[N, k] of a fitted head on every row, at its own temperature.

        `TrainError` if the fit diverged.
        """
        if selection not in fit.theta:
            raise TrainError(
                f"{self.task.data}: a student that was to teach has no parameters under {selection!r} ({fit.status}); "
                "take a smaller learning rate (--lr)"
            )
        module = classifier(fit.head, fit.theta[selection])
        tau = fit.resolved.get("tau_s") or 1.0
        features = self.task.features if lesson is None or lesson.features is None else lesson.features
        with torch.inference_mode():
            return torch.cat([(module(x) / tau).log_softmax(-1) for _, x in parts(features)]).clone()
