"""Listings of losses, heads and methods, and what is told at the command line where a method cannot be had."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.heads import HEADS
from w2s_fast.losses import LOSSES
from w2s_fast.methods.presets import METHODS
from w2s_fast.studies import study
from w2s_fast.tasks.task import Task

Said = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("command", "name", "known"), [("losses", "name", LOSSES), ("heads", "name", HEADS), ("methods", "method", METHODS)]
)
def test_listings_as_json(said: Said, command: str, name: str, known: dict[str, str]) -> None:
    code, out, err = said(command, "--json")
    assert code == 0, err
    found = {record[name]: record for record in json.loads(out)}
    assert list(found) == list(known)
    for record in found.values():
        assert record["source"] and record["equation"] and isinstance(record["verified"], bool)
        assert isinstance(record["settings" if command == "methods" else "parameters"], dict)
    if command == "heads":
        assert found["tip"]["parameters"]["beta"] == 5.5 and found["prototype"]["parameters"]["init"] == "text"
    if command == "methods":
        assert found["tip_f"]["settings"]["epochs"] == 20
    code, table, _ = said(command)
    assert code == 0 and next(iter(known)) in table


@pytest.fixture
def textless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies open a small task without text in place of the data set."""

    def opened(data: str, **_: Any) -> Task:
        rng = np.random.default_rng(0)
        labels = np.arange(90) % 3
        x, z = (np.eye(3)[labels] + rng.normal(size=(90, 3)) for _ in range(2))
        return Task.from_arrays(features=x, weak_logits=z, labels=labels, name=data)

    monkeypatch.setattr(study, "open_task", opened)


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["--loss", "gce(q=2)"], 2, "q=2.0 lies outside"),
        (["--loss", "kd(tau=2)"], 2, "no parameter 'tau'"),
        (["--loss", "kd", "--head", "adapter(form='x')"], 2, "'clip_adapter'"),
        (["--loss", "kd", "--head", "tip(shots=-1)"], 2, "shots=-1"),
        (["--loss", "kd", "--set", "init=class_mean"], 2, "reads ground truth"),
        (["--loss", "dkd"], 2, "dkd(target='weak')"),
        (["--loss", "kd", "--head", "text_encoder"], 1, "text tower"),
        (["--method", "kd+tp"], 1, "text tower"),
        (["--method", "clip_adapter"], 1, "--set init=weak_mean"),
        (["--loss", "kd", "--head", "linear(init='zero_shot')"], 1, "--set init=weak_mean"),
    ],
)
@pytest.mark.usefixtures("textless")
def test_what_cannot_be_had_is_one_sentence(
    said: Said, tmp_path: Path, argv: list[str], status: int, words: str
) -> None:
    code, out, err = said("train", "--data", "drawn:sketch", "--out", tmp_path / "r.jsonl", *argv)
    assert (code, out) == (status, "")
    lines = err.strip().splitlines()
    assert lines[-1].startswith("error: ") and words in lines[-1] and "Traceback" not in err


@pytest.mark.usefixtures("textless")
def test_the_way_out_that_is_told_works(said: Said, tmp_path: Path) -> None:
    argv = ["--method", "clip_adapter", "--set", "init=weak_mean", "--epochs", "1", "--json", "-q"]
    code, out, err = said("train", "--data", "drawn:sketch", "--out", tmp_path / "r.jsonl", *argv)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert {r["init"] for r in rows if r["method"] == "clip_adapter"} == {"weak_mean"}


def test_the_control_grid_by_name(said: Said, tmp_path: Path) -> None:
    code, _, err = said("sweep", "contrl")
    assert code == 2 and "or a name: control" in err
