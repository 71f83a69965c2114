"""What a run costs against the number of runs in a call, and against n, k and d."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.heads_parts import engine
from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.timing import interleaved, median
from benchmarks.heads_parts.worlds import CLIPART, Shape, World, make_world

RUNS = (1, 2, 4, 8, 16)
TRAIN_ROWS = (2336, 4673, 9346, 18692, 33305)
CLASSES = (10, 100, 345, 1000)
WIDTHS = (256, 512, 768, 1024)
KD = Recipe(loss="kd")


def against_runs(world: World, *, precision: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Per-run seconds for R runs in a call: with one seed and R learning rates (shared batches), and with R seeds."""
    for shared in (True, False):
        jobs: dict[str, Callable[[], Any]] = {}
        for count in RUNS:
            runs = engine.runs_of(KD, [0] * count if shared else range(count))
            runs = [replace(run, lr=KD.lr * (1 - 0.01 * i)) for i, run in enumerate(runs)]
            jobs[str(count)] = lambda runs=runs: engine.fit(world, runs, precision=precision)
        for job in jobs.values():
            job()
        seconds = interleaved(jobs, repeats=repeats, device=world.x.device.type)
        for count in RUNS:
            yield _row("R", "R, one seed" if shared else "R, own seeds", count, world, precision, seconds[str(count)])


def against_shape(*, axis: str, precision: str, repeats: int, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """Seconds of one run against `n` (train rows, val rows in proportion), `k` or `d`, all else as in clipart."""
    shapes: dict[int, Shape] = {}
    for size in {"n": TRAIN_ROWS, "k": CLASSES, "d": WIDTHS}[axis]:
        if axis == "n":
            shapes[size] = replace(CLIPART, n_train=size, n_val=size // 4, n_test=345)
        else:
            shapes[size] = replace(CLIPART, **{axis: size}, n_test=345)
    for size, shape in shapes.items():
        world = make_world(shape).to(device)
        runs = engine.runs_of(KD, [0])
        jobs: dict[str, Callable[[], Any]] = {
            "engine": lambda runs=runs, w=world: engine.fit(w, runs, precision=precision)
        }
        jobs["engine"]()
        yield _row(axis, axis, size, world, precision, interleaved(jobs, repeats=repeats, device=device)["engine"])


def _row(axis: str, name: str, size: int, world: World, precision: str, seconds: list[float]) -> dict[str, Any]:
    total = median(seconds) or 0.0
    return {
        "axis": name,
        "size": size,
        "n": world.shape.n_train,
        "k": world.shape.k,
        "d": world.shape.d,
        "loss": "KD",
        "precision": precision,
        "engine_s": total / (size if axis == "R" else 1),
        "repeats": len(seconds),
    }
