"""Stage 7: solvers and heads beside the main path, and where one epoch's time goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts import engine
from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.timing import timed
from benchmarks.heads_parts.worlds import World, make_world
from w2s_fast.train import Run

TOP = 12


def stage(settings: Settings) -> dict[str, Any]:
    """Seconds of each job's second call, and a profile of training by operation."""
    world = make_world(settings.cases[0]).to(settings.device)
    found: dict[str, Any] = {"jobs": {}, "left_out_jobs": {}}
    settings.into.update(found)
    for name, runs in jobs(settings).items():
        work = _fits(world, runs)
        first, fits = timed(work, device=settings.device)
        again, _ = timed(work, device=settings.device)
        found["jobs"][name] = {
            "runs": len(runs),
            "first_s": first,
            "s": again,
            "status": sorted({one.status for one in fits}),
            "kernels": fits[0].resolved["kernels"],
        }
    if find_spec("open_clip") is None:
        found["left_out_jobs"]["prompt"] = "open_clip is not installed"
    else:
        found["jobs"]["prompt"] = prompt(settings)
    found["profile"] = profile(world, settings)
    return found


def jobs(settings: Settings) -> dict[str, list[Run]]:
    """Closed form over weight decays, L-BFGS, a head and a loss without kernels."""
    count = 3 if settings.quick else 16
    decays = [10.0 ** (-6 + i / 4) for i in range(count)]
    adapter = engine.runs_of(replace(settings.recipe("KD"), head="linear"), range(count))
    return {
        "ridge": [Run(head="linear", loss="brier", solver="ridge", epochs=1, weight_decay=w) for w in decays],
        "lbfgs": [Run(head="linear", loss="kd", solver="lbfgs", epochs=1, weight_decay=1e-4)],
        "adapter": [replace(run, head="adapter") for run in adapter],
        "dkd": [replace(run, loss="dkd(target='weak')") for run in adapter],
    }


def _fits(world: World, runs: list[Run]) -> Callable[[], Any]:
    return lambda: engine.fit(world, runs)


def prompt(settings: Settings) -> dict[str, Any]:
    """A step of the prompt head with a text tower, by the benchmark of prompts; its plain step is not repeated here."""
    from benchmarks import prompt as steps

    world = steps.make_world(4, steps.QUICK if settings.quick else steps.FULL, device=settings.device)

    def work() -> Any:
        return steps.head_step(world, "fp32")

    first, _ = timed(work, device=settings.device)
    again, _ = timed(work, device=settings.device)
    return {"runs": 1, "first_s": first, "s": again}


def profile(world: World, settings: Settings) -> list[dict[str, Any]]:
    """The operations or kernels of one call of training that take most time, of all its runs together."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    recipe: Recipe = replace(settings.recipe("KD"), epochs=2)
    runs = engine.runs_of(recipe, range(max(settings.counts[:1])))
    precision = settings.precisions[0]
    engine.fit(world, runs, precision=precision)
    on_gpu = settings.device == "cuda"
    with profiled(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        engine.fit(world, runs, precision=precision)
        if on_gpu:
            torch.cuda.synchronize()
    rows = [
        {
            "name": event.key[:120],
            "count": event.count,
            "device_s": getattr(event, "self_device_time_total", 0.0) / 1e6,
            "host_s": event.self_cpu_time_total / 1e6,
        }
        for event in seen.key_averages()
    ]
    by = "device_s" if on_gpu else "host_s"
    return sorted(rows, key=lambda row: -row[by])[:TOP]
