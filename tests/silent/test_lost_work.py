"""Nothing is lost after a fit: names are no paths, files are whole or absent, a report shows all that is whole."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.rows import check_results
from w2s_fast.results.results import Results
from w2s_fast.studies.study import save_every_head
from w2s_fast.tasks.task import Task

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 64, "seeds": 2}
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)
NAMES = ("imagenet/val", "a#b", "../../outside", "/etc/x", "naïve 名", "x" * 300, ".", "a\\b", "con.jsonl")


def named(name: str, **changes: Any) -> Task:
    task = student_world()
    return replace(task, manifest=replace(task.manifest, name=name), data=name, **changes)


@pytest.fixture(scope="module")
def results() -> Results:
    return w2s.fit(student_world(), loss="kd", **QUICK)


def halves(results: Results) -> int:
    """How many cells of the table have an interval."""
    return sum(cell.half is not None for line in results.table().rows for cell in line.cells)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_becomes_a_path(name: str, tmp_path: Path) -> None:
    results = w2s.fit(named(name), loss="kd", **QUICK)
    folder = tmp_path / "in" / "side"
    results.save(folder / "r.jsonl")
    save_every_head(results, folder / "heads")
    assert {p.relative_to(tmp_path).parts[:2] for p in tmp_path.rglob("*.*")} == {("in", "side")}
    assert {p.parent.name for p in folder.rglob("*.npy")} == {"r.jsonl.preds"}
    again = Results.load(folder / "r.jsonl")
    assert again.table().records() == results.table().records() and halves(again) > 0


@pytest.mark.parametrize("place", ["a#b/r.jsonl", "a#b/c#d.jsonl", "r#.jsonl", "with space/r"])
def test_a_file_may_lie_and_be_called_as_one_likes(place: str, results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / place)
    assert halves(Results.load(tmp_path / place)) == halves(results) > 0


def copied(file: Path) -> Path:
    return Path(shutil.copy(file, file.with_name("copy.jsonl")))


def renamed(file: Path) -> Path:
    return file.rename(file.with_name("other.jsonl"))


def renamed_with_its_folder(file: Path) -> Path:
    file.with_name(f"{file.name}.preds").rename(file.with_name("other.jsonl.preds"))
    return renamed(file)


def moved_away(file: Path) -> Path:
    (file.parent / "away").mkdir()
    shutil.move(file.with_name(f"{file.name}.preds"), file.parent / "away")
    return Path(shutil.move(file, file.parent / "away"))


@pytest.mark.parametrize("move", [copied, renamed, renamed_with_its_folder, moved_away])
def test_a_copied_or_renamed_file_keeps_its_intervals(move: Any, results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "r.jsonl")
    assert halves(Results.load(move(tmp_path / "r.jsonl"))) == halves(results) > 0


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def emptied(path: Path) -> None:
    path.with_suffix(".json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("harm", [gone, cut, emptied])
def test_missing_predictions_cost_their_own_rows_intervals_and_are_told(harm: Any, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    w2s.fit(named("first"), loss="kd", **QUICK).save(file)
    w2s.fit(named("second"), loss="kd", **QUICK).save(file)
    [victim] = [p for p in tmp_path.rglob("second-*.npy") if "tests" not in p.name]
    harm(victim)
    told: list[str] = []
    table = Results.load(file, torn=told).table()
    intervals = {g: any(c.half is not None for r in table.rows if r.group == g for c in r.cells) for g in table.groups}
    assert (intervals["first"], intervals["second"]) == (True, False) and len(told) == 1 and victim.name in told[0]
    assert {line.group for line in table.rows} >= {"first", "second"}, "every row is still shown"
    with pytest.raises(DataError, match=victim.name):
        Results.load(file)


def test_a_line_whose_runs_lie_in_a_lost_file_has_no_interval_and_the_others_have(tmp_path: Path) -> None:
    task, file = student_world(), tmp_path / "r.jsonl"
    for loss in ("kd", "ce"):
        w2s.fit(task, loss=loss, head="linear", **QUICK).save(file)
    pointer = next(r["preds"] for r in Results.load(file).rows if r["method"] == "ce+lp")
    (tmp_path / str(pointer).partition("#")[0]).unlink()
    told: list[str] = []
    table = Results.load(file, torn=told).table()
    found = {line.system: line.cells[0].half is not None for line in table.rows}
    assert (found["kd+lp"], found["ce+lp"]) == (True, False) and len(told) == 1


def test_heads_of_several_encoders_and_weak_models_have_files_of_their_own(tmp_path: Path) -> None:
    task, written = student_world(), []
    for strong in range(2):
        for weak in range(2):
            keys = {**task.keys, "features": f"f{strong}", "weak": {0: f"w{weak}"}}
            results = w2s.fit(replace(task, keys=keys), loss="kd", references=False, **QUICK)
            written += save_every_head(results, tmp_path)
    assert len(set(written)) == len(written) == len(list(tmp_path.glob("*.safetensors")))
    cards = [json.loads(p.with_suffix(".json").read_text())["card"] for p in written]
    assert {card["feature_key"] for card in cards} == {"f0", "f1"}


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"some text\n",
        b"[1, 2]\n",
        b'{"a": 1}\n',
        b"method,acc\nkd,0.5\n",
        b"\xff\xfe",
    ],
)
def test_a_file_that_holds_no_results_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no results"):
        check_results(path)
    assert path.read_bytes() == content


def test_that_is_said_before_anything_is_fitted(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PICTURE)
    run = subprocess.run(
        [sys.executable, "-m", "w2s_fast_cli", "train", "--loss", "kd", "--out", str(path), "-q"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2 and "holds no results" in run.stderr and path.read_bytes() == PICTURE


@pytest.mark.parametrize(
    "content", [b"", b"\n", b'{"schema": 1, "run_id": "a", "method": "kd+lp"}\n', b'{"schema": 1, "meth']
)
def test_results_files_are_taken_also_with_a_torn_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    check_results(path)
    path.write_bytes(content)
    check_results(path)


def test_a_full_disk_leaves_no_part_of_a_file(results: Results, tmp_path: Path) -> None:
    """In a process whose files may not grow beyond what predictions need."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, signal, sys, numpy as np; from pathlib import Path\n"
        "from w2s_fast.results import predictions\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "predictions._write(Path(sys.argv[1]), np.zeros(100_000))\n"
    )
    (tmp_path / "a.npy").write_bytes(b"whole")
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npy")], capture_output=True, text=True, check=False
    )
    assert "cannot write predictions" in run.stderr and run.returncode != 0
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == {tmp_path / "a.npy": b"whole"}, "what was there stays"
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    stems = {p.name for p in _saved(results, tmp_path)}
    assert stems == {p.name for p in _saved(results, tmp_path)}, "the same predictions are the same files"


def _saved(results: Results, folder: Path) -> list[Path]:
    results.save(folder / "r.jsonl")
    return sorted((folder / "r.jsonl.preds").iterdir())


def test_other_predictions_of_the_same_runs_replace_no_file(results: Results, tmp_path: Path) -> None:
    """A row points to what it was computed from, also after the run was repeated elsewhere with another rounding."""
    results.save(tmp_path / "r.jsonl")
    before = {p: p.read_bytes() for p in (tmp_path / "r.jsonl.preds").iterdir()}
    [kept] = results.kept
    flipped = tuple(replace(s, labels={k: np.roll(v, 1) for k, v in s.labels.items()}) for s in kept.systems)
    replace(results, kept=(replace(kept, systems=flipped),)).save(tmp_path / "r.jsonl")
    assert all(p.read_bytes() == content for p, content in before.items())
