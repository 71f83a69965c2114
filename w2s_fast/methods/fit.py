"""The weak-to-strong protocol: fit methods and ceilings over seeds, score them, keep their predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from w2s_fast import losses
from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.core.errors import W2SError
from w2s_fast.core.options import keys_of, read_options
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.methods.outcomes import asked, outcome_of
from w2s_fast.methods.plan import Plan
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
) -> Results:
    """`fit` of what is resolved already."""
    trials = plan.trials(task)
    of_seed = {seed: task.splits(mode=plan.split, seed=seed) for seed in sorted({trial.seed for trial in trials})}
    compute = replace(compute, device=pick_device(compute.device))
    done: dict[int, Student] = {}

    def finished() -> Results:
        outcomes = [
            outcome_of(task, trial, done[i], of_seed[trial.seed], mode=plan.split, precision=compute.precision)
            for i, trial in enumerate(trials)
            if i in done
        ]
        return score(task, outcomes, mode=plan.split, device=compute.device, asked=asked(trials, of_seed))

    try:
        with threads(threads_for(task, trials)):
            for index, student in run_trials(task, trials, of_seed, compute=compute):
                done[index] = student
                if on_progress is not None:
                    on_progress(len(done), len(trials))
    except (KeyboardInterrupt, W2SError):
        if done and on_cut is not None:
            on_cut(finished())
        raise
    return finished()
