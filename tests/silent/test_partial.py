"""What exists is not averaged as if it were all, and what has ended is kept however the rest ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast.methods.fit import fit_plan
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.methods.plan import Plan
from w2s_fast.results.results import Results
from w2s_fast.results.scoring import score

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64}


def cut_after(runs: int, **arguments: Any) -> Results:
    """What Ctrl-C after so many fits leaves."""
    cut: list[Results] = []

    def stop(done: int, total: int) -> None:
        if done >= runs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task = arguments.pop("task", None) or student_world()
        w2s.fit(task, on_progress=stop, on_cut=cut.append, **{**QUICK, **arguments})
    return cut[0]


def test_after_ctrl_c_a_missing_ceiling_is_told_and_not_replaced() -> None:
    whole = w2s.fit(student_world(), method=["kd+lp", "cpl"], seeds=2, **QUICK)
    expected = {(r["run_id"], r["selection"]): r for r in whole.rows}
    total = len(whole.fits)
    seen = {"same": 0, "null": 0}
    for runs in range(1, total):
        for row in cut_after(runs, method=["kd+lp", "cpl"], seeds=2).rows:
            full = expected[row["run_id"], row["selection"]]
            for key, reason in (("acc_ceiling", "no ceiling of its head"), ("acc_ceiling_best", "no best ceiling")):
                if row[key] == full[key]:
                    seen["same"] += 1
                else:
                    assert row[key] is None and reason in str(row["note"]), "null with a reason, never another number"
                    seen["null"] += 1
            assert row["pgr_best"] in (full["pgr_best"], None) and row["pgr"] in (full["pgr"], None)
            assert row["acc_w2s"] == full["acc_w2s"] and row["pgr_zs"] in (full["pgr_zs"], None)
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize(("head", "own"), [("linear", True), ("prototype", False)])
def test_where_a_ceiling_diverged_the_best_of_the_others_is_no_best_one(head: str, own: bool) -> None:
    task = student_world()
    outcomes = list(w2s.fit(task, method="kd+lp", seeds=2, **QUICK).fits)
    for n, one in enumerate(outcomes):
        if one.ceiling and one.seed == 1 and one.head.startswith(head):
            outcomes[n] = replace(one, status="diverged", predicted={}, selected_epoch={})
    for row in score(task, outcomes, mode="rotate", device="cpu").rows:
        if row["role"] == "student":
            lost = row["seed"] == 1
            assert (row["acc_ceiling_best"] is None) == (row["pgr_best"] is None) == lost
            assert ("no best ceiling: 1 of 2 ceilings of seed 1 diverged" in str(row["note"])) == lost
            assert (row["acc_ceiling"] is None) == (lost and own)
            assert ("no ceiling of its head: that of seed 1 diverged" in str(row["note"])) == (lost and own)


def test_the_base_of_pgr_zs_is_that_of_the_runs_asked_for() -> None:
    """Whatever has ended, it is measured from what the whole study measures it from."""
    rng, n, k = np.random.default_rng(5), 500, 4
    labels = np.arange(n) % k
    means = 2 * rng.normal(size=(k, 12))
    weak = np.where(rng.random(n) < 0.42, rng.integers(0, k, n), labels)
    task = w2s.Task.from_arrays(
        features=means[labels] + rng.normal(size=(n, 12)),
        weak_logits=4.0 * np.eye(k)[weak],
        labels=labels,
        text=means + 3 * rng.normal(size=(k, 12)),
    )
    long = {"method": "kd+lp", "seeds": 5, "epochs": 20, "batch_size": 64}
    whole = w2s.fit(task, **long)
    last = [r for r in whole.rows if r["role"] == "student" and r["selection"] == "last"]
    better = {r["acc_zero_shot"] > r["acc_weak"] for r in last}
    assert better == {True, False}, "folds differ in which is better"
    expected = {(r["run_id"], r["selection"]): r["pgr_zs"] for r in whole.rows}
    part = cut_after(len(whole.fits) - 1, task=task, **long)
    values = [(r["pgr_zs"], expected[r["run_id"], r["selection"]]) for r in part.rows if r["pgr_zs"] is not None]
    assert values and all(value == full for value, full in values)


def test_rows_are_handed_over_once_and_final() -> None:
    task, parts = student_world(), list[Results]()
    plan = Plan.of(FitOptions(method=("kd+lp", "cpl"), seeds=(0, 1, 2), settings=dict(QUICK)))
    whole = fit_plan(task, plan, compute=ComputeOptions(), on_final=parts.append, every=0.0)
    seconds = {"seconds", "seconds_load", "seconds_compile", "seconds_fit", "seconds_evaluate", "stack"}

    def plain(row: Any) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in seconds}

    final = {(r["run_id"], r["selection"]): plain(r) for r in whole.rows}
    told = [plain(row) for part in parts for row in part.rows]
    assert len(parts) > 1 and 0 < len(told) <= len(final)
    assert len({(r["run_id"], r["selection"]) for r in told}) == len(told), "none twice"
    assert all(final[row["run_id"], row["selection"]] == row for row in told), "and as they are in the end"


def test_a_file_written_in_parts_is_the_file_written_at_once(tmp_path: Path) -> None:
    task, written = student_world(), list[Any]()
    plan = Plan.of(FitOptions(method=("kd+lp", "cpl"), seeds=(0, 1), settings=dict(QUICK)))

    def save(part: Results) -> None:
        written.extend(part.save(tmp_path / "parts.jsonl", written=written))

    whole = fit_plan(task, plan, compute=ComputeOptions(), on_final=save, every=0.0)
    save(whole)
    whole.save(tmp_path / "once.jsonl")
    parts, once = (Results.load(tmp_path / name) for name in ("parts.jsonl", "once.jsonl"))
    lines = (tmp_path / "parts.jsonl").read_text().splitlines()
    assert len(lines) == len(once.rows) == len(parts.rows), "every row once"
    assert all(json.loads(line)["preds"] for line in lines)
    assert sorted(map(str, parts.table().records())) == sorted(map(str, once.table().records()))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from supervision_worlds import student_world
from w2s_fast.methods.fit import fit_plan
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.methods.plan import Plan
written = []
def save(part):
    written.extend(part.save(Path(sys.argv[1]), written=written))
    if len(written) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
plan = Plan.of(FitOptions(method=("kd+lp", "cpl"), seeds=tuple(range(5)), settings={"epochs": 2, "batch_size": 64}))
fit_plan(student_world(), plan, compute=ComputeOptions(), on_final=save, every=0.0)
"""


def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    worlds = str(Path(__file__).parents[1] / "worlds")
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "r.jsonl"), worlds]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    torn: list[str] = []
    results = Results.load(tmp_path / "r.jsonl", torn=torn)
    assert len(results.rows) > 20 and not torn
    assert any(cell.half is not None for line in results.table().rows for cell in line.cells)


STOPPED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from supervision_worlds import student_world
from w2s_fast.methods.fit import fit_plan
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.methods.plan import Plan
from w2s_fast_cli.output import Output
def note(done, of):
    if done == 4:
        os.kill(os.getpid(), int(sys.argv[3]))
plan = Plan.of(FitOptions(method=("kd+lp",), seeds=(0, 1, 2), settings={"epochs": 2, "batch_size": 64}))
with Output().stoppable("what is done is kept"):
    fit_plan(student_world(), plan, compute=ComputeOptions(), on_progress=note,
             on_cut=lambda results: results.save(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_finished_fits(number: signal.Signals, tmp_path: Path) -> None:
    worlds = str(Path(__file__).parents[1] / "worlds")
    argv = [sys.executable, "-c", STOPPED, str(tmp_path / "r.jsonl"), worlds, str(int(number))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 3 and run.stderr == "stopped: what is done is kept\n"
    assert len({row["run_id"] for row in Results.load(tmp_path / "r.jsonl").rows}) == 4
