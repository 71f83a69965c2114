"""Data that name no recipe are trained long enough, whatever their size; recipes, and what is asked for, stay."""

from __future__ import annotations

import math

import numpy as np
import pytest

import w2s_fast as w2s
from w2s_fast.core.settings import LEAST_STEPS, Settings
from w2s_fast.data.splits import hold_train_rows
from w2s_fast.tasks.task import Task


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [(20, 1, 15), (393, 24, 18), (711, 44, 18), (4800, 300, 19), (9346, 512, 16), (15872, 512, 10), (10**6, 512, 10)],
)
def test_the_floor(rows: int, batch_size: int, epochs: int) -> None:
    found = Settings().resolved({}, rows=rows)
    assert (found.batch_size, found.epochs) == (batch_size, epochs)
    assert math.ceil(rows / batch_size) * epochs >= LEAST_STEPS and batch_size <= rows / 16


@pytest.mark.parametrize(
    ("asked", "defaults", "batch_size", "epochs"),
    [
        ({"epochs": 3}, {}, 24, 3),
        ({"batch_size": 200}, {}, 200, 150),
        ({"batch_size": 512, "epochs": 10}, {}, 512, 10),
        ({}, {"batch_size": 128}, 128, 10),
        ({}, {"batch_size": 128, "epochs": 20}, 128, 20),
    ],
)
def test_what_is_asked_for_or_comes_with_the_data_stays(
    asked: dict[str, int], defaults: dict[str, int], batch_size: int, epochs: int
) -> None:
    found = Settings(**asked).resolved(defaults, rows=393)  # type: ignore[arg-type]
    assert (found.batch_size, found.epochs) == (batch_size, epochs)


def small(n: int = 614, k: int = 6) -> Task:
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    x = rng.normal(size=(k, 16))[y] + rng.normal(size=(n, 16))
    weak = 2.0 * np.eye(k)[np.where(rng.random(n) < 0.6, y, rng.integers(0, k, n))]
    return Task.from_arrays(features=x, weak_logits=weak, labels=y)


def test_rows_say_how_long_they_were_trained() -> None:
    task = small()
    results = w2s.fit(task, method="kd+lp")
    n = hold_train_rows(task.manifest)
    assert abs(n - len(task.splits(seed=0).train)) <= 6
    assert {(r["batch_size"], r["epochs"]) for r in results.rows} == {(n // 16, 18)}
    full = w2s.fit(task, method="ce+lp", solver="lbfgs", references=False)
    assert {r["epochs"] for r in full.rows} == {10}


def test_a_ceiling_that_still_rises_is_told() -> None:
    short = w2s.fit(small(), method="kd+lp", epochs=8, batch_size=24, lr=1e-3, schedule="constant")
    [ceiling] = [r for r in short.rows if r["method"] == "ceiling+lp" and r["selection"] == "last"]
    curve = next(o for o in short.fits if o.method == "ceiling+lp").curves["acc_val"]
    assert ceiling["rise_val"] == curve[8] - curve[6] > 0.05
    [told] = [note for note in short.table().notes if "still rising" in note]
    assert f"ceiling+lp (+{100 * ceiling['rise_val']:.1f} points)" in told
    long = w2s.fit(small(), method="kd+lp", epochs=60, batch_size=24)
    assert not any("still rising" in note and "ceiling+lp" in note for note in long.table().notes)
