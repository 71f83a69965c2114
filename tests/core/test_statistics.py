"""PGR's guards, paired standard errors, McNemar and Student's quantiles, against golden constants and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from w2s_fast.core.errors import UsageError
from w2s_fast.core.statistics import (
    BELOW,
    EQUAL,
    MISSING,
    NOISE,
    as_correct,
    gap_flag,
    mcnemar,
    paired_gap_se,
    pgr,
    t_quantile,
)

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@pytest.mark.parametrize(
    ("weak", "w2s", "ceiling", "value"),
    [(56.6, 61.9, 64.5, 0.67088608), (56.6, 66.6, 74.0, 0.57471264), (0.3, 0.3, 0.9, 0.0), (0.3, 0.9, 0.9, 1.0)],
)
def test_golden_values(weak: float, w2s: float, ceiling: float, value: float) -> None:
    result = pgr(weak, w2s, ceiling)
    assert result.flag is None
    assert result.value == pytest.approx(value, abs=5e-9)


def test_it_is_never_clipped() -> None:
    assert pgr(0.5, 0.75, 0.625).value == 2.0
    assert pgr(0.5, 0.25, 0.625).value == -2.0


@pytest.mark.parametrize(
    ("weak", "w2s", "ceiling", "gap_se", "flag"),
    [
        (0.6, 0.7, 0.5, None, BELOW),
        (0.6, 0.7, 0.6, None, EQUAL),
        (0.6, 0.6, 0.6, 0.0, EQUAL),
        (0.5, 0.6, 0.75, 0.125, NOISE),  # exactly two standard errors are not enough
        (0.5, 0.6, 0.75, math.inf, NOISE),
        (0.5, 0.6, 0.75, math.nan, MISSING),
        (math.nan, 0.6, 0.75, None, MISSING),
        (0.5, math.nan, 0.75, None, MISSING),
        (0.5, 0.6, math.inf, None, MISSING),
    ],
)
def test_an_undefined_gap_is_flagged(weak: float, w2s: float, ceiling: float, gap_se: float | None, flag: str) -> None:
    result = pgr(weak, w2s, ceiling, gap_se=gap_se)
    assert math.isnan(result.value)
    assert result.flag == flag


def test_a_gap_just_above_two_standard_errors_is_defined() -> None:
    assert pgr(0.5, 0.625, 0.75, gap_se=0.1249).value == 0.5
    assert gap_flag(0.25, 0.1249) is None


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * 3), st.one_of(st.none(), st.floats(0, 1)))
def test_defined_means_finite_and_flagged_means_nan(acc: tuple[float, float, float], se: float | None) -> None:
    result = pgr(*acc, gap_se=se)
    assert math.isnan(result.value) == (result.flag is not None)
    weak, w2s, ceiling = acc
    if result.flag is None:
        assert result.value * (ceiling - weak) == pytest.approx(w2s - weak, abs=1e-12)
    else:
        assert ceiling - weak <= 2 * (se or 0)


@settings(deadline=None)
@given(pairs)
def test_paired_se_is_the_naive_one(values: list[tuple[bool, bool]]) -> None:
    d = [int(a) - int(b) for a, b in values]
    mean = sum(d) / len(d)
    expected = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))
    a, b = (np.array(side) for side in zip(*values, strict=True))
    assert paired_gap_se(a, b) == pytest.approx(expected, abs=1e-12)
    assert paired_gap_se(a.astype(np.int8), b.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_one_item_says_nothing_about_its_spread() -> None:
    assert paired_gap_se(np.array([True]), np.array([False])) == math.inf


@settings(deadline=None)
@given(pairs)
def test_mcnemar_is_the_binomial_test(values: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(side) for side in zip(*values, strict=True))
    only_a, only_b, p = mcnemar(a, b)
    assert only_a == sum(x and not y for x, y in values)
    assert only_b == sum(y and not x for x, y in values)
    n = only_a + only_b
    assert p == pytest.approx(stats.binomtest(only_a, n).pvalue if n else 1.0, rel=1e-10)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (600, 700), (3000, 2000), (20000, 20300), (1, 4000)])
def test_mcnemar_of_many_items(only_a: int, only_b: int) -> None:
    a = np.repeat([True, False, True], [only_a, only_b, 100])
    b = np.repeat([False, True, True], [only_a, only_b, 100])
    expected = min(1.0, 2 * stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    assert mcnemar(a, b) == (only_a, only_b, pytest.approx(expected, rel=1e-8, abs=1e-300))


def test_t_quantiles() -> None:
    for df in [*range(1, 60), 99, 100, 999, 1000, 1.01, 1.5, 2.7, 11.3, 123.4, 54321.9]:
        assert t_quantile(df) == pytest.approx(float(stats.t.ppf(0.975, df)), rel=1e-10)
    assert t_quantile(4) == pytest.approx(2.776445105, abs=1e-8)
    assert t_quantile(1) == pytest.approx(12.7062047362, abs=1e-8)


def test_t_gives_the_reference_half_width() -> None:
    accuracies = np.array([0.6, 0.8, 0.7, 0.9])
    assert t_quantile(3) * accuracies.std(ddof=1) / 2 == pytest.approx(0.20542603, abs=5e-9)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1, 0], [1, 0, 1], "2 and 3 items"),
        ([], [], "no test item"),
        ([1, 2], [1, 0], "values other than 0 and 1"),
        ([[1], [0]], [1, 0], r"shape \[2, 1\]"),
        ([0.5, 1], [1, 0], "values other than 0 and 1"),
        ([math.nan, 1], [1, 0], "values other than 0 and 1"),
    ],
)
def test_bad_pairs_are_refused(a: list[float], b: list[float], words: str) -> None:
    for function in (paired_gap_se, mcnemar):
        with pytest.raises(UsageError, match=words):
            function(np.array(a), np.array(b))


def test_no_degrees_of_freedom() -> None:
    with pytest.raises(UsageError, match="two seeds"):
        t_quantile(0)


def test_correctness_keeps_bools() -> None:
    values = np.array([True, False])
    assert as_correct(values, what="x") is values
