"""The weak-to-strong protocol: fit methods and ceilings over seeds, score them, keep their predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from w2s_fast import losses
from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.core.errors import UsageError, W2SError, nearest
from w2s_fast.data.splits import MODES
from w2s_fast.methods.outcomes import asked, outcome_of
from w2s_fast.methods.plan import plan_trials
from w2s_fast.methods.resolve import resolve
from w2s_fast.methods.run import run_trials, threads_for
from w2s_fast.results.results import Results
from w2s_fast.results.scoring import score
from w2s_fast.supervisions.fit_request import Student
from w2s_fast.tasks.features import Streaming
from w2s_fast.tasks.task import Task


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
    methods = resolve(method, loss, head, supervision)
    trials = plan_trials(task, methods, seeds=seeds, references=references, grid=grid)
    if split not in MODES:
        raise UsageError(f"unknown split {split!r}{nearest(split, MODES)}")
    of_seed = {seed: task.splits(mode=split, seed=seed) for seed in sorted({trial.seed for trial in trials})}
    place = pick_device(device)
    done: dict[int, Student] = {}

    def finished() -> Results:
        outcomes = [
            outcome_of(task, trial, done[i], of_seed[trial.seed], mode=split, precision=precision)
            for i, trial in enumerate(trials)
            if i in done
        ]
        return score(task, outcomes, mode=split, device=place, asked=asked(trials, of_seed))

    try:
        with threads(threads_for(task, trials)):
            for index, student in run_trials(task, trials, of_seed, device=place, precision=precision, stream=stream):
                done[index] = student
                if on_progress is not None:
                    on_progress(len(done), len(trials))
    except (KeyboardInterrupt, W2SError):
        if done and on_cut is not None:
            on_cut(finished())
        raise
    return finished()
