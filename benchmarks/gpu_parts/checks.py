"""Stages 2 and 4: the `gpu` tests, the engine against naive loops, and reduced precision over paired seeds."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts import engine, parity
from benchmarks.heads_parts.worlds import World, make_world

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/train/kernels/test_kernels_cuda.py", "tests/train/test_cuda.py", "tests/train/test_lbfgs.py")
NAIVE_GAP = 1e-5


def stage(settings: Settings) -> dict[str, Any]:
    """The tests by pytest, then what does not need it: naive loops, graphs against steps, a run that diverges."""
    world = make_world(settings.cases[0]).to(settings.device)
    found: dict[str, Any] = {"parity": naive(world, settings), "graphs": graphs(world, settings)}
    found["diverging"] = diverging(world, settings)
    settings.into.update(found)
    found["pytest"] = pytest(settings)
    found["passed"] = (
        all(one["passed"] for one in (*found["parity"], *found["graphs"], found["diverging"]))
        and found["pytest"]["failed"] == 0
    )
    return found


def naive(world: World, settings: Settings) -> list[dict[str, Any]]:
    """fp32 parameters of the engine against the autograd loop, for every loss without a jump."""
    recipes = [settings.recipe(loss) for loss in settings.losses]
    return [parity.gate_fp32(world, r) for r in recipes if r.loss not in parity.DISCONTINUOUS]


def graphs(world: World, settings: Settings) -> list[dict[str, Any]]:
    """Kernels in a graph against torch step by step, in each precision: greatest relative distance over the runs."""
    found = []
    for precision in settings.precisions:
        for loss in ("KD", "CPL"):
            runs = engine.runs_of(settings.recipe(loss), range(3))
            both = {k: engine.fit(world, runs, precision=precision, kernels=k) for k in ("auto", "torch")}
            gaps = [
                parity.gap(a.theta["last"], b.theta["last"]) for a, b in zip(both["auto"], both["torch"], strict=True)
            ]
            limit = 1e-4 if precision == "fp32" else 0.05
            found.append(
                {
                    "precision": precision,
                    "loss": loss,
                    "kernels": both["auto"][0].resolved["kernels"],
                    "gap": max(gaps),
                    "passed": max(gaps) <= limit,
                }
            )
    return found


def diverging(world: World, settings: Settings) -> dict[str, Any]:
    """Two runs beside one whose learning rate is beyond all numbers: it is called diverged, they are as without it."""
    good = engine.runs_of(settings.recipe("KD"), range(2))
    wild = replace(good[0], lr=1e38, seed=9)
    alone = engine.fit(world, good)
    beside = engine.fit(world, [*good, wild])
    gaps = [parity.gap(a.theta["last"], b.theta["last"]) for a, b in zip(alone, beside[:2], strict=True)]
    return {
        "status": [one.status for one in beside],
        "gap": max(gaps),
        "passed": [one.status for one in beside] == ["ok", "ok", "diverged"] and max(gaps) <= NAIVE_GAP,
    }


def pytest(settings: Settings) -> dict[str, Any]:
    """The tests that need a GPU, in a process of their own; without one they are skipped, which is said."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-x", "--tb=short", *FILES]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(20.0, settings.left))
        text, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        text, status = f"{error}\n{error.stdout or ''}", -1
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", text)}
    bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    fine = status == 0 or (settings.device == "cpu" and status == 5)
    return {
        "passed": counts.get("passed", 0),
        "skipped": counts.get("skipped", 0),
        "failed": bad if fine else max(1, bad),
        "tail": text[-3000:] if not fine else text[-200:],
    }


def accuracy_stage(settings: Settings) -> dict[str, Any]:
    """tf32 and bf16 minus fp32 over paired seeds, for every loss; the mean within 0.3 points."""
    world = make_world(settings.cases[0]).to(settings.device)
    reduced = [p for p in settings.precisions if p != "fp32"]
    found: list[dict[str, Any]] = []
    settings.into["gates"] = found
    left_out = []
    for loss in settings.losses:
        if settings.left < 1 and found:
            left_out.append(loss)
            continue
        recipe = settings.recipe(loss)
        seeds = range(settings.seeds)
        plain = parity.accuracies(world, recipe, precision="fp32", seeds=seeds)
        for precision in reduced or ["fp32"]:
            one = parity.gate_accuracy(
                world, recipe, precision=precision, seeds=seeds, strict=not settings.quick, fp32=plain
            )
            found.append({"name": loss, **one})
    if torch.cuda.is_available() and settings.device == "cuda":
        torch.cuda.empty_cache()
    return {"gates": found, "left_out_losses": left_out, "passed": all(one["passed"] for one in found)}
