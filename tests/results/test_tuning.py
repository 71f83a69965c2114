"""`leave_one_domain_out` against a naive search, what it may not see, equal numbers, and what it refuses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from report_worlds import world

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.rows import Row
from w2s_fast.results.summary import Systems, group_names, group_of, summarise
from w2s_fast.results.summary.tuning import Tuned, leave_one_domain_out

DOMAINS = ("clipart", "real", "sketch")
LR = {"ce+lp": (1, 2, 3), "cpl": (1, 2, 3)}
RATES = {
    "weak": 0.5,
    "zero-shot": 0.52,
    "fusion": 0.54,
    **{f"{name}[lr={lr}]": 0.55 + 0.01 * lr for name, rates in LR.items() for lr in rates},
    "ceiling+lp": 0.8,
    "ceiling+proto": 0.82,
}


def swept(
    domains: tuple[str, ...] = DOMAINS, rates: dict[str, float] | None = None, seed: int = 0
) -> tuple[list[Row], dict[str, Systems]]:
    """A sweep over learning rates, whose accuracies on hold-val are random numbers."""
    rows, systems = world(domains, seeds=3, n=60, rates=rates or RATES, seed=seed)
    rng = np.random.default_rng(seed)
    for row in rows:
        row["acc_val"] = float(rng.random())
        if "lr=" in row["method"]:
            row["lr"] = float(row["method"].partition("lr=")[2].rstrip("]"))
    return rows, systems


def naive(rows: list[Row], domain: str, method: str) -> str:
    """The best configuration on all domains but one, by loops over plain rows."""
    best, best_score = "", -1.0
    for name in sorted({r["method"] for r in rows if r["method"].startswith(f"{method}[")}):
        means = []
        for other in sorted({r["domain"] for r in rows} - {domain}):
            values = [r["acc_val"] for r in rows if r["domain"] == other and r["method"] == name]
            means.append(sum(v for v in values if v is not None) / len(values))
        if sum(means) / len(means) > best_score:
            best, best_score = name, sum(means) / len(means)
    return best


def tuned(rows: list[Row], systems: dict[str, Systems], **options: Any) -> Tuned:
    by_group = {group_of(row): systems[row["domain"]] for row in rows}
    return leave_one_domain_out(rows, by_group, **options)


@pytest.mark.parametrize("seed", range(12))
def test_picks_are_those_of_a_naive_search(seed: int) -> None:
    rows, systems = swept(seed=seed)
    found = tuned(rows, systems)
    assert len(found.choices) == len(DOMAINS) * len(LR) and found.count == 3
    for choice in found.choices:
        assert choice.configuration == naive(rows, choice.domain, choice.method), choice
        values = [
            [r["acc_val"] for r in rows if r["domain"] == d and r["method"] == choice.configuration]
            for d in DOMAINS
            if d != choice.domain
        ]
        assert choice.score == pytest.approx(np.mean(values), abs=1e-12) and choice.of == 3


def test_the_reported_domain_does_not_enter_its_own_choice() -> None:
    rows, systems = swept()
    before = {(c.domain, c.method): c.configuration for c in tuned(rows, systems).choices}
    for row in rows:
        if row["domain"] == "real":
            row["acc_val"] = 1.0 if row.get("lr") == 1.0 else 0.0
    after = {(c.domain, c.method): c.configuration for c in tuned(rows, systems).choices}
    assert {k: v for k, v in before.items() if k[0] == "real"} == {k: v for k, v in after.items() if k[0] == "real"}
    assert before != after


def test_the_table_is_that_of_the_picked_rows_with_their_intervals() -> None:
    rows, systems = swept()
    found = tuned(rows, systems)
    names = group_names(map(group_of, found.rows))
    table = summarise(found.rows, {names[g]: s for g, s in found.systems.items()})
    assert table.groups == (*DOMAINS, "mean of 3 domains")
    assert {row.system for row in table.rows if row.kind == "method"} == set(LR)
    whole = summarise(rows, systems)
    for choice in found.choices:
        cell = table.cell(choice.domain, choice.method, "accuracy")
        assert cell == whole.cell(choice.domain, choice.configuration, "accuracy") and cell.half is not None
        assert table.cell(choice.domain, choice.method, "pgr") == whole.cell(choice.domain, choice.configuration, "pgr")
    assert table.cell("real", "best ceiling", "accuracy") == whole.cell("real", "best ceiling", "accuracy")


def test_methods_pick_from_equally_many_whatever_the_order_and_the_results() -> None:
    rates = {**RATES, **{f"cpl[lr={lr}]": 0.6 for lr in range(4, 9)}}
    rows, systems = swept(rates=rates)
    found = tuned(rows, systems)
    assert found.count == 3 and {choice.of for choice in found.choices} == {3}
    every = sorted((name for name in rates if name.startswith("cpl")), key=lambda name: digest_json(["cpl", name]))
    assert {c.configuration for c in found.choices if c.method == "cpl"} <= set(every[:3])
    told = " ".join(found.notes)
    assert "best of 3" in told and "cpl (8)" in told and "ce+lp (" not in told
    for row in rows:
        row["acc_val"] = 1.0 if row["method"] == every[5] else 0.1
    again = tuned(rows[::-1], systems)
    assert every[5] not in {c.configuration for c in again.choices}
    assert {c.configuration for c in again.choices if c.method == "cpl"} == {sorted(every[:3])[0]}


def test_one_configuration_under_two_names_counts_once() -> None:
    rows, systems = swept()
    for row in rows:
        if row["method"] == "ce+lp[lr=3]":
            row["lr"] = 2.0
    found = tuned(rows, systems)
    assert found.count == 2 and Counter(c.of for c in found.choices) == {2: 6}


def test_a_configuration_that_some_run_lacks_is_left_out_and_told() -> None:
    rows, systems = swept()
    for row in rows:
        if (row["domain"], row["method"], row["seed"]) == ("real", "cpl[lr=2]", 1):
            row["status"], row["acc_w2s"] = "diverged", None
    found = tuned(rows, systems)
    assert found.count == 2 and "cpl[lr=2]" not in {c.configuration for c in found.choices}
    assert any("cpl[lr=2]" in note and "Left out" in note for note in found.notes)


def test_students_of_ground_truth_take_no_part() -> None:
    rows, systems = swept()
    for row in rows:
        if row["method"] == "cpl[lr=2]":
            row["supervision"], row["acc_val"] = "gt", 1.0
    assert all("lr=2" not in c.configuration for c in tuned(rows, systems).choices if c.method == "cpl")


def test_what_cannot_be_tuned_is_refused() -> None:
    rows, systems = swept(("real",))
    with pytest.raises(DataError, match="two domains or more, and there is only real"):
        tuned(rows, systems)
    rows, systems = swept()
    with pytest.raises(DataError, match="selection 'oracle'"):
        tuned(rows, systems, selection="oracle")
    ours = [r for r in rows if r["domain"] != "real" or r["method"].startswith("ceiling")]
    other = [{**r, "method": "kd+lp"} for r in rows if r["domain"] == "real" and r["method"] == "cpl[lr=1]"]
    with pytest.raises(
        DataError, match="no configuration has .* of every domain .clipart, real, sketch.; fit the same"
    ):
        leave_one_domain_out([*ours, *other])  # type: ignore[list-item]


def test_a_method_that_some_domain_lacks_is_left_out_and_told() -> None:
    rows, systems = swept()
    found = tuned([r for r in rows if (r["domain"], r["method"][:3]) != ("real", "cpl")], systems)
    assert {choice.method for choice in found.choices} == {"ce+lp"}
    assert "cpl[lr=1], cpl[lr=2], cpl[lr=3]" in " ".join(found.notes)


def test_strong_encoders_are_tuned_apart() -> None:
    rows, _ = swept()
    other = [row.copy() for row in swept(seed=5)[0]]
    for row in other:
        row["strong"] = "timm:other"
    found = leave_one_domain_out([*rows, *other])
    alone = {(c.domain, c.method): c.configuration for c in leave_one_domain_out(other).choices}
    mine = {c.domain.partition(" ")[0]: c for c in found.choices if "timm:other" in c.domain and c.method == "cpl"}
    assert {domain: c.configuration for domain, c in mine.items()} == {d: alone[d, "cpl"] for d in DOMAINS}


def test_another_supervision_is_another_method_and_its_arguments_are_configurations() -> None:
    rows, systems = swept()
    for row in rows:
        if row["method"].startswith("ce+lp[lr="):
            row["supervision"] = f"csl(keep='top{row['method'][-2]}')"
        elif row["method"].startswith("cpl[lr="):
            row["supervision"] = "weak" if row["method"] != "cpl[lr=3]" else "smooth"
    found = tuned(rows, systems)
    assert {choice.method for choice in found.choices} == {"ce+lp under csl", "cpl", "cpl under smooth"}
    assert found.count == 1
    names = group_names(map(group_of, found.rows))
    table = summarise(found.rows, {names[g]: s for g, s in found.systems.items()})
    assert table.cell("real", "ce+lp under csl", "accuracy").half is not None
