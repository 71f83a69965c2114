"""Running trials: each supervision asks for its fits, and what many ask for at once is trained together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast import heads, losses, supervisions
from w2s_fast.core.errors import UsageError
from w2s_fast.core.protocols import TextTower
from w2s_fast.core.settings import Settings
from w2s_fast.core.specs import Spec, parse
from w2s_fast.data.splits import Split
from w2s_fast.heads import Start
from w2s_fast.methods.options import ComputeOptions
from w2s_fast.methods.plan import Trial
from w2s_fast.supervisions.context import Context, SharedCache
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.tasks.features import for_device
from w2s_fast.tasks.references import zero_shot_prior
from w2s_fast.tasks.task import Task
from w2s_fast.train import Fit, Run, fit_heads
from w2s_fast.train.solver import make_solver
from w2s_fast.train.stream import Stream

SHARED_PRODUCT = 1 << 24
"""Multiplications of a step (batch x width x classes) from which several threads share it."""


def _no_rows() -> Rows:
    return np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The rows of one fit; `val` and `test` are empty where nobody reads them."""

    train: Rows
    val: Rows = field(default_factory=_no_rows)
    test: Rows = field(default_factory=_no_rows)


@dataclass(kw_only=True, eq=False)
class _Ongoing:
    """A trial under way: its supervision, and the fits of its present round."""

    trial: Trial
    split: Split
    requests: FitRequests
    asked: Sequence[FitRequest] = ()
    fits: dict[int, Fit] = field(default_factory=dict[int, Fit])

    def go_on(self) -> Student | None:
        """Hand over the round's fits (at first nothing): the end of the supervision, or None and a new round."""
        answer = [self.fits[n] for n in range(len(self.asked))]
        try:
            self.asked = list(self.requests.send(answer) if self.asked else next(self.requests))
        except StopIteration as stop:
            return stop.value
        if not self.asked:
            raise UsageError(f"supervision {self.trial.supervision} asks for no fit; yield at least one Lesson a round")
        self.fits = {}
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _PendingFit:
    """One fit to be trained, and who waits for it: (place of the trial, place in its round)."""

    request: FitRequest
    trial: Trial
    split: Split
    wanted: list[tuple[int, int]]

    @property
    def head(self) -> Spec:
        """The head that is fitted."""
        return self.request.head or self.trial.method.head

    def run(self, *, split: int, supervision: int) -> Run:
        """The engine's run of this request."""
        request, method = self.request, self.trial.method
        return run_of(
            self.head,
            request.loss or method.loss,
            replace(self.trial.settings, **request.settings),
            seed=self.trial.seed,
            split=split,
            supervision=supervision,
        )

    @property
    def key(self) -> Hashable:
        """What jobs have in common that are one and the same fit; None where nothing says that they are."""
        request, method = self.request, self.trial.method
        if request.key is None:
            return None
        loss = method.loss_identity if request.loss is None else request.loss
        settings = replace(self.trial.settings, **request.settings)
        return (request.key, self.head, loss, settings, self.trial.seed, self.split.digest, request.scored)


def run_trials(
    task: Task,
    trials: Sequence[Trial],
    of_seed: Mapping[int, Split],
    *,
    compute: ComputeOptions,
) -> Iterator[tuple[int, Student]]:
    """(place in `trials`, what was taught) of each trial as it ends.

    Rounds of all trials go side by side; fit requests of one key are fitted once.
    """
    shared = SharedCache(task, prior=_prior(task, trials))
    trainer = _Trainer(task, compute)
    ongoing_all: list[_Ongoing] = []
    for trial in trials:
        context = Context(
            task=task,
            split=of_seed[trial.seed],
            shared=shared,
            method=trial.method.name,
            supervision=trial.supervision,
            settings=trial.settings,
            seed=trial.seed,
            given_weak_seed=trial.weak_seed,
        )
        requests = supervisions.make(trial.method.supervision).requests(context)
        ongoing_all.append(_Ongoing(trial=trial, split=context.split, requests=requests))
    known: dict[Hashable, Fit] = {}
    waiting = list(range(len(ongoing_all)))
    while waiting:
        jobs: list[_PendingFit] = []
        ended: list[tuple[int, Student]] = []
        _ask(ongoing_all, waiting, jobs, known, ended)
        waiting = []
        yield from ended
        for job, fit in trainer.fits(jobs):
            if job.key is not None:
                known[job.key] = fit
            for index, place in job.wanted:
                ongoing = ongoing_all[index]
                ongoing.fits[place] = fit
                if len(ongoing.fits) == len(ongoing.asked):
                    student = ongoing.go_on()
                    if student is None:
                        waiting.append(index)
                    else:
                        yield index, student


def _prior(task: Task, trials: Sequence[Trial]) -> Tensor | None:
    """log softmax(logit_scale cos) f[N, k] where the loss of a trial reads it."""
    wanted = any("prior" in losses.make(trial.method.loss).needs for trial in trials)
    return zero_shot_prior(task) if wanted else None


def _ask(
    ongoing_all: Sequence[_Ongoing],
    waiting: Iterable[int],
    jobs: list[_PendingFit],
    known: Mapping[Hashable, Fit],
    ended: list[tuple[int, Student]],
) -> None:
    """Fill `jobs` with what the waiting courses ask for, and `ended` with those to whom every fit is known already."""
    asked: dict[Hashable, _PendingFit] = {}
    for index in waiting:
        ongoing = ongoing_all[index]
        student = None if ongoing.asked else ongoing.go_on()
        while student is None:
            for place, request in enumerate(ongoing.asked):
                job = _PendingFit(request=request, trial=ongoing.trial, split=ongoing.split, wanted=[(index, place)])
                key = job.key
                if key is not None and key in known:
                    ongoing.fits[place] = known[key]
                elif key is not None and key in asked:
                    asked[key].wanted.append((index, place))
                else:
                    jobs.append(job)
                    if key is not None:
                        asked[key] = job
            if len(ongoing.fits) < len(ongoing.asked):
                break
            student = ongoing.go_on()
        if student is not None:
            ended.append((index, student))


class _Trainer:
    """The engine with what all fits of one task share."""

    def __init__(self, task: Task, compute: ComputeOptions) -> None:
        self.task, self.compute = task, compute
        self.features = for_device(task.features, stream=compute.stream, device=compute.device)

    @cached_property
    def tower(self) -> TextTower | None:
        """The strong encoder's text tower; None where it has none."""
        return None if self.task.tower is None else self.task.tower()

    def fits(self, jobs: Sequence[_PendingFit]) -> Iterator[tuple[_PendingFit, Fit]]:
        """The fit of each job as it is done; one call of the engine per table of features."""
        alike: dict[tuple[int, int], list[_PendingFit]] = {}
        for job in jobs:
            alike.setdefault((id(job.request.features), id(job.request.text)), []).append(job)
        for members in alike.values():
            for fit in self._together(members):
                yield members[fit.index], fit

    def _together(self, jobs: Sequence[_PendingFit]) -> Iterator[Fit]:
        task, first = self.task, jobs[0].request
        parts, supervisions = _Numbered(), _Numbered()
        runs = [
            job.run(
                split=parts.number(_part_key(job), lambda job=job: _part(job)),
                supervision=supervisions.number(id(job.request.supervision), lambda job=job: job.request.supervision),
            )
            for job in jobs
        ]
        features = self.features if first.features is None else first.features
        moved = first.features is not None
        through_text = [job for job in jobs if heads.find(job.head.name).needs_tower]
        if moved and through_text:
            one = through_text[0]
            raise UsageError(
                f"{one.trial.method.name}: head {one.head} learns through the text tower of {task.strong}, whose "
                f"features {one.trial.supervision} replaces by its own; take another head, such as linear or prototype"
            )
        start = Start(
            k=len(task.classes),
            d=features.d if isinstance(features, Stream) else features.shape[1],
            names=task.classes,
            text=first.text if moved else task.text,
            tower=self.tower if through_text else None,
        )
        return fit_heads(
            features,
            runs,
            splits=parts.values,
            supervisions=supervisions.values,
            start=start,
            truth=task.labels,
            **self.compute.of_engine(),
        )


class _Numbered:
    """Values by their keys, numbered in the order in which they come."""

    def __init__(self) -> None:
        self._places: dict[Hashable, int] = {}
        self.values: list[Any] = []

    def number(self, key: Hashable, make: Callable[[], Any]) -> int:
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(make())
        return self._places[key]


def _part_key(job: _PendingFit) -> Hashable:
    train = None if job.request.train is None else job.request.train.tobytes()
    return (job.trial.seed, job.request.scored, train)


def _part(job: _PendingFit) -> _Part:
    train = job.split.train if job.request.train is None else job.request.train
    if not len(train):
        raise UsageError(
            f"{job.trial.method.name}, seed {job.trial.seed}: its supervision {job.trial.supervision} keeps no row to "
            "train on; let it keep more"
        )
    return _Part(train=train, val=job.split.val, test=job.split.test) if job.request.scored else _Part(train=train)


def run_of(head: Spec, loss: Any, settings: Settings, *, seed: int, split: int, supervision: int) -> Run:
    """The engine's run of a head and a loss under some settings."""
    return Run(
        head=head,
        loss=loss,
        solver=parse(settings.solver),
        schedule=parse(settings.schedule),
        seed=seed,
        epochs=settings.epochs or 10,
        batch_size=settings.batch_size or 512,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        w_gt=settings.w_gt,
        split=split,
        supervision=supervision,
    )


def outlined_runs(task: Task, trials: Sequence[Trial], seeds: Sequence[int]) -> list[Run]:
    """Runs as large as those that the trials will ask for, for estimates; split = place in `seeds`.

    A supervision of several stages counts as so many runs of its student.
    """
    weak_seeds = sorted(task.weak_logits)
    runs: list[Run] = []
    for trial in trials:
        teacher = len(weak_seeds) if trial.ceiling else weak_seeds.index(trial.weak_seed or 0)
        one = run_of(
            trial.method.head,
            trial.method.loss,
            trial.settings,
            seed=trial.seed,
            split=seeds.index(trial.seed),
            supervision=teacher,
        )
        runs += [one] * supervisions.make(trial.method.supervision).stages
    return runs


def threads_for(task: Task, trials: Sequence[Trial]) -> int:
    """One thread where a step's product is so small that threads would mostly wait for each other."""
    full = any(make_solver(trial.settings.solver).full_batch for trial in trials)
    rows = len(task.ids) if full else max((trial.settings.batch_size or 0) for trial in trials)
    largest = rows * task.width * len(task.classes)
    return torch.get_num_threads() if largest >= SHARED_PRODUCT else 1
