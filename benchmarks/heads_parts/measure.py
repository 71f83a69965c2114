"""Rows of the table: the engine and every baseline of a case and loss, in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.heads_parts import engine
from benchmarks.heads_parts.encoder import uncached_seconds
from benchmarks.heads_parts.floors import Rates, cpu_floor, cuda_floor
from benchmarks.heads_parts.loops import COMPILED, VARIANTS, Variant, autocast, fit_loader, fit_resident
from benchmarks.heads_parts.probes import clip_benchmark_like, openai_like, sklearn_lbfgs
from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.timing import interleaved, median, spread, timed
from benchmarks.heads_parts.worlds import World


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a case is measured: runs per engine call, repetitions, and what the machine was found to do."""

    runs: int
    repeats: int
    precisions: tuple[str, ...]
    device: str = "cpu"
    threads: int = 1
    compiled_resident: bool = False
    encoder_speed: float | None = None
    rates: Rates | None = None


def probe_columns(world: World, plan: Plan, *, sklearn_repeats: int) -> dict[str, Any]:
    """Seconds of the published probes of a case, which have their own loss; taken in turns with one another."""
    jobs: dict[str, Callable[[], Any]] = {
        "clip_benchmark_like": lambda: clip_benchmark_like(world, seed=0),
        "openai_like": lambda: openai_like(world, seed=0),
    }
    seconds = interleaved(jobs, repeats=plan.repeats, device=plan.device)
    found: list[tuple[float, tuple[float, int]]] = [timed(lambda: sklearn_lbfgs(world)) for _ in range(sklearn_repeats)]
    return {
        **{f"{name}_s": median(values) for name, values in seconds.items()},
        "sklearn_s": median([s for s, _ in found]),
        "sklearn_repeats": sklearn_repeats,
        "sklearn_iterations": found[0][1][1] if found else None,
    }


def rows_of(world: World, loss: str, recipe: Recipe, plan: Plan) -> list[dict[str, Any]]:
    """One row per precision of a case and loss."""
    best = fastest_variant(world, recipe, compiled=plan.compiled_resident)
    seeds = range(plan.runs)
    runs = engine.runs_of(recipe, seeds)
    jobs: dict[str, Callable[[], Any]] = {
        "loader": lambda: fit_loader(world, recipe, seed=0),
        "resident": lambda: fit_resident(world, recipe, seed=0, variant=best),
    }
    if "bf16" in plan.precisions:
        jobs["resident_autocast"] = lambda: fit_resident(world, recipe, seed=0, variant=autocast(best))
    for precision in plan.precisions:
        jobs[f"engine {precision}"] = lambda precision=precision: engine.fit(world, runs, precision=precision)
    first = {name: timed(job, device=plan.device)[0] for name, job in jobs.items()}
    seconds = interleaved(jobs, repeats=plan.repeats, device=plan.device)
    middle = {name: median(values) or 0.0 for name, values in seconds.items()}
    rows = []
    for precision in plan.precisions:
        name = f"engine {precision}"
        each = middle[name] / plan.runs
        rows.append(
            {
                "case": world.shape.case,
                "n": world.shape.n_train,
                "n_val": world.shape.n_val,
                "d": world.shape.d,
                "k": world.shape.k,
                "loss": loss,
                "head": recipe.head,
                "precision": precision,
                "device": plan.device,
                "threads": plan.threads,
                "runs": plan.runs,
                "repeats": plan.repeats,
                "engine_s": each,
                "engine_spread": spread(seconds[name]),
                "compile_s": max(0.0, first[name] - middle[name]),
                "loader_s": middle["loader"],
                "loader_spread": spread(seconds["loader"]),
                "resident_s": middle["resident"],
                "resident_variant": best.name,
                "resident_autocast_s": middle.get("resident_autocast"),
                "ratio_loader": middle["loader"] / each,
                "ratio_resident": middle["resident"] / each,
                "uncached_s": _uncached(world, recipe, plan, middle["loader"]),
                **_floor(world, recipe, plan, precision),
            }
        )
    return rows


def fastest_variant(world: World, recipe: Recipe, *, compiled: bool, epochs: int = 2) -> Variant:
    """The resident loop's fastest way here, by short runs after a warm-up."""
    short = Recipe(loss=recipe.loss, head=recipe.head, epochs=epochs, batch_size=recipe.batch_size, lr=recipe.lr)
    ways = (*VARIANTS, COMPILED) if compiled else VARIANTS
    jobs: dict[str, Callable[[], Any]] = {
        way.name: lambda way=way: fit_resident(world, short, seed=0, variant=way) for way in ways
    }
    for job in jobs.values():
        job()
    seconds = interleaved(jobs, repeats=3, device=world.x.device.type)
    return min(ways, key=lambda way: min(seconds[way.name]))


def available(world: World, wanted: Sequence[str], say: Callable[[str], None]) -> tuple[str, ...]:
    """The precisions that the engine has here; of the others it is said why not."""
    kept = []
    for precision in wanted:
        why = engine.has_precision(world, precision)
        if why is None:
            kept.append(precision)
        else:
            say(f"{precision}: left out: {why}")
    return tuple(kept)


def _uncached(world: World, recipe: Recipe, plan: Plan, loop: float) -> float | None:
    if plan.encoder_speed is None:
        return None
    return uncached_seconds(world.shape, recipe, speed=plan.encoder_speed, loop=loop)


def _floor(world: World, recipe: Recipe, plan: Plan, precision: str) -> dict[str, Any]:
    if plan.device == "cpu":
        seconds, library = cpu_floor(world.shape, recipe, precision=precision)
        return {"floor_s": seconds, "floor_by": library}
    if plan.rates is None:
        return {"floor_s": None, "floor_by": None}
    parts = cuda_floor(world.shape, recipe, precision=precision, rates=plan.rates)
    return {"floor_s": parts["floor"], "floor_unfused_s": parts["unfused"], "floor_by": "bytes and operations"}
