"""Boosted weak models: each looks harder at what those before it got wrong, and they vote by how right they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import Spec
from w2s_fast.losses import Supervision, ground_truth
from w2s_fast.losses.supervision import TINY
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.supervisions.labels import one_hot, share_right
from w2s_fast.supervisions.strategy import Strategy

LEAST = 1e-10
"""The error of a member that makes none, so that its weight stays finite."""


@dataclass(frozen=True, kw_only=True)
class EnsemW2SLike(Strategy):
    """Weak models boosted on ground truth of D_train, as AdaBoost does for many classes; their vote teaches.

    rounds: members at most; a member no better than chance is left out and ends boosting, one without error ends it
    too: so does the first head on features of a network that was trained on D_train and fits all of it, for then there
    is nothing to boost.
    members: `boosted`, linear heads on the weak model's own cached features, each fitted to D_train under weights that
    grow where members before it were wrong; or `teachers`, the weak models of the task as they are, of which each round
    takes the one with the smallest weighted error among those left.
    vote: weighted votes (`hard`), or weighted probabilities (`soft`).
    teacher_steps: Adam's steps for a boosted member, in whole epochs of the student's batches.
    teacher_lr: Adam's rate for a boosted member; None is the head's.

    Those were trained on the very rows that their error is measured on, so it is too small, more so for those that
    overfit. The source boosts language models by tokens; its formula is given here from memory, with members that are
    heads.
    """

    rounds: int = 5
    members: str = "boosted"
    vote: str = "hard"
    teacher_steps: int = 1000
    teacher_lr: float | None = None

    limits: ClassVar[Limits] = {
        "rounds": "[1, inf)",
        "members": ("boosted", "teachers"),
        "vote": ("hard", "soft"),
        "teacher_steps": "[1, inf)",
        "teacher_lr": "(0, inf)",
    }
    source: ClassVar[str] = "Agrawal et al. 2024, EnsemW2S (arXiv 2410.04571); SAMME of Zhu et al. 2009"
    equation: ClassVar[str] = "w = sum_m a_m onehot(argmax w_m) / sum_m a_m, a_m = log((1 - e_m) / e_m) + log(k - 1)"
    verified: ClassVar[bool] = False

    @property
    def stages(self) -> int:
        return 1 + (self.rounds if self.members == "boosted" else 0)

    @property
    def teachers(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2 if self.members == "teachers" else 1

    def requests(self, context: Context) -> FitRequests:
        rows, labels = _d_train(context, context.supervision)
        at, k = torch.from_numpy(rows), len(context.task.classes)
        left = dict(context.shared.teachers()) if self.members == "teachers" else {}
        weight = np.full(len(rows), 1 / len(rows))
        votes = torch.zeros(len(context.task.ids), k, dtype=torch.float64)
        details: list[Mapping[str, Any]] = []
        for number in range(self.rounds if self.members == "boosted" else min(self.rounds, len(left))):
            if self.members == "boosted":
                name, request = f"boosted/{number}", self._member(context, rows, weight, number)
                (fit,) = yield [request]
                if fit.status != "ok":
                    raise TrainError(f"boosted weak head {number} diverged; lower its lr: {NAME}(teacher_lr=0.001)")
                said = context.shared.log_probs(fit, request)
            else:
                errors = {n: error_of(table[at], labels, weight) for n, table in left.items()}
                name = min(errors, key=lambda n: errors[n])
                said = left.pop(name).log_softmax(-1)
            error = error_of(said[at], labels, weight)
            vote = vote_of(error, k)
            if vote <= 0:
                break
            votes += vote * (one_hot(said.argmax(-1), k) if self.vote == "hard" else said.double().exp())
            details.append(
                {
                    "member": name,
                    "weight": vote,
                    "acc_weighted_d_train": 1 - error,
                    "acc_member": share_right(context, said, context.split.train),
                }
            )
            weight = reweighted(weight, said[at], labels, vote)
            if error == 0:
                break
        if not details:
            fix = f"or train longer: {NAME}(teacher_steps=3000)" if self.members == "boosted" else "or give others"
            raise TrainError(
                f"{context.task.data}: no weak model is better than chance on D_train; check its labels, {fix}"
            )
        p = votes / votes.sum(dim=1, keepdim=True)
        made = context.shared.supervision(p.clamp_min(TINY).log().float())
        request = FitRequest(supervision=made)
        (student,) = yield [request]
        details.append({"stage": "vote", "acc_vote": share_right(context, made.weak, context.split.train)})
        return Student(fit=student, request=request, details=tuple(details))

    def _member(self, context: Context, rows: Rows, weight: NDArray[np.float64], number: int) -> FitRequest:
        """A head to be fitted to D_train, whose rows weigh 1 in the mean."""
        features, batch = context.shared.weak_features(context.weak_seed), context.settings.batch_size or 512
        truth = context.shared.once(
            "truth of D_train", lambda: ground_truth(context.task.labels, len(context.task.classes))
        )
        table = torch.zeros(len(features))
        table[torch.from_numpy(rows)] = torch.from_numpy(weight * len(rows)).float()
        return FitRequest(
            supervision=Supervision(weak=truth.weak, weight=table, labels=truth.labels),
            head=Spec(name="linear"),
            loss=Spec(name="ce"),
            train=rows,
            settings={
                "epochs": math.ceil(self.teacher_steps / math.ceil(len(rows) / batch)),
                "lr": self.teacher_lr,
                "solver": "adam",
                "schedule": "linear(warmup=0.1)",
                "weight_decay": 0.0,
                "w_gt": 0.0,
            },
            features=features,
            scored=False,
            key=(NAME, context.weak_seed, number),
        )


NAME = "ensem_w2s_like"


def _d_train(context: Context, spec: str) -> tuple[Rows, NDArray[np.int64]]:
    """The labelled rows of D_train and their labels."""
    rows = context.split.weak_train
    labels = np.asarray(context.task.manifest.labels)[rows]
    if not (labels >= 0).any():
        raise UsageError(
            f"{context.task.data}: {spec} measures weak models on D_train, and the task has none with labels; mark it: "
            "Task.from_arrays(d_train=bool[N], encoders={'weak/0': X}, ...)"
        )
    return rows[labels >= 0], labels[labels >= 0]


def error_of(said: Tensor, labels: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    """The weight of rows whose argmax of f[n, k] is wrong, out of all weight."""
    wrong = said.argmax(-1).numpy() != labels
    return float(weight[wrong].sum() / weight.sum())


def vote_of(error: float, k: int) -> float:
    """log((1 - e) / e) + log(k - 1): positive if better than chance."""
    e = min(max(error, LEAST), 1 - LEAST)
    return math.log((1 - e) / e) + math.log(max(k - 1, 1))


def reweighted(
    weight: NDArray[np.float64], said: Tensor, labels: NDArray[np.int64], vote: float
) -> NDArray[np.float64]:
    """Weights exp(vote) times as large where wrong, summing to 1."""
    wrong = said.argmax(-1).numpy() != labels
    found = weight * np.exp(vote * wrong)
    return found / found.sum()
