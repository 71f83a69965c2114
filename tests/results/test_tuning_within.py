"""Tuning within one data set against naive searches over plain rows, and what it says of itself."""

from __future__ import annotations

import pytest
from test_tuning import swept

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import Row
from w2s_fast.results.summary import group_of, summarise
from w2s_fast.results.summary.tuning_within import by_agreement, leave_one_seed_out

ONE = ("sketch",)


def naive(rows: list[Row], method: str, key: str, *, without: int | None = None) -> str:
    best, best_score = "", -1.0
    for name in sorted({r["method"] for r in rows if r["method"].startswith(f"{method}[")}):
        values = [r[key] for r in rows if r["method"] == name and r["seed"] != without]
        score = sum(values) / len(values)
        if score > best_score:
            best, best_score = name, score
    return best


@pytest.mark.parametrize("seed", range(6))
def test_each_seed_is_reported_with_what_the_others_pick(seed: int) -> None:
    rows, systems = swept(ONE, seed=seed)
    tuned = leave_one_seed_out(rows, {group_of(rows[0]): systems["sketch"]})
    accuracy = {(r["method"], r["seed"]): r["acc_w2s"] for r in rows}
    for method in ("ce+lp", "cpl"):
        mine = {r["seed"]: r["acc_w2s"] for r in tuned.rows if r["method"] == method}
        expected = {s: accuracy[naive(rows, method, "acc_val", without=s), s] for s in range(3)}
        assert mine == expected
    table = summarise(tuned.rows, systems)
    assert {"ce+lp", "cpl"} < set(table.systems) and table.cell("sketch", "cpl", "runs").value == 3
    assert table.cell("sketch", "cpl", "accuracy").half is not None
    assert "other seeds" in tuned.notes[0] and len(tuned.choices) == 6


def test_its_own_hold_val_does_not_enter_a_seed_s_choice() -> None:
    rows, _ = swept(ONE)
    before = {r["method"]: r["run_id"] for r in leave_one_seed_out(rows).rows if r["seed"] == 1}
    for row in rows:
        if row["seed"] == 1:
            row["acc_val"] = 1.0 if row.get("lr") == 1.0 else 0.0
    assert {r["method"]: r["run_id"] for r in leave_one_seed_out(rows).rows if r["seed"] == 1} == before


@pytest.mark.parametrize("seed", range(6))
def test_agreement_picks_without_ground_truth_and_warns(seed: int) -> None:
    rows, _ = swept(ONE, seed=seed)
    for n, row in enumerate(rows):
        row["agree_val"] = (n * 7919 % 101) / 101
    tuned = by_agreement(rows)
    picked = {choice.method: choice.configuration for choice in tuned.choices}
    assert picked == {method: naive(rows, method, "agree_val") for method in ("ce+lp", "cpl")}
    for row in rows:
        row["acc_val"] = 1 - (row["acc_val"] or 0)
    assert {c.method: c.configuration for c in by_agreement(rows).choices} == picked
    assert "Agreement rewards copying" in tuned.notes[0]


def test_agreement_is_compared_within_one_loss() -> None:
    rows, _ = swept(ONE)
    for row in rows:
        row["agree_val"] = 0.5
        if row["method"] == "cpl[lr=1]":
            row["loss"] = "kd(tau_w=2)"
    methods = {choice.method for choice in by_agreement(rows).choices}
    assert methods == {"ce+lp", "cpl ce", "cpl kd(tau_w=2)"}


def test_one_seed_is_refused() -> None:
    rows, _ = swept(ONE)
    with pytest.raises(DataError, match="needs two or more; fit with --seeds 5"):
        leave_one_seed_out([row for row in rows if row["seed"] == 0])
