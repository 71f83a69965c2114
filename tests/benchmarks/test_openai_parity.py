"""OpenAI's recipe: the named method against the plain re-statement, over paired seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import openai_parity as parity
from benchmarks.openai_parity import CASES, Case
from w2s_fast.tasks.task import Task


def made_up(*, n: int = 500, k: int = 5, d: int = 12) -> Task:
    """Raw features of large norm, as image encoders have; a weak model that is right more often than not."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    x = 5 * (rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)))
    said = np.where(rng.random(n) < 0.7, y, rng.integers(0, k, n))
    z = 2.0 * np.eye(k)[said] + rng.normal(size=(n, k))
    return Task.from_arrays(features=x, weak_logits=z, labels=y)


@pytest.mark.parametrize("whole", [False, True])
def test_three_paired_seeds_agree(whole: bool) -> None:
    records = parity.pairs(made_up(), Case(whole=whole), seeds=3)
    assert [record["seed"] for record in records] == [0, 1, 2]
    assert parity.difference(records)["bound"] < parity.LIMIT
    assert np.std([record["ours"] for record in records]) > 0, "seeds differ, so agreement says something"


def test_another_recipe_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the learning rate on one side."""
    real = parity.restated
    monkeypatch.setattr(parity, "restated", lambda *given, **rest: real(*given, **rest, lr=1e-4))
    assert parity.difference(parity.pairs(made_up(), Case(whole=True), seeds=3))["bound"] > parity.LIMIT


def test_their_start_is_the_heads() -> None:
    from w2s_fast.heads import Start, make
    from w2s_fast.losses import Supervision
    from w2s_fast.train.features import Resident

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        theirs = torch.nn.Linear(12, 5).weight
    x = Resident(table=torch.zeros(3, 12))
    found = make("linear").init(
        Start(k=5, d=12), seed=7, x=x, rows=torch.arange(3), supervision=Supervision(weak=torch.zeros(3, 5))
    )
    assert torch.allclose(found["weight"].float(), theirs, atol=1e-7)


def test_difference_by_hand() -> None:
    records = [{"ours": a, "theirs": b} for a, b in ((50.0, 49.0), (51.0, 51.0), (53.0, 51.0))]
    found = parity.difference(records)
    assert found["mean"] == 1 and found["half_width"] == pytest.approx(4.302652729911275 / 3**0.5)
    assert found["bound"] == pytest.approx(1 + 4.302652729911275 / 3**0.5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_paired_seeds_on_the_drawn_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert parity.main(["--cache", str(tmp_path / "cache"), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["command"] == "python benchmarks/openai_parity.py --cache DIR"
    assert set(found["cases"]) == set(CASES)
    for case in found["cases"].values():
        assert len(case["pairs"]) == 20 and case["bound"] < parity.LIMIT
    assert capsys.readouterr().out.count("20 pairs") == len(CASES)
