"""The crossed paired bootstrap against naive loops over the same weights, and what its parts are defined to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from w2s_fast.core.errors import UsageError
from w2s_fast.core.intervals import REPLICATES, AggregatePGR, Interval, Means, Resamples
from w2s_fast.core.statistics import BELOW, NOISE, mcnemar, paired_gap_se

Runs = list[np.ndarray]


def naive_weights(items: Runs, *, replicates: int, seed: int) -> list[dict[int, int]]:
    """One count per item id and replicate, drawn item by item over the union in order of first appearance."""
    union = list(dict.fromkeys(int(i) for run in items for i in run))
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(replicates):
        counts = dict.fromkeys(union, 0)
        for pick in rng.integers(0, len(union), len(union)):
            counts[union[pick]] += 1
        out.append(counts)
    return out


def naive_interval(items: Runs, values: list[list[float]], *, replicates: int, seed: int) -> tuple[float, float, float]:
    """(estimate, se, half width) of the mean over runs of per-item values, by loops over replicates, runs, items."""
    S = len(items)
    point = [sum(v) / len(v) for v in values]
    replicated = []
    for counts in naive_weights(items, replicates=replicates, seed=seed):
        deltas = []
        for run, v, p in zip(items, values, point, strict=True):
            total = sum(counts[int(i)] for i in run)
            drawn = sum(counts[int(i)] * x for i, x in zip(run, v, strict=True))
            deltas.append(drawn / total if total else p)
        replicated.append(deltas)
    means = [sum(d) / S for d in replicated]
    centre = sum(means) / replicates
    item = sum((m - centre) ** 2 for m in means) / (replicates - 1)

    def variance(x: list[float]) -> float:
        middle = sum(x) / len(x)
        return sum((y - middle) ** 2 for y in x) / (len(x) - 1)

    distinct = len({int(i) for run in items for i in run})
    whole, squares = item, item**2 / (distinct - 1)
    if S > 1:
        null = sum(variance([d - p for d, p in zip(deltas, point, strict=True)]) for deltas in replicated) / replicates
        excess = max(0.0, variance(point) - null) / S
        whole, squares = whole + excess, squares + excess * (variance(point) / S) / (S - 1)
    freedom = max(whole**2 / squares, 1)
    return sum(point) / S, math.sqrt(whole), float(stats.t.ppf(0.975, freedom)) * math.sqrt(whole)


def crossed_interval(
    items: Runs, a: Runs, b: Runs | None = None, *, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """The interval of mean accuracy a - b matched by (run, item), or of a alone."""
    resamples = Resamples(items, replicates=replicates, seed=seed)
    delta = resamples.means(a)
    return resamples.interval(delta if b is None else delta - resamples.means(b))


def crossed_pgr(
    items: Runs, weak: Runs, w2s: Runs, ceiling: Runs, *, replicates: int = REPLICATES, seed: int = 0
) -> AggregatePGR:
    """`Resamples.pgr` of one method."""
    resamples = Resamples(items, replicates=replicates, seed=seed)
    return resamples.pgr(resamples.means(weak), resamples.means(w2s), resamples.means(ceiling))


def runs(
    rng: np.random.Generator, mode: str, *, S: int = 4, n: int = 30, spread: float = 0.1
) -> tuple[Runs, Runs, Runs]:
    """Items and two systems: one test set (fixed), a fold per run (rotated), overlapping sets, or sizes that differ."""
    items: Runs = []
    for s in range(S):
        if mode == "fixed":
            items.append(np.arange(n) * 7)
        elif mode == "rotated":
            items.append(np.arange(n) + s * n)
        elif mode == "overlapping":
            items.append(rng.permutation(2 * n)[:n])
        else:
            items.append(np.arange(n + s) + s * 1000)
    a = [rng.random(len(run)) < 0.6 + spread * rng.normal() for run in items]
    b = [rng.random(len(run)) < 0.5 for run in items]
    return items, a, b


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("mode", ["fixed", "rotated", "overlapping", "ragged"])
def test_it_is_the_naive_double_loop(mode: str, spread: float) -> None:
    items, a, b = runs(np.random.default_rng(3), mode, spread=spread)
    ours = crossed_interval(items, a, b, replicates=60, seed=5)
    difference = [[float(x) - float(y) for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]
    estimate, se, half = naive_interval(items, difference, replicates=60, seed=5)
    assert ours.estimate == pytest.approx(estimate, abs=1e-12)
    assert ours.se == pytest.approx(se, rel=1e-10)
    assert ours.half == pytest.approx(half, rel=1e-10)
    assert (ours.low + ours.high) / 2 == pytest.approx(estimate, abs=1e-12)
    alone = crossed_interval(items, a, replicates=60, seed=5)
    assert alone.half == pytest.approx(
        naive_interval(items, [run.astype(float).tolist() for run in a], replicates=60, seed=5)[2], rel=1e-10
    )


def test_the_quantile_lies_between_the_items_and_the_seeds() -> None:
    """Near the normal one where items explain all, near Student's of S - 1 where seeds do."""
    ratios = []
    for spread in (0.0, 0.3):
        items, a, b = runs(np.random.default_rng(3), "fixed", spread=spread)
        result = crossed_interval(items, a, b, replicates=60, seed=5)
        ratios.append(result.half / result.se)
    assert 1.96 < ratios[0] < 2.6 < ratios[1] <= stats.t.ppf(0.975, 3)


def test_the_pgr_interval_is_that_of_the_linearised_ratio() -> None:
    rng = np.random.default_rng(8)
    items, _, weak = runs(rng, "overlapping", n=60)
    w2s = [w | (rng.random(w.size) < 0.4) for w in weak]
    ceiling = [w | (rng.random(w.size) < 0.7) for w in weak]
    ours = crossed_pgr(items, weak, w2s, ceiling, replicates=80, seed=2)

    mean = [np.mean([run.mean() for run in system]) for system in (weak, w2s, ceiling)]
    value = (mean[1] - mean[0]) / (mean[2] - mean[0])
    linear = [
        [((s - w) - value * (c - w)) / (mean[2] - mean[0]) for w, s, c in zip(W.astype(float), A, C, strict=True)]
        for W, A, C in zip(weak, w2s, ceiling, strict=True)
    ]
    _, se, half = naive_interval(items, linear, replicates=80, seed=2)
    assert ours.flag is None
    assert ours.value == pytest.approx(value, rel=1e-12)
    assert ours.interval is not None
    assert ours.interval.estimate == ours.value
    assert ours.interval.se == pytest.approx(se, rel=1e-9)
    assert ours.interval.half == pytest.approx(half, rel=1e-9)
    single = [(a.mean() - w.mean()) / (c.mean() - w.mean()) for w, a, c in zip(weak, w2s, ceiling, strict=True)]
    guards = [c.mean() - w.mean() > 2 * paired_gap_se(c, w) for w, c in zip(weak, ceiling, strict=True)]
    assert ours.median == pytest.approx(np.median([v for v, ok in zip(single, guards, strict=True) if ok]))
    assert (ours.guarded, ours.runs) == (guards.count(False), 4)


def test_pgr_is_guarded_by_the_gap_over_all_runs() -> None:
    items = [np.arange(100)] * 3
    weak = [np.arange(100) < 60] * 3
    better = [np.arange(100) < 80] * 3
    assert crossed_pgr(items, better, better, weak).flag == BELOW
    nearly = [np.arange(100) < 61] * 3
    result = crossed_pgr(items, weak, better, nearly)
    assert (result.flag, result.interval, result.guarded, result.runs) == (NOISE, None, 3, 3)
    assert math.isnan(result.value)
    assert math.isnan(result.median)


def test_seeds_that_disagree_widen_the_gap_and_can_undefine_pgr() -> None:
    items = [np.arange(400)] * 4
    weak = [np.arange(400) < 200] * 4
    ceiling = [np.arange(400) < top for top in (150, 380, 160, 370)]
    result = crossed_pgr(items, weak, weak, ceiling)
    assert result.flag == NOISE
    assert (result.guarded, result.median) == (2, 0.0)


def test_ratio_of_means_is_not_the_mean_of_ratios() -> None:
    items = [np.arange(1000)] * 2
    weak = [np.arange(1000) < 300] * 2
    ceiling = [np.arange(1000) < 500, np.arange(1000) < 800]
    w2s = [np.arange(1000) < 500, np.arange(1000) < 550]
    result = crossed_pgr(items, weak, w2s, ceiling)
    assert result.flag is None
    assert result.value == pytest.approx((200 + 250) / (200 + 500))
    assert result.median == pytest.approx((1.0 + 0.5) / 2)


def test_identical_systems_differ_by_nothing() -> None:
    items, a, _ = runs(np.random.default_rng(0), "rotated")
    assert crossed_interval(items, a, a) == Interval(
        estimate=0.0, low=0.0, high=0.0, se=0.0, components="items + seeds"
    )


def test_one_seed_on_one_test_set_has_the_paired_standard_error() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(500) < 0.7, rng.random(500) < 0.6
    result = crossed_interval([np.arange(500)], [a], [b], replicates=20000)
    assert result.components == "items"
    assert result.se == pytest.approx(paired_gap_se(a, b), rel=0.03)
    assert result.half == pytest.approx(stats.t.ppf(0.975, 499) * result.se)
    assert (result.low > 0) == (mcnemar(a, b)[2] < 0.05)


def test_repeating_one_run_adds_no_information() -> None:
    rng = np.random.default_rng(1)
    items, a, b = np.arange(300), rng.random(300) < 0.7, rng.random(300) < 0.6
    one = crossed_interval([items], [a], [b])
    five = crossed_interval([items] * 5, [a] * 5, [b] * 5)
    assert five.se == pytest.approx(one.se, rel=1e-12)


def test_order_of_items_and_their_numbers_do_not_matter_to_the_join() -> None:
    rng = np.random.default_rng(4)
    items, a, b = runs(rng, "fixed", S=3)
    shuffled_items, shuffled_a, shuffled_b = [items[0]], [a[0]], [b[0]]
    for s in (1, 2):
        order = rng.permutation(items[s].size)
        shuffled_items.append(items[s][order])
        shuffled_a.append(a[s][order])
        shuffled_b.append(b[s][order])
    one, two = crossed_interval(items, a, b), crossed_interval(shuffled_items, shuffled_a, shuffled_b)
    assert two.half == pytest.approx(one.half, rel=1e-12)
    renumbered = crossed_interval([run * 1_000_003 - 5 for run in items], a, b)
    assert renumbered.half == pytest.approx(one.half, rel=1e-12)


def test_it_is_reproducible_and_seeded() -> None:
    items, a, b = runs(np.random.default_rng(3), "rotated")
    assert crossed_interval(items, a, b, seed=1) == crossed_interval(items, a, b, seed=1)
    assert crossed_interval(items, a, b, seed=1) != crossed_interval(items, a, b, seed=2)


def test_swapping_the_systems_mirrors_the_interval() -> None:
    items, a, b = runs(np.random.default_rng(3), "overlapping")
    one, two = crossed_interval(items, a, b), crossed_interval(items, b, a)
    assert (two.low, two.high) == (pytest.approx(-one.high), pytest.approx(-one.low))


def test_a_fold_that_a_replicate_misses_stays_finite() -> None:
    items = [np.array([0]), np.array([1]), np.array([2])]
    a = [np.array([True]), np.array([False]), np.array([True])]
    result = crossed_interval(items, a)
    assert math.isfinite(result.low)
    assert math.isfinite(result.high)


@pytest.mark.parametrize(
    ("seeds", "weak_seeds", "components", "factors"),
    [
        (None, None, "items + seeds", 1),
        (None, [0, 1, 2, 3], "items + seeds + weak models", 1),
        ([0, 0, 1, 1], [0, 1, 0, 1], "items + seeds + weak models", 2),
        ([7, 7, 7, 7], [0, 1, 2, 3], "items + weak models", 1),
        ([7, 7, 7, 7], None, "items", 0),
    ],
)
def test_components_are_named_and_counted_once(
    seeds: list[int] | None, weak_seeds: list[int] | None, components: str, factors: int
) -> None:
    items, a, b = runs(np.random.default_rng(6), "fixed", spread=0.4)
    resamples = Resamples(items, seeds=seeds, weak_seeds=weak_seeds)
    delta = resamples.means(a) - resamples.means(b)
    result = resamples.interval(delta)
    assert result.components == components
    item = float(delta.draws.mean(1).var(ddof=1))
    if factors == 0:
        assert result.se == pytest.approx(math.sqrt(item))
    elif factors == 1:
        assert result.se == crossed_interval(items, a, b).se
    else:
        extra = 0.0
        for groups in ([[0, 1], [2, 3]], [[0, 2], [1, 3]]):
            point = [delta.point[g].mean() for g in groups]
            null = np.mean([np.var([(d - delta.point)[g].mean() for g in groups], ddof=1) for d in delta.draws])
            extra += max(0.0, float(np.var(point, ddof=1) - null)) / 2
        assert result.se == pytest.approx(math.sqrt(item + extra), rel=1e-10)


def test_a_crossed_weak_model_is_not_five_independent_runs() -> None:
    """Ten runs under two weak models that differ: the interval must be much wider than that of ten free seeds."""
    rng = np.random.default_rng(2)
    n, labels = 2000, [(s, w) for w in range(2) for s in range(5)]
    items = [np.arange(n)] * 10
    a = [rng.random(n) < (0.5, 0.6)[w] for _, w in labels]
    free = Resamples(items)
    crossed = Resamples(items, seeds=[s for s, _ in labels], weak_seeds=[w for _, w in labels])
    assert crossed.interval(crossed.means(a)).half > 5 * free.interval(free.means(a)).half


def test_means_are_linear() -> None:
    items, a, b = runs(np.random.default_rng(9), "ragged")
    resamples = Resamples(items, replicates=50)
    left, right = resamples.means(a), resamples.means(b)
    both: Means = (left - right) * 0.5
    np.testing.assert_allclose(both.point, (left.point - right.point) / 2, atol=1e-15)
    np.testing.assert_allclose(both.draws, (left.draws - right.draws) / 2, atol=1e-15)
    np.testing.assert_allclose(both.paired_se, [paired_gap_se(x, y) / 2 for x, y in zip(a, b, strict=True)])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 10**6))
def test_any_input_gives_an_ordered_finite_interval(S: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    items, a, b = runs(rng, "overlapping", S=S, n=n)
    result = crossed_interval(items, a, b, replicates=20)
    assert result.low <= result.estimate <= result.high
    assert math.isfinite(result.half)
    assert -1 <= result.estimate <= 1


@pytest.mark.parametrize(
    ("items", "correct", "words"),
    [
        ([], [], "at least one run"),
        ([[]], [[]], "no test item"),
        ([[1, 2, 1]], [[1, 0, 1]], "names an item twice"),
        ([[1, 2]], [[1, 0, 1]], r"\[3\] items per run"),
        ([[1, 2]], [[1, 0], [1, 0]], r"\[2, 2\] items per run"),
        ([[1, 2]], [[1, 3]], "values other than 0 and 1"),
        ([[0.5, 2.0]], [[1, 0]], "whole numbers"),
        ([[[1, 2]]], [[1, 0]], "whole numbers of shape"),
    ],
)
def test_bad_input_is_refused_in_words(items: list[list[float]], correct: list[list[int]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        crossed_interval([np.array(i, int if not i else None) for i in items], [np.array(c) for c in correct])


def test_bad_settings_are_refused() -> None:
    items = [np.arange(3)] * 2
    with pytest.raises(UsageError, match="replicates"):
        Resamples(items, replicates=1)
    with pytest.raises(UsageError, match="1 labels of seeds for 2 runs"):
        Resamples(items, seeds=[0])
    with pytest.raises(UsageError, match="labels of weak models"):
        Resamples(items, weak_seeds=[0, 1, 2])
