"""The gates: fp32 follows naive autograd in its parameters, tf32 and bf16 follow fp32 in accuracy over paired seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.heads_parts import engine
from benchmarks.heads_parts.loops import fit_resident
from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.worlds import World
from w2s_fast.core.statistics import t_quantile
from w2s_fast.train import order

MOST_GAP = 1e-5
"""Relative distance of fp32 parameters after training."""
MOST_POINTS = 0.3
"""Mean difference of test accuracy, in points."""
DISCONTINUOUS = ("aux_conf",)
"""Losses whose balanced assignment turns a rounding error into another label; gated by accuracy instead."""


def gap(theta: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Relative distance of two sets of parameters, in double precision."""
    a, b = (torch.cat([t[name].double().flatten() for name in sorted(theta)]) for t in (theta, other))
    return float((a - b).norm() / b.norm())


def gate_fp32(world: World, recipe: Recipe, *, seed: int = 0, precision: str = "fp32") -> dict[str, Any]:
    """The engine against the resident autograd loop: same start, batches and schedule."""
    (start,) = engine.fit(world, engine.runs_of(recipe, [seed], epochs=0), precision=precision)
    (ours,) = engine.fit(world, engine.runs_of(recipe, [seed]), precision=precision)
    theirs = fit_resident(
        world,
        recipe,
        seed=seed,
        init=start.theta["last"],
        order=lambda epoch: torch.from_numpy(order(seed, epoch, world.shape.n_train)),
    )
    found = gap(ours.theta["last"], theirs.theta)
    moved = gap(theirs.theta, start.theta["last"])
    return {
        "gate": "parameters",
        "loss": recipe.loss,
        "head": recipe.head,
        "precision": precision,
        "w_gap": found,
        "moved": moved,
        "limit": MOST_GAP,
        "passed": bool(found <= MOST_GAP < moved),
    }


def gate_accuracy(
    world: World, recipe: Recipe, *, precision: str, seeds: Sequence[int], strict: bool, fp32: list[float] | None = None
) -> dict[str, Any]:
    """Test accuracy of a precision minus that of fp32 over paired seeds: mean and 95 % interval (t) in points.

    strict: the mean must lie within 0.3 points. Otherwise, with few seeds, the gate fails only where the whole
    interval lies outside.
    """
    plain = accuracies(world, recipe, precision="fp32", seeds=seeds) if fp32 is None else fp32
    mean, half = paired_points(accuracies(world, recipe, precision=precision, seeds=seeds), plain)
    bound = abs(mean) if strict else abs(mean) - half
    return {
        "gate": "accuracy",
        "loss": recipe.loss,
        "head": recipe.head,
        "precision": precision,
        "seeds": len(seeds),
        "accuracy_fp32": float(np.mean(plain)),
        "points": mean,
        "points_low": mean - half,
        "points_high": mean + half,
        "limit": MOST_POINTS,
        "strict": strict,
        "passed": bool(bound <= MOST_POINTS),
    }


def accuracies(world: World, recipe: Recipe, *, precision: str, seeds: Sequence[int]) -> list[float]:
    """Test accuracy after the last epoch, per seed; a diverged run counts as NaN and fails its gate."""
    fits = engine.fit(world, engine.runs_of(recipe, seeds), precision=precision, with_test=True)
    truth = world.truth[world.test].cpu().numpy()
    return [float((one.predicted["last"] == truth).mean()) if one.status == "ok" else math.nan for one in fits]


def paired_points(found: Sequence[float], plain: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and the half width of its 95 % interval, in points."""
    d = 100 * (np.asarray(found) - np.asarray(plain))
    if len(d) < 2:
        return float(d.mean()), math.inf
    return float(d.mean()), t_quantile(len(d) - 1) * float(d.std(ddof=1)) / math.sqrt(len(d))


def told(result: dict[str, Any]) -> str:
    """One line for people."""
    word = "pass" if result["passed"] else "FAIL"
    what = f"{result['loss']} + {result['head']}, {result['precision']}"
    if result["gate"] == "parameters":
        return f"{word}  {what}: W within {result['w_gap']:.1e} of naive autograd (limit {result['limit']:.0e})"
    return (
        f"{word}  {what} minus fp32 over {result['seeds']} paired seeds: {result['points']:+.2f} points "
        f"[{result['points_low']:+.2f}, {result['points_high']:+.2f}] (limit {result['limit']})"
    )
