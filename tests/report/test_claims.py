"""The ordering: its differences are the crossed intervals, and the words say what they show."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from report_worlds import RATES, world

from w2s_fast.core.errors import UsageError
from w2s_fast.core.intervals import Interval, Resamples
from w2s_fast.report.claims import ORDER, Claim, ordering, sentences
from w2s_fast.results.summary import Systems


def claim(domain: str, better: str, worse: str, low: float, high: float) -> Claim:
    interval = Interval(estimate=(low + high) / 2, low=low, high=high, se=0.01, components="items + seeds")
    return Claim(domain=domain, better=better, worse=worse, difference=interval)


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(0.01, 0.02, "yes"), (-0.02, -0.01, "no"), (-0.01, 0.02, "unclear"), (0.0, 0.0, "unclear")],
)
def test_what_an_interval_shows(low: float, high: float, holds: str) -> None:
    assert claim("d", "a", "b", low, high).holds == holds


def test_differences_are_matched_by_run_and_item() -> None:
    _, systems = world(("clipart", "sketch"))
    claims = ordering(systems)
    assert [(c.domain, c.better, c.worse) for c in claims] == [
        (domain, a, b) for domain in systems for a, b in itertools.pairwise(ORDER)
    ]
    one = systems["sketch"]
    resamples = Resamples(one.items, seeds=one.seeds, weak_seeds=one.weak_seeds)
    expected = resamples.interval(resamples.means(one.correct["kd+lp"]) - resamples.means(one.correct["ce+lp"]))
    assert claims[4].difference == expected


def test_a_world_in_which_it_holds_and_one_in_which_it_fails() -> None:
    _, good = world(seed=1)
    assert {c.holds for c in ordering(good)} == {"yes"}
    assert sentences(ordering(good))[0] == "cpl > kd+lp > ce+lp > weak holds in clipart."
    _, bad = world(rates={**RATES, "ce+lp": 0.45, "kd+lp": 0.8}, seed=1)
    assert [c.holds for c in ordering(bad)] == ["no", "yes", "no"]
    said = sentences(ordering(bad))
    assert said[0] == "cpl > kd+lp > ce+lp > weak does not hold at every step in clipart."
    assert said[1].startswith("clipart: cpl > kd+lp fails (-")
    assert "ce+lp > weak fails (-" in said[1]


def test_the_words() -> None:
    claims = [
        claim("x", "a", "b", 0.01, 0.03),
        claim("x", "b", "c", 0.02, 0.04),
        claim("y", "a", "b", -0.03, -0.01),
        claim("y", "b", "c", -0.01, 0.02),
        claim("z", "b", "c", 0.01, 0.02),
    ]
    assert sentences(claims) == [
        "a > b > c holds in 1 of 3 domains (x).",
        "y: a > b fails (-2.0 points [-3.0, -1.0]); b > c is unclear (+0.5 points [-1.0, +2.0]).",
        "z: not every system was run.",
        "Brackets are 95 % intervals of each difference, covering items + seeds.",
    ]
    assert sentences([*claims[:2], claim("y", "a", "b", 0.1, 0.2), claim("y", "b", "c", 0.1, 0.2)])[0] == (
        "a > b > c holds in all 2 domains."
    )
    assert sentences([claim(d, "a", "b", -0.1, 0.1) for d in "xyz"])[0] == (
        "a > b holds at every step in none of the 3 domains."
    )
    assert sentences([]) == []


def test_a_system_that_is_missing() -> None:
    _, systems = world(("clipart", "sketch"), seeds=2)
    one = systems["sketch"]
    fewer = {name: runs for name, runs in one.correct.items() if name != "cpl"}
    systems["sketch"] = Systems(items=one.items, correct=fewer, seeds=one.seeds, weak_seeds=one.weak_seeds)
    claims = ordering(systems)
    assert sum(c.domain == "sketch" for c in claims) == 2
    assert any(s == "sketch: not every system was run." or "not every system was run." in s for s in sentences(claims))
    with pytest.raises(UsageError, match="no kept predictions of 'kdlp'; did you mean 'kd\\+lp'"):
        ordering(systems, order=("kdlp", "weak"))


@pytest.mark.parametrize("order", [(), ("cpl",), ("cpl", "weak", "cpl")])
def test_an_order_needs_two_distinct_systems(order: tuple[str, ...]) -> None:
    _, systems = world(seeds=2)
    with pytest.raises(UsageError, match="two systems or more, each once"):
        ordering(systems, order=order)


def test_no_domain_gives_no_claim() -> None:
    assert ordering({}) == []
    empty = Systems(items=[], correct={name: [] for name in ORDER}, seeds=[], weak_seeds=[])
    with pytest.raises(UsageError, match="no kept predictions"):
        ordering({"d": empty})
    assert np.isfinite(ordering(world(seeds=1)[1])[0].difference.low)
