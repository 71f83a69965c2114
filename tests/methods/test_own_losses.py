"""A loss of one's own: as a function, from a file, from an installed package; and what is said when it is none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import gaussian_task

from w2s_fast.core.errors import SpecError, UsageError, W2SError
from w2s_fast.methods.fit import fit

FILE = """
from dataclasses import dataclass

from w2s_fast.losses import LogProbLoss, TargetLoss


def mine(z, weak, ctx):
    return -(weak.probs * z.log_softmax(-1)).sum(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Soft(TargetLoss):
    '''Cross-entropy to a share of the weak probabilities.

    share: of the cross-entropy that is counted.
    '''

    share: float = 1.0
    source = "a test"
    equation = "-share sum w log p"
    limits = {**TargetLoss.limits, "share": "[0, 1]"}

    def target(self, logp, batch):
        return batch.probs(self.tau_w) * self.share


@dataclass(frozen=True, kw_only=True, eq=False)
class Needy(LogProbLoss):
    power: float


half = Soft(share=0.5)
number = 3
"""
POINTS = "[w2s_fast.losses]\nsofter = my_losses:Soft\n"
SHORT: dict[str, Any] = {"head": "linear", "epochs": 2, "batch_size": 64, "references": False, "solver": "sgd"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip would have installed it, and its module as a file."""
    (tmp_path / "my_losses.py").write_text(FILE)
    info = tmp_path / "my_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "my_losses.py"


def weight(loss: Any) -> torch.Tensor:
    return fit(gaussian_task(n=60), loss=loss, **SHORT).best("last").theta["weight"]


def test_all_ways_train_the_same_head(package: Path) -> None:
    expected = weight("ce_soft")
    space: dict[str, Any] = {}
    exec(FILE, space)
    for loss in (space["mine"], f"{package}:mine", space["Soft"](), f"{package}:Soft", "softer"):
        assert torch.allclose(weight(loss), expected, atol=1e-6)
    for loss in (f"{package}:half", "softer(share=.5)", space["half"]):
        found = weight(loss)
        assert torch.allclose(found, weight("softer(share=.5)"), atol=1e-6)
        assert not torch.allclose(found, expected, atol=1e-3), "half a gradient goes half as far"


def test_rows_call_a_loss_by_its_name(package: Path) -> None:
    for loss, method, label in (("mine", "mine+lp", "mine"), ("half", "Soft+lp", "Soft(share=0.5)")):
        [row] = fit(gaussian_task(n=60), loss=f"{package}:{loss}", **SHORT).rows[:1]
        assert (row.get("method"), row.get("loss")) == (method, label)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Needy", r"loss .Needy. needs power: write Needy\(power=\.\.\.\)"),
        ("number", r"'number' in .* is not a function but of type int"),
        ("mime", r"has no function 'mime'; did you mean 'mine'"),
    ],
)
def test_what_is_no_loss_is_told(package: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit(gaussian_task(n=60), loss=f"{package}:{name}", **SHORT)


def test_an_installed_loss_is_checked_and_listed(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from w2s_fast_cli.main import run

    with pytest.raises(SpecError, match=r"'softer': share=2.0 lies outside \[0, 1\]"):
        fit(gaussian_task(n=60), loss="softer(share=2)", **SHORT)
    with pytest.raises(SystemExit):
        run(["losses", "--json"])
    records = {r["name"]: r for r in json.loads(capsys.readouterr().out)}
    assert records["softer"] == {
        "name": "softer",
        "about": "Cross-entropy to a share of the weak probabilities.",
        "parameters": {"tau_s": None, "tau_w": 1.0, "share": 1.0},
        "meaning": {
            "tau_s": "temperature of the student's logits; None is the head's.",
            "tau_w": "temperature of the weak logits.",
            "share": "of the cross-entropy that is counted.",
        },
        "equation": "-share sum w log p",
        "source": "a test",
        "verified": False,
        "needs": [],
        "default_head": None,
    }
    assert records["dkd"]["verified"] and records["dkd"]["needs"] == ["labels"]


def test_parameters_of_a_loss_in_a_file_are_given_and_swept(package: Path) -> None:
    rows = fit(gaussian_task(n=60), loss=f"{package}:Soft(share=[.25, .5])", **SHORT).rows
    found = {row.get("loss"): row.get("method") for row in rows}
    assert found == {"Soft(share=0.25)": "Soft+lp[Soft(share=0.25) @ linear]",
                     "Soft(share=0.5)": "Soft+lp[Soft(share=0.5) @ linear]"}  # fmt: skip
    one = weight(f"{package}:Soft(share=.5)")
    assert torch.allclose(one, weight(f"{package}:half"), atol=1e-6)
    for asked, words in {
        "Soft(share=2)": r"'Soft': share=2.0 lies outside \[0, 1\]",
        "Soft(shar=.5)": "loss 'Soft' has no parameter 'shar'; did you mean 'share'",
        "mine(share=.5)": "'mine' takes no parameters here",
    }.items():
        with pytest.raises(W2SError, match=words):
            fit(gaussian_task(n=60), loss=f"{package}:{asked}", **SHORT)


def test_a_sweep_file_names_them_too(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package.parent)
    text = 'loss = "my_losses.py:Soft(share=[0.25, 0.5])"\ndata = "drawn:sketch"\nseeds = 2\nhead = "linear"\n'
    (tmp_path / "mine.toml").write_text(text)
    program = [sys.executable, "-m", "w2s_fast_cli", "sweep", "mine.toml", "--dry-run", "--json"]
    program += ["--cache", str(tmp_path / "cache")]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [total] = [one for one in map(json.loads, done.stdout.splitlines()) if one["kind"] == "total"]
    assert total["runs"] == 8, "two losses and two ceilings, two seeds each"
