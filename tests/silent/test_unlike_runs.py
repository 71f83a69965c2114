"""Unlike runs never share a row of a table, like ones always do: what was asked decides, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast.core.errors import UsageError
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table
from w2s_fast.tasks.task import Task

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64, "head": "linear"}


def fit(**arguments: Any) -> Results:
    return w2s.fit(arguments.pop("task", None) or student_world(), **{**QUICK, **arguments})


def lines(table: Table) -> dict[str, tuple[float | None, bool]]:
    """Label -> runs, and whether there is an interval, of the lines of students."""
    at, runs = table.column("accuracy"), table.column("runs")
    return {
        line.system: (line.cells[runs].value, line.cells[at].half is not None)
        for line in table.rows
        if line.kind == "method"
    }


def make(sign: float) -> Callable[..., Any]:
    def mine(z: Any, weak: Any, batch: Any) -> Any:
        return -sign * (weak.probs * z.log_softmax(-1)).sum(-1)

    return mine


def from_file(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return f"{path}:mine"


MINE = "def mine(z, weak, batch):\n    return -(weak.probs * z.log_softmax(-1)).sum(-1)\n"
SHARP = MINE.replace("weak.probs", "weak.probs**2")
HELPED = "POWER = 1\ndef sharper(p):\n    return p**POWER\n" + MINE.replace("weak.probs", "sharper(weak.probs)")


def closures(tmp_path: Path) -> Results:
    return fit(loss=make(1.0), seeds=3) + fit(loss=make(0.5), seeds=[3, 4])


def edited(tmp_path: Path) -> Results:
    first = fit(loss=from_file(tmp_path / "my.py", MINE), seeds=3)
    return first + fit(loss=from_file(tmp_path / "my.py", SHARP), seeds=[3, 4])


def edited_beside(tmp_path: Path) -> Results:
    """The function is as before; a constant that a function of its own file reads is not."""
    first = fit(loss=from_file(tmp_path / "my.py", HELPED), seeds=3)
    return first + fit(loss=from_file(tmp_path / "my.py", HELPED.replace("POWER = 1", "POWER = 2")), seeds=[3, 4])


def shown_truth(tmp_path: Path) -> Results:
    return fit(loss="kd", seeds=3) + fit(loss="kd", seeds=[3, 4], w_gt=1.0)


def two_rates(tmp_path: Path) -> Results:
    return fit(loss="kd", seeds=3, lr=0.01) + fit(loss="kd", seeds=[3, 4], lr=0.02)


def two_lengths(tmp_path: Path) -> Results:
    return fit(loss="kd", seeds=3) + fit(loss="kd", seeds=[3, 4], epochs=1)


@pytest.mark.parametrize("pair", [closures, edited, edited_beside, shown_truth, two_rates, two_lengths])
def test_unlike_runs_of_one_name_are_two_rows_with_intervals_of_their_own(
    pair: Callable[[Path], Results], tmp_path: Path
) -> None:
    results = pair(tmp_path)
    results.save(tmp_path / "r.jsonl")
    for joined in (results, Results.load(tmp_path / "r.jsonl")):
        found = lines(joined.table())
        assert list(found.values()) == [(3, True), (2, True)], found
        assert len(found) == 2, "labels tell them apart"


@pytest.mark.parametrize(
    ("pair", "told"),
    [(shown_truth, "w_gt=1.0"), (two_rates, "lr=0.02"), (two_lengths, "epochs=1"), (closures, "loss_code=")],
)
def test_labels_show_what_differs(pair: Callable[[Path], Results], told: str, tmp_path: Path) -> None:
    labels = list(lines(pair(tmp_path).table()))
    assert told in labels[1], labels


def test_a_comparison_asks_which_where_a_name_has_two_rows(tmp_path: Path) -> None:
    results = two_rates(tmp_path)
    with pytest.raises(UsageError, match=r"'kd\+lp' was fitted as 'kd\+lp \(lr=0.01\)' and as 'kd\+lp \(lr=0.02\)'"):
        results.compare("kd+lp", "weak")
    assert results.compare("kd+lp (lr=0.02)", "weak")["arrays"].low < 1


@pytest.mark.parametrize("lr", [[0.01, 0.01], [0.01, 0.010], [1e-2, 0.01, 0.01]])
def test_a_value_given_twice_counts_once(lr: list[float]) -> None:
    results = fit(loss="kd", seeds=2, lr=lr)
    assert lines(results.table()) == {"kd+lp": (2, True)}
    assert len([row for row in results.rows if row["role"] == "student" and row["selection"] == "last"]) == 2


@pytest.mark.parametrize(
    "arguments", [{"lr": 0.01}, {"solver": "adam"}, {"schedule": "linear(warmup=0.1)"}, {"w_gt": 0}]
)
def test_a_default_written_out_is_the_same_question(arguments: dict[str, Any]) -> None:
    default = {row["run_id"] for row in fit(loss="kd", seeds=1).rows}
    assert {row["run_id"] for row in fit(loss="kd", seeds=1, **arguments).rows} == default


def ids(results: Results, method: str) -> set[str]:
    return {row["run_id"] for row in results.rows if row["method"] == method}


def test_a_run_has_one_id_in_any_company_and_under_any_name() -> None:
    task = student_world()
    alone = w2s.fit(task, loss="kd", **QUICK)
    company = w2s.fit(task, method=["kd+lp", "ce+lp", "cpl"], seeds=3, epochs=2, batch_size=64)
    renamed = w2s.fit(replace(task, data="other", strong="else", weak="whoever"), loss="kd", **QUICK)
    for name in ("kd+lp", "ceiling+lp"):
        assert ids(alone, name) <= ids(company, name) and ids(renamed, name) == ids(alone, name)


def test_two_seeds_on_one_split_are_two_runs() -> None:
    results = w2s.fit(student_world(), loss="kd", split="fixed", seeds=3, **QUICK)
    assert len(ids(results, "kd+lp")) == len(ids(results, "ceiling+lp")) == 3


def test_who_taught_is_part_of_the_question() -> None:
    task = student_world()
    other = replace(task, keys={**task.keys, "weak": dict.fromkeys(task.weak_logits, "another")})
    assert not ids(w2s.fit(task, loss="kd", **QUICK), "kd+lp") & ids(w2s.fit(other, loss="kd", **QUICK), "kd+lp")


def ceiling(z: Any, weak: Any, batch: Any) -> Any:
    return -(weak.probs * z.log_softmax(-1)).sum(-1)


def test_a_loss_called_ceiling_makes_no_ceiling() -> None:
    table = fit(loss=ceiling, seeds=2).table()
    kinds = [(line.system, line.kind) for line in table.rows if line.system.startswith("ceiling+lp")]
    assert kinds == [("ceiling+lp", "method"), ("ceiling+lp", "ceiling")]
    assert lines(table) == {"ceiling+lp": (2, True)}


def test_ceilings_of_one_accuracy_are_told_apart_by_id() -> None:
    """Both ceilings are right equally often, on other items: intervals are those of the one that the row names."""
    task = tied()
    results = w2s.fit(task, method=["kd+lp", "cpl"], seeds=2, epochs=2, batch_size=64)
    by_id = {row["run_id"]: row for row in results.rows}
    for row in results.rows:
        if row["role"] == "student" and row["selection"] == "last":
            same, best = (by_id[str(row["measured_by"][key])] for key in ("ceiling", "ceiling_best"))
            assert same["head"] == row["head"] and same["seed"] == best["seed"] == row["seed"]
            assert (same["role"], same["acc_w2s"]) == ("ceiling", row["acc_ceiling"])
            others = [r["acc_val"] for r in results.rows if r["role"] == "ceiling" and r["seed"] == row["seed"]]
            assert best["acc_val"] == max(v for v in others if v is not None)


def tied() -> Task:
    """Classes so far apart that every head knows them all."""
    rng, n, k = np.random.default_rng(0), 300, 4
    labels = np.arange(n) % k
    x = 5 * np.eye(k)[labels] + 0.1 * rng.normal(size=(n, k))
    said = np.where(rng.random(n) < 0.3, rng.integers(0, k, n), labels)
    return Task.from_arrays(features=x, weak_logits=4.0 * np.eye(k)[said], labels=labels, text=np.eye(k))
