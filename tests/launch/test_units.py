"""Units are plain values: done apart, in any order and twice, they give what one process gives."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import w2s_fast as w2s
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.rows import read
from w2s_fast.core.shares import Share
from w2s_fast.launch import ray
from w2s_fast.launch.slurm import array_script
from w2s_fast.launch.units import extract_part, extract_units, fit_unit, fit_units
from w2s_fast.results.results import Results
from w2s_fast.store import layout
from w2s_fast.studies import study
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.studies.written import reopened
from w2s_fast.tasks.task import Task

SECONDS = ("seconds", "seconds_load", "seconds_compile", "seconds_fit", "seconds_evaluate", "preds")


def opened(data: str, **_: Any) -> Task:
    rng = np.random.default_rng(len(data))
    labels = np.arange(90) % 3
    x, z = (np.eye(3)[labels] + rng.normal(size=(90, 3)) for _ in range(2))
    return Task.from_arrays(features=x, weak_logits=z, labels=labels, name=data)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A question on two small tasks in place of two domains."""
    monkeypatch.setattr(study, "open_task", opened)
    return Experiment.of({"data": ["drawn:sketch", "drawn:real"], "method": ["kd+lp", "ce+lp"], "seeds": 2,
                          "settings": {"epochs": [1, 2], "batch_size": 16}})  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty small pictures of two classes, in parts of sixteen."""
    rng = np.random.default_rng(0)
    for n in range(40):
        folder = tmp_path / "pictures" / ("train" if n % 2 else "test") / f"class{n // 2 % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{n}.png")
    return tmp_path / "pictures"


def told(rows: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["run_id"], r["selection"]): {k: v for k, v in r.items() if k not in SECONDS} for r in rows}


def test_units_give_the_rows_of_one_process(asked: Experiment, tmp_path: Path) -> None:
    whole = [row for results in Study.of(asked).fit() for row in results.rows]
    assert told(w2s.run(asked, out=tmp_path / "r.jsonl").rows) == told(whole) == told(read(tmp_path / "r.jsonl"))
    folder = tmp_path / "many"
    units = fit_units(asked, folder)
    assert json.loads(json.dumps(units)) == units and [u["unit"] for u in units] == [0, 1]
    done = [fit_unit(unit) for unit in reversed(units)]
    assert sum(one["rows"] for one in done) == len(whole) and not any(one["diverged"] for one in done)
    found = Results.load(folder)
    assert told(found.rows) == told(whole) and len(list(read(folder))) == len(whole)
    assert set(found.predictions) == {"drawn:sketch", "drawn:real"} and found.table().rows
    assert list(reopened(folder)) == [asked.digest]
    # a unit that was done is kept: its worker was thought dead, or the array was sent again
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.jsonl")}
    assert fit_unit(units[0]) == done[1]
    assert {file.name: file.stat().st_mtime_ns for file in folder.glob("*.jsonl")} == before
    assert not list(folder.glob(".unit-*"))


def test_a_unit_that_fails_leaves_nothing_half_written(
    asked: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: str, **_: Any) -> Task:
        raise DataError("the disk is gone")

    monkeypatch.setattr(study, "open_task", broken)
    with pytest.raises(DataError, match="the disk is gone"):
        fit_unit(fit_units(asked, tmp_path / "many")[0])
    assert list((tmp_path / "many").iterdir()) == []
    with pytest.raises(DataError, match="no results file"):
        Results.load(tmp_path / "many")


def test_shares_cover_everything_once() -> None:
    for count in (1, 3, 8):
        owners = [[i for i in range(count) if n in Share.of(f"{i}/{count}")] for n in range(20)]
        assert all(len(one) == 1 for one in owners)
    for wrong in ("8/8", "1", "a/2", "-1/2", "1/0", "1/2/3", "0.5/2"):
        with pytest.raises(UsageError, match="is not a share"):
            Share.of(wrong)


def test_parts_made_apart_are_those_of_one_process(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "PART_ROWS", 16)
    job = {"data": [f"imagefolder:{pictures}"], "models": ["drawn:cnn/real-0"], "options": {"device": "cpu"}}
    [whole] = extract_units(job, 1, cache=tmp_path / "one")
    alone = extract_part(whole)
    assert (alone["made_parts"], alone["missing"], len(alone["banks"])) == (3, 0, 1)
    first, second = (extract_part(unit) for unit in extract_units(job, 2, cache=tmp_path / "two"))
    assert (first["made_parts"], first["missing"], first["banks"]) == (2, 1, [])
    assert (second["made_parts"], second["missing"], second["banks"]) == (1, 0, alone["banks"])
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def digests(cache: Path) -> list[str]:
    return [file.read_text() for file in sorted(cache.rglob("complete.json"))]


def test_an_array_is_a_script_for_sbatch() -> None:
    script = array_script(["w2s-fast", "train", "--loss", "kd(tau_w=2)"], 3, share="--units", cpus=2)
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash" and "#SBATCH --array=0-2" in lines and "#SBATCH --cpus-per-task=2" in lines
    assert lines[-1] == """exec w2s-fast train --loss 'kd(tau_w=2)' --units "${SLURM_ARRAY_TASK_ID}/3\""""
    assert "--gres" not in script and "#SBATCH --gres=gpu:1" in array_script(["true"], 1, share="--parts", gpus=1)
    with pytest.raises(UsageError, match="nothing to run"):
        array_script(["true"], 0, share="--parts")


@pytest.mark.slow
def test_an_array_runs_each_share_of_the_command(pictures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "my cache"
    command = ["w2s-fast", "extract", "--data", f"imagefolder:{pictures}", "--model", "drawn:cnn/real-0", "--cache",
               str(cache), "--json", "-q"]  # fmt: skip
    script = array_script(command, 2, share="--parts", cpus=2)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    made: list[int] = []
    for number in range(2):
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number), "PATH": path}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        made.append(json.loads(done.stdout)["made_parts"])
    assert made == [1, 0] and len(digests(cache)) == 1


@pytest.mark.slow
def test_ray_does_what_a_dead_worker_had_begun(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers; that of the first share is killed in the middle of it."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(layout, "PART_ROWS", 16)
    job = {"data": [f"imagefolder:{pictures}"], "models": ["drawn:cnn/real-0"], "options": {"device": "cpu"}}
    extract_part(extract_units(job, 1, cache=tmp_path / "one")[0])
    pid = tmp_path / "pid"

    def kill() -> None:
        while not pid.exists() or not pid.read_text():
            time.sleep(0.05)
        os.kill(int(pid.read_text()), 9)

    threading.Thread(target=kill, daemon=True).start()
    units = extract_units({**job, "here": str(tmp_path)}, 2, cache=tmp_path / "two")
    steps: list[tuple[int, int]] = []
    found = list(ray.run("killed_units:killed_once", units, workers=2, on_done=lambda *step: steps.append(step)))
    assert sum(one["made_parts"] for one in found) == 3 and steps == [(1, 2), (2, 2)]
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
    # an error of a unit's own is told as it is, after the others
    with pytest.raises(DataError, match="does not exist"):
        list(ray.run("w2s_fast.launch.units:extract_part",
                     [{**units[0], "data": ["imagefolder:/nowhere"]}, units[1]], workers=1))  # fmt: skip


def test_wrong_launchers_are_refused(said: Callable[..., tuple[int, str, str]]) -> None:
    asked = ("train", "--loss", "kd", "--data", "drawn:sketch")
    for more, words in ((("--launcher", "rey"), "did you mean 'ray'"), (("--units", "2/2"), "is not a share")):
        code, _, err = said(*asked, *more)
        assert code == 2 and words in err
