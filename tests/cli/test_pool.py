"""`--pool` and `pool = true`: one task of all data sets, on the command line and in sweeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.results.results import Results
from w2s_fast.studies import dry_run as outlines
from w2s_fast.studies import study
from w2s_fast.tasks.task import Task

Said = Callable[..., tuple[int, str, str]]
DATA = ("--data", "drawn:sketch", "--data", "drawn:real")
SPEC = "csl(by='domain', assign='kl', levels='1-2', teacher_steps=5)"
FILE = f"""
pool = true
loss = "kd"
head = "linear"
supervision = ["weak", "{SPEC}", "csl(assign='oracle', levels='1-2', teacher_steps=5)"]
data = ["drawn:sketch", "drawn:real"]
[settings]
epochs = 2
batch_size = 16
"""


@pytest.fixture
def domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small tasks in place of two domains."""

    def opened(data: str, **_: Any) -> Task:
        rng = np.random.default_rng(len(data))
        labels = np.arange(120) % 3
        x, z = (np.eye(3)[labels] + rng.normal(size=(120, 3)) for _ in range(2))
        return Task.from_arrays(
            features=x, weak_logits=z, labels=labels, name=data, d_train=np.arange(120) < 40, encoders={"weak/0": z}
        )

    monkeypatch.setattr(study, "open_task", opened)


@pytest.mark.usefixtures("domains")
def test_all_data_sets_are_one_task(said: Said, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    train = ("train", "--pool", "--loss", "kd", "--head", "linear", "--epochs", 2, "--batch-size", 16, "--out", out)
    code, shown, err = said(*train, "--supervision", SPEC, *DATA)
    assert code == 0 and "drawn:real+drawn:sketch" in err and SPEC.partition("(")[0] in shown, err
    rows = Results.load(out).rows
    assert {row["data"] for row in rows} == {"drawn:real+drawn:sketch"}
    [row] = [r for r in rows if r["selection"] == "last" and not r["method"].startswith("ceiling")]
    assert [stage["level"] for stage in row["stages"] or ()] == [1, 2] and row["n_test"] == 32
    code, _, err = said(*train, "--data", "drawn:sketch")
    assert code == 2 and "--data A B" in err


@pytest.mark.usefixtures("domains")
def test_a_sweep_pools_and_hides_what_truth_made_of_the_stages(said: Said, tmp_path: Path) -> None:
    path, out = tmp_path / "pool.toml", tmp_path / "r.jsonl"
    path.write_text(FILE)
    code, shown, err = said("sweep", path, "--out", out, "--json", "-q")
    assert code == 0, err
    lines = [json.loads(line) for line in shown.splitlines()]
    assert {line["supervision"] for line in lines} == {
        "weak",
        "csl(assign='kl', by='domain', levels='1-2', teacher_steps=5)",
    }
    [stages] = [line["stages"] for line in lines if line["stages"] and line["selection"] == "last"]
    assert [set(stage) for stage in stages] == [{"level", "n_kept", "epochs", "keep_rate"}] * 2
    whole = [stage for row in Results.load(out).rows for stage in row["stages"] or ()]
    assert all({"acc_teacher", "acc_student", "precision_kept", "recall_kept"} <= set(stage) for stage in whole)


def test_a_dry_run_counts_the_pool_as_one_task(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "open_task", lambda *_, **__: pytest.fail("a task was opened"))
    monkeypatch.setattr(outlines, "open_encoder", lambda *_, **__: type("Encoder", (), {"dim": 128}))
    path = tmp_path / "pool.toml"
    path.write_text(FILE)
    code, shown, err = said("sweep", path, "--dry-run", "--json", "-q")
    assert code == 0, err
    records = [json.loads(line) for line in shown.splitlines()]
    assert {r["data"] for r in records if r["kind"] == "group"} == {"drawn:real+drawn:sketch"}
    # weak 1; each csl a student and a specialist of level 1, a student and two specialists of level 2; two ceilings
    assert records[-1]["runs"] == 1 + 2 * 5 + 2
