"""Stage 3: runs an hour of the head engine by task, loss, precision and number of runs, beside floors and a loop."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts import engine
from benchmarks.heads_parts.floors import Rates, cuda_floor, cuda_rates
from benchmarks.heads_parts.loops import VARIANTS, fit_resident
from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.timing import median, spread, timed
from benchmarks.heads_parts.worlds import Shape, World, make_world

Question = tuple[Shape, str, str, int]
MAIN = 64
"""Runs of a call that are measured for every task, loss and precision; the other counts for KD and CPL."""


def stage(settings: Settings) -> dict[str, Any]:
    """One row per question, the most wanted first, until the stage's time is over; what is left out is counted."""
    rates = None
    if settings.device == "cuda":
        rates = cuda_rates(tries=5) if settings.rates is None else Rates(**settings.rates)
    rows: list[dict[str, Any]] = []
    settings.into["rows"] = rows
    worlds: dict[tuple[str, int], World] = {}
    loops: dict[tuple[str, int, str], float] = {}
    left_out: list[str] = []
    for shape, loss, precision, count in questions(settings):
        if settings.left <= 0 and rows:
            left_out.append(f"{shape.case} d {shape.d}, {loss}, {precision}, R = {count}")
            continue
        key = (shape.case, shape.d)
        if key not in worlds:
            worlds.clear()
            _emptied(settings)
            worlds[key] = make_world(shape).to(settings.device)
        world, recipe = worlds[key], settings.recipe(loss)
        if (*key, loss) not in loops:
            loops[*key, loss] = resident(world, recipe, settings)
        rows.append(row(world, loss, recipe, precision, count, loops[*key, loss], rates, settings))
    return {"rows": rows, "left_out_rows": left_out}


def questions(settings: Settings) -> Iterator[Question]:
    """Task by task, since each is made once: every loss and precision at `MAIN` runs, then KD and CPL at the others."""
    main = MAIN if MAIN in settings.counts else settings.counts[0]
    for shape in settings.cases:
        for loss in settings.losses:
            for precision in settings.precisions:
                yield shape, loss, precision, main
        for count in settings.counts:
            for loss in ("KD", "CPL"):
                for precision in settings.precisions:
                    if count != main:
                        yield shape, loss, precision, count


def resident(world: World, recipe: Recipe, settings: Settings) -> float:
    """Seconds of the fastest resident autograd loop in fp32, one run."""
    found = []
    for variant in VARIANTS:
        fit_resident(world, recipe, seed=0, variant=variant)
        found.append(timed(lambda v=variant: fit_resident(world, recipe, seed=0, variant=v), device=settings.device)[0])
    return min(found)


def row(
    world: World,
    loss: str,
    recipe: Recipe,
    precision: str,
    count: int,
    loop: float,
    rates: Rates | None,
    settings: Settings,
) -> dict[str, Any]:
    """The engine on `count` runs in a call, from raw features to fits; the first call compiles and is not counted."""
    runs = engine.runs_of(recipe, range(count))
    first, fits = timed(lambda: engine.fit(world, runs, precision=precision), device=settings.device)
    seconds = [
        timed(lambda: engine.fit(world, runs, precision=precision), device=settings.device)[0]
        for _ in range(settings.repeats)
    ]
    each = (median(seconds) or 0.0) / count
    found: dict[str, Any] = {
        "case": world.shape.case,
        "n": world.shape.n_train,
        "k": world.shape.k,
        "d": world.shape.d,
        "loss": loss,
        "head": recipe.head,
        "precision": fits[0].resolved["precision"],
        "kernels": fits[0].resolved["kernels"],
        "runs": count,
        "repeats": settings.repeats,
        "engine_s": each,
        "engine_spread": spread(seconds),
        "first_call_s": first - count * each,
        "parts_s": {part: fits[0].seconds[part] for part in ("load", "train", "evaluate")},
        "runs_an_hour": 3600 / each,
        "resident_s": loop,
        "ratio_resident": loop / each,
    }
    if rates is not None:
        floor = cuda_floor(world.shape, recipe, precision=precision, rates=rates)
        found |= {
            "floor_s": floor["floor"],
            "floor_unfused_s": floor["unfused"],
            "of_floor": floor["floor"] / each,
            "of_unfused": floor["unfused"] / each,
        }
    return found


def _emptied(settings: Settings) -> None:
    gc.collect()
    if settings.device == "cuda":
        torch.cuda.empty_cache()
