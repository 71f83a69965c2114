"""Running arms: each supervision asks for its fits, and what many ask for at once is trained together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast import heads, losses
from w2s_fast.core.errors import UsageError
from w2s_fast.core.protocols import TextTower
from w2s_fast.core.specs import Spec, parse
from w2s_fast.data.splits import Split
from w2s_fast.heads import Start
from w2s_fast.methods import teaching
from w2s_fast.methods.arms import Arm
from w2s_fast.methods.features import Streaming, for_device
from w2s_fast.methods.references import zero_shot_prior
from w2s_fast.methods.settings import Settings
from w2s_fast.methods.task import Task
from w2s_fast.methods.teaching.desk import Desk
from w2s_fast.methods.teaching.teaching import Lesson, Lessons, Pupil, Rows, Taught
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
class _Course:
    """An arm under way: its supervision, and the fits of its present round."""

    arm: Arm
    split: Split
    lessons: Lessons
    asked: Sequence[Lesson] = ()
    fits: dict[int, Fit] = field(default_factory=dict[int, Fit])

    def go_on(self) -> Taught | None:
        """Hand over the round's fits (at first nothing): the end of the supervision, or None and a new round."""
        answer = [self.fits[n] for n in range(len(self.asked))]
        try:
            self.asked = list(self.lessons.send(answer) if self.asked else next(self.lessons))
        except StopIteration as stop:
            return stop.value
        if not self.asked:
            raise UsageError(f"supervision {self.arm.supervision} asks for no fit; yield at least one Lesson a round")
        self.fits = {}
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """One fit to be trained, and who waits for it: (place of the arm, place in its round)."""

    lesson: Lesson
    arm: Arm
    split: Split
    wanted: list[tuple[int, int]]

    @property
    def head(self) -> Spec:
        """The head that is fitted."""
        return self.lesson.head or self.arm.method.head

    def run(self, *, split: int, supervision: int) -> Run:
        """The engine's run of this lesson."""
        lesson, method = self.lesson, self.arm.method
        return run_of(
            self.head,
            lesson.loss or method.loss,
            replace(self.arm.settings, **lesson.settings),
            seed=self.arm.seed,
            split=split,
            supervision=supervision,
        )

    @property
    def key(self) -> Hashable:
        """What jobs have in common that are one and the same fit; None where nothing says that they are."""
        lesson, method = self.lesson, self.arm.method
        if lesson.key is None:
            return None
        loss = method.loss_identity if lesson.loss is None else lesson.loss
        settings = replace(self.arm.settings, **lesson.settings)
        return (lesson.key, self.head, loss, settings, self.arm.seed, self.split.digest, lesson.scored)


def run_arms(
    task: Task,
    arms: Sequence[Arm],
    of_seed: Mapping[int, Split],
    *,
    device: str,
    precision: str,
    stream: Streaming = None,
) -> Iterator[tuple[int, Taught]]:
    """(place in `arms`, what was taught) of each arm as it ends.

    Rounds of all arms go side by side; lessons of one key are fitted once.
    """
    desk = Desk(task, prior=_prior(task, arms))
    trainer = _Trainer(task, device=device, precision=precision, stream=stream)
    courses: list[_Course] = []
    for arm in arms:
        pupil = Pupil(
            task=task,
            split=of_seed[arm.seed],
            desk=desk,
            method=arm.method.name,
            supervision=arm.supervision,
            settings=arm.settings,
            seed=arm.seed,
            given_weak_seed=arm.weak_seed,
        )
        lessons = teaching.make(arm.method.supervision).lessons(pupil)
        courses.append(_Course(arm=arm, split=pupil.split, lessons=lessons))
    known: dict[Hashable, Fit] = {}
    waiting = list(range(len(courses)))
    while waiting:
        jobs: list[_Job] = []
        ended: list[tuple[int, Taught]] = []
        _ask(courses, waiting, jobs, known, ended)
        waiting = []
        yield from ended
        for job, fit in trainer.fits(jobs):
            if job.key is not None:
                known[job.key] = fit
            for index, place in job.wanted:
                course = courses[index]
                course.fits[place] = fit
                if len(course.fits) == len(course.asked):
                    taught = course.go_on()
                    if taught is None:
                        waiting.append(index)
                    else:
                        yield index, taught


def _prior(task: Task, arms: Sequence[Arm]) -> Tensor | None:
    """log softmax(logit_scale cos) f[N, k] where the loss of an arm reads it."""
    wanted = any("prior" in losses.make(arm.method.loss).needs for arm in arms)
    return zero_shot_prior(task) if wanted else None


def _ask(
    courses: Sequence[_Course],
    waiting: Iterable[int],
    jobs: list[_Job],
    known: Mapping[Hashable, Fit],
    ended: list[tuple[int, Taught]],
) -> None:
    """Fill `jobs` with what the waiting courses ask for, and `ended` with those to whom every fit is known already."""
    asked: dict[Hashable, _Job] = {}
    for index in waiting:
        course = courses[index]
        taught = None if course.asked else course.go_on()
        while taught is None:
            for place, lesson in enumerate(course.asked):
                job = _Job(lesson=lesson, arm=course.arm, split=course.split, wanted=[(index, place)])
                key = job.key
                if key is not None and key in known:
                    course.fits[place] = known[key]
                elif key is not None and key in asked:
                    asked[key].wanted.append((index, place))
                else:
                    jobs.append(job)
                    if key is not None:
                        asked[key] = job
            if len(course.fits) < len(course.asked):
                break
            taught = course.go_on()
        if taught is not None:
            ended.append((index, taught))


class _Trainer:
    """The engine with what all fits of one task share."""

    def __init__(self, task: Task, *, device: str, precision: str, stream: Streaming) -> None:
        self.task, self.device, self.precision = task, device, precision
        self.features = for_device(task.features, stream=stream, device=device)

    @cached_property
    def tower(self) -> TextTower | None:
        """The strong encoder's text tower; None where it has none."""
        return None if self.task.tower is None else self.task.tower()

    def fits(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, Fit]]:
        """The fit of each job as it is done; one call of the engine per table of features."""
        alike: dict[tuple[int, int], list[_Job]] = {}
        for job in jobs:
            alike.setdefault((id(job.lesson.features), id(job.lesson.text)), []).append(job)
        for members in alike.values():
            for fit in self._together(members):
                yield members[fit.index], fit

    def _together(self, jobs: Sequence[_Job]) -> Iterator[Fit]:
        task, first = self.task, jobs[0].lesson
        parts, supervisions = _Numbered(), _Numbered()
        runs = [
            job.run(
                split=parts.number(_part_key(job), lambda job=job: _part(job)),
                supervision=supervisions.number(id(job.lesson.supervision), lambda job=job: job.lesson.supervision),
            )
            for job in jobs
        ]
        features = self.features if first.features is None else first.features
        moved = first.features is not None
        through_text = [job for job in jobs if heads.find(job.head.name).needs_tower]
        if moved and through_text:
            one = through_text[0]
            raise UsageError(
                f"{one.arm.method.name}: head {one.head} learns through the text tower of {task.strong}, whose "
                f"features {one.arm.supervision} replaces by its own; take another head, such as linear or prototype"
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
            device=self.device,
            precision=self.precision,
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


def _part_key(job: _Job) -> Hashable:
    train = None if job.lesson.train is None else job.lesson.train.tobytes()
    return (job.arm.seed, job.lesson.scored, train)


def _part(job: _Job) -> _Part:
    train = job.split.train if job.lesson.train is None else job.lesson.train
    if not len(train):
        raise UsageError(
            f"{job.arm.method.name}, seed {job.arm.seed}: its supervision {job.arm.supervision} keeps no row to "
            "train on; let it keep more"
        )
    return _Part(train=train, val=job.split.val, test=job.split.test) if job.lesson.scored else _Part(train=train)


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


def outlined_runs(task: Task, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Run]:
    """Runs as large as those that the arms will ask for, for estimates; split = place in `seeds`.

    A supervision of several stages counts as so many runs of its student.
    """
    weak_seeds = sorted(task.weak_logits)
    runs: list[Run] = []
    for arm in arms:
        teacher = len(weak_seeds) if arm.ceiling else weak_seeds.index(arm.weak_seed or 0)
        one = run_of(
            arm.method.head,
            arm.method.loss,
            arm.settings,
            seed=arm.seed,
            split=seeds.index(arm.seed),
            supervision=teacher,
        )
        runs += [one] * teaching.make(arm.method.supervision).stages
    return runs


def threads_for(task: Task, arms: Sequence[Arm]) -> int:
    """One thread where a step's product is so small that threads would mostly wait for each other."""
    full = any(make_solver(arm.settings.solver).full_batch for arm in arms)
    rows = len(task.ids) if full else max((arm.settings.batch_size or 0) for arm in arms)
    largest = rows * task.width * len(task.classes)
    return torch.get_num_threads() if largest >= SHARED_PRODUCT else 1
