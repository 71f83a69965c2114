"""OpenAI's recipe: the named method against the plain re-statement, over paired seeds."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import openai_parity as parity
from w2s_fast.tasks.task import Task


def made_up(*, n: int = 500, k: int = 5, d: int = 12) -> Task:
    """Raw features of large norm, as image encoders have; a weak model that is right more often than not."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    x = 5 * (rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)))
    said = np.where(rng.random(n) < 0.7, y, rng.integers(0, k, n))
    z = 2.0 * np.eye(k)[said] + rng.normal(size=(n, k))
    return Task.from_arrays(features=x, weak_logits=z, labels=y)


def test_three_paired_seeds_agree() -> None:
    records = parity.pairs(made_up(), seeds=3, epochs=10, peer=None)
    assert [record["seed"] for record in records] == [0, 1, 2]
    found = parity.difference(records, "restated")
    assert abs(found["mean"]) + found["half_width"] < parity.LIMIT
    assert np.std([record["ours"] for record in records]) > 0, "seeds differ, so agreement says something"


def test_another_recipe_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the learning rate on one side."""
    real = parity.restated
    monkeypatch.setattr(parity, "restated", lambda *given, **rest: real(*given, **rest, lr=1e-4))
    found = parity.difference(parity.pairs(made_up(), seeds=3, epochs=10, peer=None), "restated")
    assert abs(found["mean"]) + found["half_width"] > parity.LIMIT


def test_a_clone_s_own_function_is_run_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository with a function of that name in that place; it asks for a GPU, and learns on the CPU."""
    file = tmp_path / parity.FILE
    file.parent.mkdir()
    file.write_text(
        "import fire\nimport nowhere\n\n"
        "def train_logreg(x_train, y_train, eval_datasets, n_epochs, n_classes):\n"
        "    weight = torch.zeros(x_train.shape[1], n_classes).cuda()\n"
        "    for epoch in (bar := tqdm.tqdm(range(n_epochs), desc='Epoch 0')):\n"
        "        weight += x_train.cuda().T @ y_train.cuda()\n"
        "        bar.set_description('on')\n"
        "    x, y = eval_datasets['test']\n"
        "    return {'test': ((x @ weight).argmax(-1) == y).float().mean()}\n"
    )
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", parity.COMMIT]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(parity, "EPOCHS", {"one": 1})
    records = parity.pairs(made_up(), seeds=2, epochs=1, peer=parity.peers_own(tmp_path))
    assert all(record["theirs"] > 40 for record in records), "chance is 20"


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
    found = parity.difference(records, "theirs")
    assert found["mean"] == 1 and found["half_width"] == pytest.approx(4.302652729911275 / 3**0.5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_paired_seeds_on_the_drawn_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert parity.main(["--cache", str(tmp_path / "cache"), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["command"] == "python benchmarks/openai_parity.py --cache DIR"
    assert all(len(found[name]["seeds"]) == 20 for name in parity.EPOCHS)
    assert capsys.readouterr().out.count("20 seeds") == len(parity.EPOCHS)
