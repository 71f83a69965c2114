"""A study as it is run: 5 losses x 2 heads x 20 seeds x 6 drawn domains, against one loop after the other.

Both sides get the same: two processes of one thread each, domains dealt between them, tasks opened from the same cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
LOSSES = ("ce", "kd", "aux_conf", "aux_conf_argmax", "adapt_conf")
HEADS = ("linear", "prototype")
SAMPLE = 15
"""Fits of the loop that are timed; they cover every loss x head, and every domain."""
LOOP_FITS = 300


@dataclass(frozen=True, kw_only=True)
class Job:
    """One domain of the study, or one fit of the loop in it."""

    domain: str
    cache: str
    seeds: int = 0
    precision: str = "fp32"
    loss: str = ""
    head: str = ""
    seed: int = 0


def end_to_end(
    cache: str | Path, *, seeds: int, precision: str, processes: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Wall seconds of the study, and of the loop for 300 of its fits, scaled up from 15."""
    where = str(cache)
    before = time.perf_counter()
    for domain in DOMAINS:
        _open(domain, where)
    say(f"end to end: features are in the cache after {time.perf_counter() - before:.0f} s, which do not count")
    study = [Job(domain=domain, cache=where, seeds=seeds, precision=precision) for domain in DOMAINS]
    wall, counts = _in_pool(_study, study, processes)
    fits = sum(counts)
    say(f"end to end: {fits} fits in {wall:.1f} s")
    opening, _ = _in_pool(_opened, study, processes)
    pairs = [(loss, head) for loss in LOSSES for head in HEADS]
    sample = [
        Job(
            domain=DOMAINS[i % len(DOMAINS)],
            cache=where,
            loss=pairs[i % len(pairs)][0],
            head=pairs[i % len(pairs)][1],
            seed=i,
        )
        for i in range(SAMPLE)
    ]
    _, seconds = _in_pool(_loop, sample, processes)
    mean = sum(seconds) / len(seconds)
    loop = opening + LOOP_FITS * mean / processes
    say(f"end to end: the DataLoader loop would need {loop:.1f} s for {LOOP_FITS} ({mean:.2f} s each, {SAMPLE} timed)")
    return {
        "fits": fits,
        "losses": list(LOSSES),
        "heads": list(HEADS),
        "seeds": seeds,
        "domains": list(DOMAINS),
        "precision": precision,
        "processes": processes,
        "threads_each": 1,
        "engine_s": wall,
        "opening_s": opening,
        "loop_fits": LOOP_FITS,
        "loop_timed": SAMPLE,
        "loop_each_s": mean,
        "loop_s": loop,
        "fits_in_loop_time": fits * loop / wall,
        "passed": bool(wall <= loop) if fits >= 4 * LOOP_FITS else None,
    }


def _in_pool(work: Callable[[Job], Any], jobs: Sequence[Job], processes: int) -> tuple[float, list[Any]]:
    """Wall seconds with the start of the processes, and what every job returned."""
    start = time.perf_counter()
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = list(pool.map(work, jobs))
    return time.perf_counter() - start, found


def _open(domain: str, cache: str) -> Any:
    from w2s_fast.tasks.opening import open_task

    return open_task(f"drawn:{domain}", cache=cache, say=lambda _: None)


def _opened(job: Job) -> int:
    return len(_open(job.domain, job.cache).labels)


def _study(job: Job) -> int:
    """Every fit of a domain, scored against the references, as rows with predictions."""
    from w2s_fast.methods.fit import fit

    results = fit(
        _open(job.domain, job.cache),
        loss=list(LOSSES),
        head=list(HEADS),
        seeds=job.seeds,
        references=False,
        device="cpu",
        precision=job.precision,
    )
    return len({row.get("run_id") for row in results.rows})


def _loop(job: Job) -> float:
    """Seconds of one fit by the DataLoader loop; it evaluates val alone, the study val and test."""
    from benchmarks.heads_parts.loops import fit_loader
    from benchmarks.heads_parts.recipe import Recipe
    from benchmarks.heads_parts.worlds import Shape, World
    from w2s_fast.core.settings import Settings

    task = _open(job.domain, job.cache)
    split = task.splits(mode="rotate", seed=job.seed)
    rows = torch.cat([torch.as_tensor(part) for part in (split.train, split.val, split.test)])
    shape = Shape(
        case=job.domain,
        n_train=len(split.train),
        n_val=len(split.val),
        n_test=len(split.test),
        k=len(task.classes),
        d=task.features.shape[1],
    )
    weak = task.weak_logits[sorted(task.weak_logits)[job.seed % len(task.weak_logits)]]
    labels = torch.as_tensor(task.labels)
    world = World(
        shape=shape, x=task.features[rows].float(), truth=labels[rows], weak=weak[rows].float(), text=task.text
    )
    settings = Settings().resolved(task.manifest.defaults)
    recipe = Recipe(loss=job.loss, head=job.head, epochs=settings.epochs or 10, batch_size=settings.batch_size or 512)
    start = time.perf_counter()
    fit_loader(world, recipe, seed=job.seed)
    return time.perf_counter() - start
