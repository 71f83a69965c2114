"""Everything is checked before the first image, and what was done before a failure is kept and shown."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from w2s_fast.core.errors import DataError
from w2s_fast.finetune import supervisors
from w2s_fast.results.results import Results
from w2s_fast.studies import study
from w2s_fast.tasks import extraction
from w2s_fast.tasks.task import Task

Said = Callable[..., tuple[int, str, str]]


def task(name: str = "first") -> Task:
    """A small task without text."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    logits = np.eye(3)[labels] + rng.normal(size=(60, 3))
    features = np.eye(3)[labels] + rng.normal(size=(60, 3))
    return Task.from_arrays(features=features, weak_logits=logits, labels=labels, name=name)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task may be opened."""

    def opened(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a task was opened before everything was checked")

    monkeypatch.setattr(study, "open_task", opened)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["--selection", "foo"], 2, "unknown selection 'foo'"),
        (["--split", "foo"], 2, "unknown split 'foo'"),
        (["--precision", "fp16"], 2, "unknown precision 'fp16'; did you mean"),
        (["--supervision", "foo"], 2, "no supervision 'foo'"),
        (["--seeds", "0"], 2, "--seeds '0' names no seed"),
        (["--seeds", "5-3"], 2, "--seeds '5-3' names no seed"),
        (["--seeds", "-1"], 2, "give a count (5) or a range"),
        (["--weak-seeds", "0"], 2, "--weak-seeds must be at least 1"),
        (["--set", "foo=1"], 2, "unknown setting 'foo'"),
        (["--set", "tau_w=-1"], 2, "tau_w=-1"),
        (["--set", "solver=adm"], 2, "no solver 'adm'"),
        (["--set", "schedule=cosin"], 2, "no schedule 'cosin'"),
        (["--epochs", "0"], 2, "epochs must be at least 1"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
        (["--strong", "timmm:x"], 2, "'timm'"),
        (["--weak", "weak:nope"], 1, "there is no supervisor weak:nope"),
        (["--template", "a photo"], 2, "exactly one {}"),
        (["--out", "{tmp}"], 2, "Is a directory"),
        (["--out", "/proc/x/r.jsonl"], 2, "cannot write /proc/x/r.jsonl"),
        (["--save-heads", "/proc/x"], 2, "cannot write /proc/x"),
        (["--data", "drawn:sketch", "drawn:nope"], 1, "no domain 'nope'"),
        (["--data", "drawn:sketch", "imagefolder:/nope"], 1, "/nope does not exist"),
        (["--data", "drawn:sketch", "nosource:x"], 2, "unknown data source"),
        (["--loss", "{tmp}/syntax.py:f"], 2, "syntax.py, line 2 does not run (SyntaxError"),
        (["--loss", "{tmp}/imports.py:f"], 2, "does not run (ModuleNotFoundError: No module named 'nonono')"),
        (["--loss", "{tmp}/value.py:mine"], 2, "'mine' in {tmp}/value.py is not a function but of type int"),
        (["--loss", "{tmp}/value.py:mint"], 2, "no function 'mint'"),
    ],
)
def test_wrong_arguments_of_train_cost_nothing(
    said: Said, tmp_path: Path, argv: list[str], status: int, words: str
) -> None:
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "imports.py").write_text("import nonono\n")
    (tmp_path / "value.py").write_text("mine = 3\n")
    given = [a.replace("{tmp}", str(tmp_path)) for a in argv]
    given += [] if "--out" in given else ["--out", str(tmp_path / "r" / "r.jsonl")]
    code, out, err = said("train", "--method", "kd+lp", *given)
    assert (code, out) == (status, "")
    assert words.replace("{tmp}", str(tmp_path)) in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "r" / "r.jsonl").exists()


def test_extract_looks_for_every_data_set_first(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction.supervisors, "expand", lambda *_, **__: pytest.fail("extraction was begun"))
    code, _, err = said("extract", "--data", "drawn:sketch", "drawn:nope")
    assert code == 1 and "no domain 'nope'" in err


def test_a_study_that_fails_later_keeps_and_shows_what_is_done(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = iter([task()])

    def opened(*_: Any, **__: Any) -> Task:
        for one in tasks:
            return one
        raise DataError("the second set is broken; fix it")

    monkeypatch.setattr(study, "open_task", opened)
    out = tmp_path / "new" / "r.jsonl"
    code, table, err = said("train", "--method", "kd+lp", "--data", "drawn:sketch", "drawn:real", "--out", out)
    assert code == 3
    assert "kd+lp" in table and "weak" in table
    assert err.splitlines()[-1] == "error: the second set is broken; fix it"
    assert f"rows and predictions of first are in {out}" in err
    assert {row.get("method") for row in Results.load(out).rows} >= {"kd+lp"}


def test_a_study_that_fails_at_once_keeps_its_status(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> NoReturn:
        raise DataError("broken")

    monkeypatch.setattr(study, "open_task", broken)
    code, table, err = said("train", "--method", "kd+lp", "--out", tmp_path / "r.jsonl")
    assert (code, table, err) == (1, "", "error: broken\n")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A results file with one run."""
    from w2s_fast.methods.fit import fit

    fit(task(), method="kd+lp", seeds=2, epochs=1).save(tmp_path / "r.jsonl")
    return tmp_path / "r.jsonl"


def test_report_without_predictions_has_no_intervals(said: Said, rows: Path) -> None:
    code, whole, _ = said("report", rows)
    assert code == 0 and "±" in whole.partition("*")[0]
    shutil.copy(rows, rows.with_name("moved.jsonl"))
    code, out, err = said("report", rows.with_name("moved.jsonl"))
    assert code == 0 and "No intervals" in out and "kd+lp" in out and "±" not in out.partition("*")[0]
    assert "no kept predictions" in err


def test_places_that_cannot_be_written_are_named(said: Said, rows: Path) -> None:
    code, _, err = said("report", rows, "--picture", "/nonexist/x.svg")
    assert code == 2 and err == "error: --picture: cannot write /nonexist/x.svg: No such file or directory\n"
    code, _, err = said("data", "split", "drawn:sketch", "--export", "/nonexist/s.json")
    assert code == 2 and err == "error: --export: cannot write /nonexist/s.json: No such file or directory\n"


def test_a_split_is_written_and_read_against_the_data(said: Said, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    code, out, _ = said("data", "split", "drawn:sketch", "--seed", "3", "--export", file, "--json")
    assert code == 0 and json.loads(out)["seed"] == 3
    code, again, _ = said("data", "split", "drawn:sketch", "--import", file, "--json")
    assert code == 0 and json.loads(again) == json.loads(out)
    code, _, err = said("data", "split", "drawn:real", "--import", file)
    assert code != 0 and "the split is of another data set" in err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "error: cannot read or write /a/b: Permission denied\n"),
        (OSError(28, "No space left on device"), "error: No space left on device\n"),
        (ConnectionError("no route to huggingface.co"), "error: no route to huggingface.co\n"),
    ],
)
def test_an_error_of_the_system_is_a_sentence(
    said: Said, monkeypatch: pytest.MonkeyPatch, error: OSError, sentence: str
) -> None:
    def fails(_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr("w2s_fast.data.expand_data", fails)
    assert said("data", "ls") == (1, "", sentence)


def test_ctrl_c_where_nothing_is_kept(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("w2s_fast.data.expand_data", interrupted)
    assert said("data", "ls") == (1, "", "stopped\n")


def test_weak_says_how_many_images_it_could_not_read(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"name": "weak:w/0", "data": "d", "n_train": 8, "acc_train": 1.0, "acc_pool": 0.5, "seconds": 1.0}
    for failures, status in ((2, 3), (0, 0), (None, 0)):
        told = record if failures is None else {**record, "failures": failures}
        monkeypatch.setattr(supervisors, "train_supervisors", lambda *_, told=told, **__: iter([told]))
        code, _, err = said("weak", "--data", "drawn:sketch", "--name", "w")
        assert code == status and ("2 images of D_train could not be read" in err) == bool(failures)


def test_help_keeps_the_defaults_that_are_told_in_words(said: Said) -> None:
    code, out, _ = said("train", "--help")
    assert code == 0 and "the head's, 0.01" in " ".join(out.replace("│", " ").split())
