"""Selection: a student learns the weak labels of those rows of hold-train only that a rule trusts."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from w2s_fast.core.errors import TrainError
from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import share_right, weak_probs
from w2s_fast.supervisions.strategy import Strategy
from w2s_fast.train import Fit

Chosen = tuple[NDArray[np.bool_], Mapping[str, Any]]
"""bool[n] over the rows of hold-train, and what else is to be logged."""
Choosing = Generator[Sequence[FitRequest], Sequence[Fit], Chosen]


@dataclass(frozen=True, kw_only=True)
class Selection(Strategy):
    """A rule that chooses rows; subclass it and write `chosen`.

    equal_iterations: the student takes int(E / share kept) epochs, so as many steps as on all rows; else E.
    """

    equal_iterations: bool = True

    def chosen(self, context: Context) -> Choosing:
        """Which rows of hold-train are kept; it may ask for fits."""
        raise NotImplementedError

    def requests(self, context: Context) -> FitRequests:
        kept, more = yield from self.chosen(context)
        train = context.split.train
        rows = train[kept]
        epochs = context.epochs(len(rows) if self.equal_iterations else len(train))
        request = FitRequest(supervision=context.weak, train=rows, settings={"epochs": epochs})
        (fit,) = yield [request]
        right = (context.weak.label(torch.from_numpy(train)) == context.task.labels[torch.from_numpy(train)]).numpy()
        told = {
            "stage": "kept",
            "n_kept": len(rows),
            "keep_rate": len(rows) / len(train),
            "epochs": epochs,
            **more,
            "acc_weak": share_right(context, context.weak.weak, train),
            "precision_kept": share_right(context, context.weak.weak, rows),
            "recall_kept": float(right[kept].sum() / right.sum()) if right.any() else None,
        }
        return Student(fit=fit, request=request, details=(told,))


@dataclass(frozen=True, kw_only=True)
class Ranked(Selection):
    """A rule that ranks rows and keeps a share; write `trust`.

    keep: the share, at least one row; of equals the earlier.
    per_class: the share is of the rows of each weak label, so that no class is left out.
    """

    keep: float = 0.9
    per_class: bool = False

    limits: ClassVar[Limits] = {"keep": "(0, 1]"}

    def trust(self, context: Context) -> Generator[Sequence[FitRequest], Sequence[Fit], NDArray[np.float64]]:
        """How far each row of hold-train is trusted, f64[n]."""
        raise NotImplementedError

    def chosen(self, context: Context) -> Choosing:
        score = yield from self.trust(context)
        label = context.weak.label(torch.from_numpy(context.split.train)).numpy()
        return foremost(score, self.keep, label if self.per_class else None), {}


@dataclass(frozen=True, kw_only=True)
class ByConfidence(Ranked):
    """The rows of which the weak model is surest, by max p_w: the first `keep`, or those at or above a threshold.

    threshold: keeps what is at least that sure, in place of a share.
    """

    threshold: float | None = None

    limits: ClassVar[Limits] = {**Ranked.limits, "threshold": "[0, 1]"}
    source: ClassVar[str] = "Lee 2013, pseudo-labels by confidence; Sohn et al. 2020, FixMatch (arXiv 2001.07685)"
    equation: ClassVar[str] = "rows with the largest max_c w_c"
    verified: ClassVar[bool] = True

    def trust(self, context: Context) -> Generator[Sequence[FitRequest], Sequence[Fit], NDArray[np.float64]]:
        yield from ()
        return weak_probs(context, context.split.train).amax(-1).numpy()

    def chosen(self, context: Context) -> Choosing:
        if self.threshold is None:
            return (yield from Ranked.chosen(self, context))
        return (yield from self.trust(context)) >= self.threshold, {}


@dataclass(frozen=True, kw_only=True)
class BySmallLoss(Ranked):
    """The rows whose weak label costs a first student least, -log p[argmax w]; a fresh student then learns those.

    first: the part of the epochs that the first student is trained for, as noise is learned last.

    The first student has the run's head, loss and settings. CSL ranks in the same way, but by the student of its last
    level.
    """

    first: float = 1.0

    limits: ClassVar[Limits] = {**Ranked.limits, "first": "(0, 1]"}
    source: ClassVar[str] = (
        "Han et al. 2018, co-teaching (arXiv 1804.06872), its small-loss trick; Liu & Alahi 2024 (arXiv 2402.15505)"
    )
    equation: ClassVar[str] = "rows with the smallest -log p_first[argmax w]"
    verified: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 2

    def trust(self, context: Context) -> Generator[Sequence[FitRequest], Sequence[Fit], NDArray[np.float64]]:
        epochs = max(1, math.floor((context.settings.epochs or 10) * self.first + 1e-9))
        key = ("small loss", context.weak_seed)
        request = FitRequest(supervision=context.weak, settings={"epochs": epochs}, scored=False, key=key)
        (first,) = yield [request]
        if first.status != "ok":
            raise TrainError(f"{context.method}: the first student diverged; lower lr (--set lr=...)")
        at = torch.from_numpy(context.split.train)
        said = context.shared.log_probs(first, request)[at].double()
        return said.gather(1, context.weak.label(at).unsqueeze(1)).squeeze(1).numpy()


@dataclass(frozen=True, kw_only=True)
class ByNeighbours(Ranked):
    """The rows whose weak label is nearest to the mean of their nearest neighbours' among strong features.

    k: neighbours, by cosine, the row itself left out.

    Nearness is the total variation between the row's weak probabilities and its neighbours' mean; for two classes the
    published |y - mean y|. There rows are compared by Euclidean distance of hidden states, here of unit features.
    """

    k: int = 50

    limits: ClassVar[Limits] = {**Ranked.limits, "k": "[1, inf)"}
    source: ClassVar[str] = (
        "EleutherAI 2024, blog.eleuther.ai/weak-to-strong; github.com/EleutherAI/w2s, commit not at hand (zeta_filter)"
    )
    equation: ClassVar[str] = "rows with the smallest 1/2 sum_c |w_c - mean over k neighbours of w_c|"
    verified: ClassVar[bool] = True

    def trust(self, context: Context) -> Generator[Sequence[FitRequest], Sequence[Fit], NDArray[np.float64]]:
        yield from ()
        rows = context.split.train
        p, total = weak_probs(context, rows), min(self.k, len(rows) - 1)
        near, _ = neighbours(context.shared.features()[torch.from_numpy(rows)], k=total)
        mean = torch.zeros_like(p)
        for place in range(total):  # one neighbour at a time: [n, k, classes] at once may not fit
            mean += p[near[:, place]]
        return -(p - mean / total).abs().sum(-1).div(2).numpy()


@dataclass(frozen=True, kw_only=True)
class AtRandom(Ranked):
    """Rows drawn at random: the control of equal size for every other rule. The draw is the run seed's."""

    source: ClassVar[str] = "control"
    equation: ClassVar[str] = "rows drawn uniformly, without replacement"
    verified: ClassVar[bool] = True

    def trust(self, context: Context) -> Generator[Sequence[FitRequest], Sequence[Fit], NDArray[np.float64]]:
        yield from ()
        draw = context.generator("select_random")
        return torch.rand(len(context.split.train), dtype=torch.float64, generator=draw).numpy()


def foremost(score: NDArray[np.float64], keep: float, label: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """bool[n], true for the ceil(keep n) largest scores, of each label where labels i[n] are given."""
    kept = np.zeros(len(score), np.bool_)
    groups = [np.arange(len(score))] if label is None else [np.flatnonzero(label == c) for c in np.unique(label)]
    for rows in groups:
        order = rows[np.argsort(-score[rows], kind="stable")]
        # without the margin, .7 * 10 is 7.000000000000001 and would keep eight
        kept[order[: math.ceil(keep * len(rows) - 1e-9)]] = True
    return kept
