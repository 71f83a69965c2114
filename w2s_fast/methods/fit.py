"""The weak-to-strong protocol: fit methods and ceilings over seeds, score them, keep their predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from w2s_fast import losses
from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.core.errors import W2SError
from w2s_fast.core.options import keys_of, read_options
from w2s_fast.data.splits import Split
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.methods.outcomes import asked, outcome_of
from w2s_fast.methods.plan import Plan, Trial
from w2s_fast.methods.run import run_trials, threads_for
from w2s_fast.results.measures import References
from w2s_fast.results.outcome import Outcome
from w2s_fast.results.results import Results
from w2s_fast.results.scoring import score
from w2s_fast.supervisions.fit_request import Student
from w2s_fast.tasks.features import Streaming
from w2s_fast.tasks.task import Task

EVERY = 10.0
"""Seconds between two times that finished runs are handed over to be written."""


def fit(
    task: Task,
    *,
    method: str | Sequence[str] | None = None,
    loss: str | losses.Loss | Callable[..., Any] | Sequence[Any] | None = None,
    head: str | Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    split: str = "rotate",
    supervision: str | Sequence[str] | None = None,
    references: bool = True,
    device: str = "auto",
    precision: str = "fp32",
    stream: Streaming = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_cut: Callable[[Results], None] | None = None,
    **grid: Any,
) -> Results:
    """Fit methods (or loss x head) over `seeds` (a count, or the seeds themselves) and return rows and predictions.

    `supervision` says who teaches (all: w2s-fast supervisions); None is each method's own, which most have from one
    weak model. `grid` sets epochs, batch_size, lr, weight_decay, solver, schedule, init, tau_s, ...; a list is an axis.
    Ceilings (linear and prototype heads on ground truth) are always fitted unless `references` is false. Where Ctrl-C
    or an error cuts the fits short, `on_cut` is given the results of those that are done before it is raised.
    stream: whether features are streamed to the device (a number: so many rows shuffled together) or lie on it whole;
    None takes what fits.
    Raises `UsageError` for unknown names, `MissingText` for text init without text, `DataError` for unusable splits.
    """
    given: dict[str, Any] = {
        "method": method,
        "loss": loss,
        "head": head,
        "seeds": seeds,
        "split": split,
        "supervision": supervision,
        "references": references,
        "device": device,
        "precision": precision,
        "stream": stream,
    }
    known = keys_of(FitOptions, ComputeOptions)
    given |= {key: grid.pop(key) for key in list(grid) if key in known}
    read = read_options({**given, "settings": grid}, (FitOptions, ComputeOptions))
    plan, compute = Plan.of(read[FitOptions]), read[ComputeOptions]
    return fit_plan(task, plan, compute=compute, on_progress=on_progress, on_cut=on_cut)


def fit_plan(
    task: Task,
    plan: Plan,
    *,
    compute: ComputeOptions,
    on_progress: Callable[[int, int], None] | None = None,
    on_cut: Callable[[Results], None] | None = None,
    on_final: Callable[[Results], object] | None = None,
    every: float = EVERY,
) -> Results:
    """`fit` of what is resolved already.

    on_final: given the results of runs while others go on, as soon as nothing can change their rows any more (the
    ceilings of their seed have ended), so that they can be written; at most once in `every` seconds, and not of the
    last ones, which are returned with all others.
    """
    trials = plan.trials(task)
    of_seed = {seed: task.splits(mode=plan.split, seed=seed) for seed in sorted({trial.seed for trial in trials})}
    compute = replace(compute, device=pick_device(compute.device))
    done = _Done(task, plan, trials, of_seed, compute)
    last = time.monotonic()
    try:
        with threads(threads_for(task, trials)):
            for index, student in run_trials(task, trials, of_seed, compute=compute):
                done.add(index, student)
                if on_progress is not None:
                    on_progress(len(done.outcomes), len(trials))
                if on_final is not None and time.monotonic() - last >= every and (final := done.final()):
                    on_final(done.results(final))
                    last = time.monotonic()
    except (KeyboardInterrupt, W2SError):
        if done.outcomes and on_cut is not None:
            on_cut(done.results())
        raise
    return done.results()


class _Done:
    """The outcomes of a plan on one task so far."""

    def __init__(
        self, task: Task, plan: Plan, trials: Sequence[Trial], of_seed: Mapping[int, Split], compute: ComputeOptions
    ) -> None:
        self.task, self.plan, self.trials, self.of_seed, self.compute = task, plan, trials, of_seed, compute
        self.asked = asked(trials, of_seed)
        self.outcomes: dict[int, Outcome] = {}
        self._told: set[int] = set()

    @cached_property
    def references(self) -> References:
        """Those of the task."""
        return References(self.task)

    def add(self, index: int, student: Student) -> None:
        """Note that a trial has ended."""
        trial = self.trials[index]
        self.outcomes[index] = outcome_of(
            self.task,
            trial,
            student,
            self.of_seed[trial.seed],
            mode=self.plan.split,
            precision=self.compute.precision,
        )

    def final(self) -> list[Outcome]:
        """Those that were not told before and whose rows no other run can change."""
        open_seeds = {t.seed for n, t in enumerate(self.trials) if t.ceiling and n not in self.outcomes}
        new = [n for n, one in self.outcomes.items() if n not in self._told and one.seed not in open_seeds]
        self._told.update(new)
        return [self.outcomes[n] for n in sorted(new)]

    def results(self, wanted: Sequence[Outcome] | None = None) -> Results:
        """The results of all that have ended, or of some of them, in the order in which they were asked for."""
        return score(
            self.task,
            [self.outcomes[n] for n in sorted(self.outcomes)],
            mode=self.plan.split,
            device=self.compute.device,
            asked=self.asked,
            wanted=wanted,
            references=self.references,
        )
