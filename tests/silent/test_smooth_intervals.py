"""Intervals move little with the bootstrap's seed, and smoothly with what they are made of: no rule switches."""

from __future__ import annotations

import numpy as np
import pytest

from w2s_fast.core.intervals import Interval, Resamples

N, S = 300, 5


def drawn(effects: list[float], *, rng: np.random.Generator) -> list[np.ndarray]:
    """Correctness of one system per run on one test set, each run shifted by its effect (in standard deviations)."""
    item = rng.normal(0, 1, N)
    return [0.3 + item + effect + rng.normal(0, 0.3, N) > 0 for effect in effects]


def interval(
    a: list[np.ndarray],
    b: list[np.ndarray],
    *,
    seed: int = 0,
    seeds: list[int] | None = None,
    weak_seeds: list[int] | None = None,
) -> Interval:
    resamples = Resamples([np.arange(N)] * len(a), replicates=500, seed=seed, seeds=seeds, weak_seeds=weak_seeds)
    return resamples.interval(resamples.means(a) - resamples.means(b))


@pytest.mark.parametrize("effect", [0.0, 0.03, 0.05, 0.06, 0.07, 0.08, 0.1, 0.2])
def test_another_bootstrap_seed_moves_the_width_by_little(effect: float) -> None:
    rng = np.random.default_rng(4)
    shifts = effect * np.array([-1.2, -0.5, 0.0, 0.5, 1.2])
    a, b = drawn(shifts.tolist(), rng=rng), drawn([0.0] * S, rng=rng)
    halves = [interval(a, b, seed=seed).half for seed in range(12)]
    assert max(halves) / min(halves) < 1.12, halves


def test_two_weak_models_that_differ_a_little_more_widen_it_a_little() -> None:
    seeds, weak = [s for _ in range(2) for s in range(S)], [w for w in range(2) for _ in range(S)]
    halves = []
    for effect in np.linspace(0, 0.3, 31):
        rng = np.random.default_rng(9)
        a = drawn([effect * w for w in weak], rng=rng)
        b = drawn([0.0] * len(weak), rng=rng)
        halves.append(interval(a, b, seeds=seeds, weak_seeds=weak).half)
    steps = np.array(halves[1:]) / np.array(halves[:-1])
    assert halves[-1] > 2 * halves[0]
    assert steps.max() < 1.4, steps
