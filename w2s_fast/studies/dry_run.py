"""What a study would fit, before anything is extracted or trained: groups of stacks, memory, estimated seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast.backbones import may_have_text, open_encoder
from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.core.paths import cache_root
from w2s_fast.core.protocols import TextTower
from w2s_fast.data.repeats import without_repeats
from w2s_fast.data.splits import Split
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.methods.run import outlined_runs, threads_for
from w2s_fast.store.bank import open_bank
from w2s_fast.store.refs import extract_command, read_ref
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.opening import readable
from w2s_fast.tasks.pooling import pool_tasks
from w2s_fast.tasks.task import Task
from w2s_fast.train.estimate import estimate
from w2s_fast.train.gemm import PRECISIONS
from w2s_fast.train.plan import group, stack_key
from w2s_fast.train.run import Setup
from w2s_fast.train.run import resolve as resolved


@dataclass(frozen=True, kw_only=True)
class Group:
    """Stacks of one head, batch size and solver on one task. bytes: of its widest stack; seconds: of all, estimated."""

    data: str
    strong: str
    weak: str
    head: str
    losses: dict[str, int]
    solver: str
    batch_size: int | None
    precision: str
    runs: int
    widths: tuple[int, ...]
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A bank that is not extracted yet, and the command that makes it."""

    data: str
    model: str
    command: str


def dry_run(experiment: Experiment) -> Iterator[Group | Missing]:
    """The groups that a study of the experiment would train, and before them the banks that it would extract first.

    Reads manifests and the metadata of banks; no image, no weights are read. Where a bank is missing, row numbers come
    from the manifest and widths from an untrained encoder. Errors are those of `Study`.
    """
    Study.of(experiment, listed=True)
    plan, compute = experiment.plan, experiment.compute
    device = pick_device(compute.device)
    for several, strong, weak in experiment.points():
        outlined = [outline(experiment, data, strong=strong, weak=weak) for data in several]
        for _, missing in outlined:
            yield from missing
        tasks = [task for task, _ in outlined]
        task = pool_tasks(tasks) if experiment.data.pool else tasks[0]
        trials = plan.trials(task)
        seeds = sorted({trial.seed for trial in trials})
        splits = [task.splits(mode=plan.split, seed=seed) for seed in seeds]
        setups = [resolved(i, run) for i, run in enumerate(outlined_runs(task, trials, seeds))]
        with threads(threads_for(task, trials)):
            yield from _groups(task, setups, splits, device=device, precision=compute.precision)


def _groups(
    task: Task, setups: Sequence[Setup], splits: Sequence[Split], *, device: str, precision: str
) -> Iterator[Group]:
    k, d, place = len(task.classes), task.width, torch.device(device)
    alike: dict[Any, list[list[Setup]]] = {}
    for stack in group(setups, d=d, k=k, device=place):
        alike.setdefault(stack_key(stack[0]), []).append(stack)
    for stacks in alike.values():
        costs = [
            estimate(
                stack,
                n_train=len(splits[stack[0].run.split].train),
                scored=len(splits[stack[0].run.split].val) + len(splits[stack[0].run.split].test),
                d=d,
                k=k,
                precision=PRECISIONS[precision],
                device=place,
            )
            for stack in stacks
        ]
        members = [setup for stack in stacks for setup in stack]
        first = members[0]
        yield Group(
            data=task.data,
            strong=task.strong,
            weak=task.weak,
            head=" / ".join(dict.fromkeys(str(s.run.head) for s in members)),
            losses=dict(Counter(s.label for s in members)),
            solver=str(first.run.solver),
            batch_size=None if first.solver.full_batch else first.run.batch_size,
            precision=precision,
            runs=len(members),
            widths=tuple(map(len, stacks)),
            bytes=max(cost.bytes for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
        )


def outline(experiment: Experiment, data: str, *, strong: str, weak: str) -> tuple[Task, list[Missing]]:
    """The task without its numbers (tensors on torch's `meta` device), and which of its banks are missing."""
    options, models = experiment.extraction, experiment.models
    cache = cache_root(experiment.cache)

    def there(model: str, name: str = data) -> bool:
        return read_ref(cache, model=model, data=name, options=options.in_key()) is not None

    # by path where no bank tells that the images were hashed before: their number is the same
    manifest = experiment.open_manifest(data, identity=None if there(strong) else "path")
    if experiment.data.drop_repeats:
        manifest, _ = without_repeats(manifest)
    teachers = supervisors.unchecked(weak, manifest, data=data, cache=cache, count=models.weak_seeds)
    asked = {strong: strong, **dict.fromkeys(teachers.values(), weak)}
    for name in models.teachers:
        for model in supervisors.expand(name, manifest, data=data, cache=cache):
            asked.setdefault(model, name)
    absent = [model for model in asked if not there(model)]
    missing = [
        Missing(data=data, model=model, command=extract_command(model, data, options.in_key(), cache=cache))
        for model in dict.fromkeys(asked[one] for one in absent)
    ]
    banks = [open_bank(model, data, cache=cache, options=options.in_key()) for model in asked if model not in absent]
    if strong not in absent:
        manifest = readable(manifest, banks, drop_failed=experiment.data.drop_failed, cache=cache)
        d = banks[0].dim
    else:
        d = open_encoder(strong, data=data, cache=cache, random_weights=True, allow_mismatch=True).dim
    n, k = len(manifest.ids), len(manifest.classes)
    text, note = _text(experiment.data.templates, strong, manifest.classes, d=d, cache=cache, options=options)
    task = Task(
        manifest=manifest,
        features=_nothing(n, d),
        weak_logits={seed: _nothing(n, k) for seed in teachers},
        text=text,
        text_note=note,
        tower=None if text is None else partial(_unopened, strong),
        data=data,
        paired=models.weak_seeds is None and supervisors.paired(weak, data),
        weak=weak,
        strong=strong,
    )
    return task, missing


def _text(
    templates: tuple[str, ...], strong: str, classes: Sequence[str], *, d: int, cache: Path, options: ExtractOptions
) -> tuple[Tensor | None, str | None]:
    """A stand-in for the text features, or why there are none; an encoder that was never opened may have them."""
    from w2s_fast.extract.text import Prompts, known_textless

    if not may_have_text(strong):
        return None, f"n/a: {strong} has no text tower"
    prompts = Prompts(classes=tuple(classes), templates=templates)
    reason = known_textless(strong, prompts, options=options, cache=cache)
    return (_nothing(len(classes), d), None) if reason is None else (None, f"n/a: {reason}")


def _unopened(strong: str) -> TextTower:
    raise NotImplementedError(f"a dry run opens no text tower ({strong})")


def _nothing(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def totals(groups: Sequence[Group]) -> Mapping[str, Any]:
    """Runs, stacks, the largest memory and the seconds of all groups."""
    return {
        "runs": sum(g.runs for g in groups),
        "stacks": sum(len(g.widths) for g in groups),
        "bytes": int(np.max([g.bytes for g in groups], initial=0)),
        "seconds": float(sum(g.seconds for g in groups)),
    }
