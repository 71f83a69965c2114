"""The acceptance grid, cut to one domain and one seed: whole rows, the product's own numbers, nothing diverged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import heads_by_losses as grid
from w2s_fast.losses import LOSSES
from w2s_fast.methods.fit import fit
from w2s_fast.tasks.opening import open_task
from w2s_fast.tasks.task import Task


def made_up(domain: str, cache: str) -> Task:
    """A small task in a domain's place."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    means = rng.normal(size=(4, 8))
    z = rng.normal(size=(200, 4)) + 3 * np.eye(4)[labels]
    return Task.from_arrays(
        features=means[labels] + 0.5 * rng.normal(size=(200, 8)), weak_logits=z, labels=labels, text=means, name=domain
    )


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_domain_one_seed_few_losses(
    small: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(grid, "_open", made_up)
    out = tmp_path / "found.json"
    argv = [
        "--cache",
        str(tmp_path / "cache"),
        "--seeds",
        "1",
        "--domains",
        "1",
        "--other-seeds",
        "1",
        "--out",
        str(out),
    ]
    argv += ["--other-heads", "adapter", "tip(tune=False)", "--losses", "ce", "js", "--processes", "0"]
    assert grid.main(argv) == 0
    found = json.loads(out.read_text())
    cells = {(c["head"], c["loss"]): c for c in found["cells"]}
    heads = ["linear", "prototype", "adapter", "tip(tune=False)"]
    assert set(cells) == {(h, loss) for h in heads for loss in ("ce", "js", "ceiling")} | {
        ("", name) for name in ("weak", "zero-shot", "fusion")
    }
    task = made_up("clipart", "") if small else open_task("drawn:clipart", cache=tmp_path / "cache")
    rows = fit(task, loss="js", head="prototype", seeds=1, device="cpu").rows
    [row] = [r for r in rows if r["method"] == "js+proto" and r["selection"] == "last"]
    assert cells["prototype", "js"]["mean"] == row["acc_w2s"] and cells["", "weak"]["mean"] == row["acc_weak"]
    assert found["diverged"] == 0 and "--losses ce js" in found["command"] and str(tmp_path) not in found["command"]
    text = out.with_suffix(".md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert f"| prototype | js | {100 * row['acc_w2s']:.1f} |" in text


def test_every_loss_is_in_the_grid() -> None:
    """What is left out is the same fit under another name."""
    from w2s_fast import losses

    z, weak = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    for name, other in grid.SAME.items():
        both = []
        for loss in (losses.make(name), losses.make(other)):
            memory = loss.memory((), 5, 1, dtype=torch.float32, device=torch.device("cpu"))
            shown = weak.unsqueeze(1) if "teachers" in loss.needs else weak
            batch = losses.Batch(weak=shown, t=torch.full((1, 1), 0.5), memory=memory)
            both.append(loss.value_and_dz(z, batch))
        torch.testing.assert_close(*both)
    assert set(grid.SPELLED) | set(grid.SAME) <= set(LOSSES)
    means = [{"head": "h", "loss": "l", "domain": "d", "seed": s, "acc": a} for s, a in enumerate((0.25, 0.75, None))]
    [cell] = grid.cells(means)
    assert (cell["mean"], cell["seeds"]) == (0.5, 3) and cell["sd"] == pytest.approx(0.125**0.5)
