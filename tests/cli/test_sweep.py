"""`sweep` on the command line: groups before it runs, no ground truth unless asked, rows whole on disk; Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.methods import run as fitting
from w2s_fast.results.results import Results
from w2s_fast.studies import dry_run as outlines
from w2s_fast.studies import study
from w2s_fast.tasks.task import Task

Said = Callable[..., tuple[int, str, str]]

FILE = """
method = ["kd+lp", "ce+lp"]
seeds = 2
data = ["drawn:sketch", "drawn:real"]
[settings]
epochs = 2
batch_size = 16
lr = [0.01, 0.001]
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep over two small tasks in place of two domains."""

    def opened(data: str, **_: Any) -> Task:
        rng = np.random.default_rng(len(data))
        labels = np.arange(90) % 3
        x, z = (np.eye(3)[labels] + rng.normal(size=(90, 3)) for _ in range(2))
        return Task.from_arrays(features=x, weak_logits=z, labels=labels, name=data)

    monkeypatch.setattr(study, "open_task", opened)
    path = tmp_path / "grid.toml"
    path.write_text(FILE)
    return path


def test_a_sweep_shows_weak_agreement_and_no_truth(said: Said, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    code, shown, err = said("sweep", grid, "--out", out)
    assert code == 0, err
    rows = Results.load(out).rows
    assert len({row["run_id"] for row in rows if row["supervision"] == "weak"}) == 16
    for name in ("kd+lp[lr=0.01]", "ce+lp[lr=0.001]"):
        values = [r["agree_val"] for r in rows if r["method"] == name and r["selection"] == "last"]
        assert len(values) == 4
        line = next(line for line in shown.splitlines() if line.startswith(name))
        assert f"{100 * np.mean(values):.1f} ±{100 * np.std(values, ddof=1):.1f}" in line
    lines = [line for line in shown.splitlines() if "±" in line and "]" in line]
    agreed = [float(line.split("±")[0].split()[-1]) for line in lines]
    assert len(agreed) > 1 and agreed == sorted(agreed, reverse=True), "best first"
    assert "agrees best with its labels, which rewards copying" in err
    assert not [w for w in ("accuracy", "PGR", "zero-shot", "ceiling") if w in shown + err]
    code, shown, _ = said("sweep", grid, "--out", out, "--reveal")
    assert code == 0 and "accuracy" in shown and "best ceiling" in shown and "kd+lp[lr=0.01]" in shown


def test_agreement_with_other_labels_is_told(said: Said, grid: Path, tmp_path: Path) -> None:
    told = "compare configurations of one supervision"
    for supervision, expected in ((["smooth"], False), (["weak", "smooth"], True), (["weak", "gt_noise"], False)):
        grid.write_text(f"supervision = {json.dumps(supervision)}\n" + FILE)
        code, _, err = said("sweep", grid, "--out", tmp_path / "r.jsonl")
        assert code == 0 and (told in err) == expected, err


def test_json_hides_truth_and_the_file_does_not(said: Said, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    code, shown, _ = said("sweep", grid, "--out", out, "--json", "-q")
    lines = [json.loads(line) for line in shown.splitlines()]
    assert code == 0 and len(lines) == 32 and {line["selection"] for line in lines} == {"last", "weak_val"}
    whole = [json.loads(line) for line in out.read_text().splitlines()]
    hidden = {key for row in whole for key in row} - {key for line in lines for key in line}
    assert hidden == {
        "acc_weak", "acc_zero_shot", "acc_fusion", "acc_w2s", "acc_w2s_pool", "acc_ceiling", "acc_ceiling_best",
        "acc_val", "measured_by", "pgr", "pgr_best", "pgr_zs", "pgr_flag", "agree_right", "agree_wrong",
        "rise_val",
    }  # fmt: skip
    code, shown, _ = said("sweep", grid, "--out", out, "--json", "-q", "--reveal")
    assert code == 0 and shown == out.read_text()[-len(shown) :] and '"acc_w2s": 0' in shown


@pytest.mark.parametrize(
    ("text", "argv", "words"),
    [
        (FILE, ["--selection", "oracle"], "--selection oracle is made by ground truth"),
        (FILE.replace("seeds", "supervision = 'gt'\nseeds"), [], "supervision = 'gt' trains on ground truth"),
        (FILE.replace("seeds", "sedes"), [], "unknown key 'sedes'; did you mean 'seeds'"),
        (FILE.replace("2\ndata", "0\ndata"), [], "no seeds"),
        (FILE.replace("[settings]", "[setings]"), ["--dry-run"], "unknown key 'setings'; did you mean 'settings'"),
    ],
)
def test_wrong_sweeps_cost_nothing(
    said: Said, grid: Path, tmp_path: Path, text: str, argv: list[str], words: str
) -> None:
    grid.write_text(text)
    code, out, err = said("sweep", grid, "--out", tmp_path / "r.jsonl", *argv)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1
    assert not (tmp_path / "r.jsonl").exists()


def test_a_dry_run_prints_groups_and_totals(
    said: Said, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "open_task", lambda *_, **__: pytest.fail("a task was opened"))
    monkeypatch.setattr(fitting, "fit_heads", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(outlines, "open_encoder", lambda *_, **__: type("Encoder", (), {"dim": 128}))
    code, shown, err = said("sweep", grid, "--dry-run", "--out", tmp_path / "r.jsonl")
    assert code == 0 and not (tmp_path / "r.jsonl").exists()
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0][:6] == ["data", "head", "losses", "batch", "runs", "stacks"]
    # a seed of a domain: kd and ce at two rates with two ceilings on linear heads, and one ceiling on a prototype
    assert [line[0] for line in lines[1:]] == ["drawn:sketch"] * 2 + ["drawn:real"] * 2 + ["all"]
    assert lines[-1][:2] == ["all", "28"]
    assert err.count("not extracted yet: drawn:clip") == 2 and "w2s-fast extract --data drawn:real" in err
    code, shown, _ = said("sweep", grid, "--dry-run", "--json", "-q")
    records = [json.loads(line) for line in shown.splitlines()]
    assert [r["kind"] for r in records].count("missing") == 4 and records[-1]["kind"] == "total"
    groups = [r for r in records if r["kind"] == "group"]
    assert sum(r["runs"] for r in groups) == records[-1]["runs"] == 28
    assert records[-1]["seconds"] == pytest.approx(sum(r["seconds"] for r in groups))
    assert all(sum(r["widths"]) == r["runs"] == sum(r["losses"].values()) and r["bytes"] > 0 for r in groups)


STOPPED = """
import sys, time
import numpy as np
from w2s_fast.methods import run as fitting
from w2s_fast.studies import study
from w2s_fast.tasks.task import Task
from w2s_fast_cli.main import run

rng = np.random.default_rng(0)
labels = np.arange(90) % 3
x, z = (np.eye(3)[labels] + rng.normal(size=(90, 3)) for _ in range(2))
study.open_task = lambda *_, **__: Task.from_arrays(features=x, weak_logits=z, labels=labels, name="small")
real = fitting.fit_heads

def told(*args, **options):
    for one in real(*args, **options):
        yield one
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)

fitting.fit_heads = told
run(["train", "--method", "kd+lp", "--seeds", "3", "--data", "drawn:sketch", "--set", "epochs=[1, 3]",
     "--no-references", "--out", "r.jsonl", "--device", "cpu"])
"""


def test_ctrl_c_keeps_the_rows_of_finished_fits(tmp_path: Path) -> None:
    err = tmp_path / "err.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "W2S_FAST_CACHE": str(tmp_path / "cache")}
    with err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED], stderr=stderr, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment
        )
    try:
        deadline = time.monotonic() + 90
        while process.poll() is None and "waiting" not in err.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, err.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 3, err.read_text()
    finally:
        process.kill()
    assert err.read_text().splitlines()[-1] == (
        "stopped: rows and predictions of small are in r.jsonl, but for 5 fits of small that were cut short; "
        "the same command fits them"
    )
    kept = Results.load(tmp_path / "r.jsonl")
    assert {(row["method"], row["status"]) for row in kept.rows} == {("kd+lp[epochs=1]", "ok")}
    assert len({row["run_id"] for row in kept.rows}) == 1
    [predictions] = kept.predictions.values()
    assert "kd+lp[epochs=1]" in predictions.names() and "weak" in predictions.names()


def test_train_on_a_cached_bank_imports_no_model_library(tmp_path: Path) -> None:
    code = STOPPED.partition("real = fitting.fit_heads")[0]
    code += 'run(["train", "--method", "kd+lp", "--data", "drawn:sketch", "--epochs", "1", "--out", "r.jsonl", "-q"])'
    code = code.replace("run([", "try:\n    run([", 1) + "\nexcept SystemExit:\n    print('modules:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True
    )
    loaded = set(done.stdout.partition("modules:")[2].split())
    assert "torch" in loaded and "w2s_fast.train.engine" in loaded
    # not PIL, with which the drawn world draws its probe
    heavy = {"zarr", "timm", "open_clip", "torchvision", "transformers", "scipy", "sklearn", "triton"}
    assert loaded & (heavy | {"torch._dynamo", "torch._inductor", "sympy"}) == set()
