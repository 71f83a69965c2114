"""What the runs of one task share: supervision tables, teachers' logits, other encoders' features, fits by key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.core.settings import Settings
from w2s_fast.data.splits import Split
from w2s_fast.heads.classifier import classifier
from w2s_fast.losses import Supervision, ground_truth
from w2s_fast.supervisions.fit_request import FitRequest, Rows
from w2s_fast.tasks.features import parts
from w2s_fast.tasks.references import zero_shot_prior
from w2s_fast.tasks.task import Task
from w2s_fast.train import Fit
from w2s_fast.train.solver import make_solver
from w2s_fast.train.stream import Stream

T = TypeVar("T")


class SharedCache:
    """Tables of one task, made when first asked for and kept for all of its runs."""

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

    def log_probs(self, fit: Fit, request: FitRequest | None = None, *, selection: str = "last") -> Tensor:
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
        features = self.task.features if request is None or request.features is None else request.features
        with torch.inference_mode():
            return torch.cat([(module(x) / tau).log_softmax(-1) for _, x in parts(features)]).clone()


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """Whom a supervision teaches: one run (method, settings, seed, weak model) on one split of one task.

    method, supervision: their names, for messages. given_weak_seed: None where the run names no weak model.
    """

    task: Task
    split: Split
    shared: SharedCache
    method: str
    supervision: str
    settings: Settings
    seed: int
    given_weak_seed: int | None

    @property
    def weak(self) -> Supervision:
        """The supervision of this run's own weak model, one object for all runs that share it."""
        return self.shared.weak(self.weak_seed)

    @property
    def weak_seed(self) -> int:
        """The number of this run's weak model; the first that it is paired with where the run names none."""
        given = self.given_weak_seed
        return given if given is not None else self.task.pairs([self.seed])[0][1]

    def seen(self, *, transductive: bool = False) -> Rows:
        """The unlabelled rows that methods may be fitted on, sorted: hold-train, and D'_test only if transductive."""
        parts = [self.split.train, self.split.test] if transductive else [self.split.train]
        return np.sort(np.concatenate(parts))

    def epochs(self, rows: int) -> int:
        """Epochs in which so many rows make as many steps as hold-train in E: int(E n / rows); E for full batches."""
        own = self.settings.epochs or 10
        if not rows or make_solver(self.settings.solver).full_batch:
            return own
        return own * len(self.split.train) // rows

    def kept(self, keep: NDArray[np.bool_]) -> Rows:
        """The rows of hold-train, in its order, where bool[N] `keep` is true."""
        return self.split.train[keep[self.split.train]]

    def generator(self, what: str) -> torch.Generator:
        """A stream of random numbers of its own for each purpose, from the run seed alone."""
        from w2s_fast.core.hashing import digest_json

        return torch.Generator().manual_seed(int(digest_json([what, self.seed])[:15], 16))
