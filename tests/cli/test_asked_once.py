"""A question is checked, resolved and opened once, and can be asked anew from its results."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from w2s_fast import data
from w2s_fast.core import fields
from w2s_fast.data import drawn, drawn_source
from w2s_fast.losses.loss import Loss
from w2s_fast.methods import plan as planning
from w2s_fast.studies import experiment as experiments
from w2s_fast.studies.experiment import Experiment
from w2s_fast.tasks import opening


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drawn domains of five images a class in the pool."""
    monkeypatch.setattr(drawn, "POOL_PER_CLASS", 5)
    drawn_source._domain.cache_clear()
    yield
    drawn_source._domain.cache_clear()


@pytest.mark.usefixtures("few_drawings")
def test_a_question_is_checked_resolved_and_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str, str]]
) -> None:
    command = ("train", "--loss", "cpl", "--data", "drawn:sketch", "--weak", "drawn:cnn/0", "--epochs", "1",
               "--cache", tmp_path / "cache")  # fmt: skip
    assert said(*command, "--out", tmp_path / "first.jsonl")[0] == 0
    counts: Counter[str] = Counter()

    def counted(owner: Any, name: str, label: str = "") -> None:
        real = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            made = real(*args, **options)
            counts[label or ("loss" if isinstance(made, Loss) else "other")] += 1
            return made

        monkeypatch.setattr(owner, name, call)

    counted(planning, "resolve", "names resolved")
    counted(planning, "grid_of", "grids spanned")
    counted(experiments, "read_options", "checked")
    for owner in (data, opening):
        counted(owner, "open_manifest", "manifests opened")
    counted(fields, "check")
    fields._built.cache_clear()
    code, shown, err = said(*command, "--out", tmp_path / "second.jsonl", "--json")
    assert code == 0, err
    runs = len({json.loads(line)["run_id"] for line in shown.splitlines()})
    once = {"names resolved": 1, "grids spanned": 1, "checked": 1, "manifests opened": 1}
    assert {key: counts[key] for key in once} == once
    assert runs == 3 and 0 < counts["loss"] <= runs
    rows = [json.loads(line) for line in (tmp_path / "second.jsonl").read_text().splitlines()]
    asked = Experiment.of({"data": "drawn:sketch", "weak": "drawn:cnn/0", "loss": "cpl", "settings": {"epochs": 1}})
    assert {row["experiment"] for row in rows} == {asked.digest}
    # asked anew from the rows alone, whole and for one run
    for more in ((), ("--row", rows[0]["run_id"])):
        code, _, err = said("train", "--again", tmp_path / "second.jsonl", "--out", tmp_path / "third.jsonl",
                            "--cache", tmp_path / "cache", *more)  # fmt: skip
        assert code == 0 and f"{len(rows)} of {len(rows)} rows of the same runs have the accuracy" in err
    code, _, err = said("train", "--again", tmp_path / "second.jsonl", "--row", "zzz")
    assert code == 2 and "no run of" in err
    code, shown, _ = said("train", "--again", tmp_path / "second.jsonl", "--seeds", "2", "--explain")
    assert code == 0 and "seeds = [0, 1]" in shown and "epochs = 1" in shown
