"""How often the 95 % interval holds the truth, by simulation.

What is drawn, per simulated study: item i of system m under seed s is right where

    theta_m + g_i + h_mi + u_ms + e_msi > 0

with g_i ~ N(0, 1) the item's difficulty, shared by all systems and seeds; h_mi ~ N(0, 0.5^2) the system's own liking
for the item, shared by its seeds; u_ms ~ N(0, spread^2) the system's seed effect; e_msi ~ N(0, 0.3^2) noise per
prediction. Heads of several seeds on one feature space agree on most items, hence the small e. The truth is the
expectation over items and seeds, Phi(theta_a / sd) - Phi(theta_b / sd). Fixed: S = 5 seeds share one test set of n
items; rotated: each has n of its own.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from w2s_fast.core.intervals import Resamples

S, ITEM, OWN, NOISE = 5, 1.0, 0.5, 0.3
THETA = {"weak": 0.1, "w2s": 0.4, "ceiling": 0.7}


def study(rng: np.random.Generator, *, n: int, rotated: bool, spread: float) -> dict[str, list[np.ndarray]]:
    items = test_sets(n, rotated=rotated)
    total = n * S if rotated else n
    difficulty = rng.normal(0, ITEM, total)
    out = {}
    for system, theta in THETA.items():
        own = difficulty + rng.normal(0, OWN, total)
        out[system] = [theta + own[run] + rng.normal(0, spread) + rng.normal(0, NOISE, n) > 0 for run in items]
    return out


def test_sets(n: int, *, rotated: bool) -> list[np.ndarray]:
    return [np.arange(n) + (run * n if rotated else 0) for run in range(S)]


test_sets.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def truth(system: str, *, spread: float) -> float:
    return NormalDist().cdf(THETA[system] / math.sqrt(ITEM**2 + OWN**2 + NOISE**2 + spread**2))


def nested(
    rng: np.random.Generator, a: list[np.ndarray], b: list[np.ndarray], *, replicates: int
) -> tuple[float, float]:
    """The percentile interval of seeds drawn with replacement, and items drawn anew within each: what we do not do."""
    d = np.stack(a).astype(np.float32) - np.stack(b)
    seeds = rng.integers(0, S, (replicates, S))
    items = rng.integers(0, d.shape[1], (replicates, S, d.shape[1]), dtype=np.int32)
    means = d[seeds[:, :, None], items].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage(*, n: int, rotated: bool, spread: float, studies: int, replicates: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    resamples = Resamples(test_sets(n, rotated=rotated), replicates=replicates)
    difference = truth("w2s", spread=spread) - truth("weak", spread=spread)
    recovered = difference / (truth("ceiling", spread=spread) - truth("weak", spread=spread))
    hits = {"difference": 0, "accuracy": 0, "pgr": 0, "nested": 0}
    defined = 0
    for _ in range(studies):
        drawn = study(rng, n=n, rotated=rotated, spread=spread)
        weak, w2s, ceiling = (resamples.means(drawn[system]) for system in ("weak", "w2s", "ceiling"))
        one = resamples.interval(w2s - weak)
        hits["difference"] += one.low <= difference <= one.high
        one = resamples.interval(w2s)
        hits["accuracy"] += one.low <= truth("w2s", spread=spread) <= one.high
        ratio = resamples.pgr(weak, w2s, ceiling).interval
        if ratio is not None:
            defined += 1
            hits["pgr"] += ratio.low <= recovered <= ratio.high
        if not rotated:
            low, high = nested(rng, drawn["w2s"], drawn["weak"], replicates=100)
            hits["nested"] += low <= difference <= high
    return {name: count / (defined if name == "pgr" else studies) for name, count in hits.items()}


@pytest.mark.parametrize("rotated", [False, True], ids=["fixed", "rotated"])
def test_the_interval_covers(rotated: bool) -> None:
    """400 studies have a standard error of 1.1 points: the band is three of them wide, the nested one is seven away."""
    covered = coverage(n=200, rotated=rotated, spread=0.05, studies=400, replicates=200, seed=11)
    low = 0.895 if rotated else 0.91
    assert low <= covered["difference"] <= 0.985, covered
    assert low <= covered["accuracy"] <= 0.985, covered
    assert low <= covered["pgr"] <= 0.99, covered
    if not rotated:
        assert covered["nested"] < 0.88, covered


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("rotated", [False, True], ids=["fixed", "rotated"])
def test_the_interval_covers_in_full(rotated: bool, spread: float) -> None:
    """3,000 studies: a standard error of 0.4 points. A seed effect as large as the item effect is the hardest case."""
    covered = coverage(n=400, rotated=rotated, spread=spread, studies=3000, replicates=400, seed=23)
    print(covered)
    low = 0.905 if rotated else 0.93
    assert low <= covered["difference"] <= 0.975, covered
    assert low <= covered["accuracy"] <= 0.975, covered
    assert low <= covered["pgr"] <= 0.99, covered
    if not rotated:
        assert 0.75 < covered["nested"] < 0.86, covered
