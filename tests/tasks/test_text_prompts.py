"""Prompt heads through the protocol: the tower reaches them, what they learn can be taken out and run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from w2s_fast_cli.main import run as cli

from w2s_fast import fit, load_head
from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.text import text_features
from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.heads import Start
from w2s_fast.methods.resolve import find
from w2s_fast.studies.dry_run import Group, dry_run
from w2s_fast.studies.experiment import Experiment
from w2s_fast.tasks.task import Task

NAMES = ("cat", "ice cream", "bicycle", "sun", "tree")
SHORT = {"epochs": 4, "batch_size": 16, "lr": 2e-3}


@pytest.fixture(scope="module")
def task() -> Task:
    tower = open_encoder("drawn:clip").text_tower()
    text = text_features(tower, NAMES)
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 5
    x = torch.nn.functional.normalize(text, dim=-1)[labels] + 0.12 * torch.randn(120, text.shape[1], generator=g)
    weak = 2 * torch.randn(120, 5, generator=g) + 2 * torch.eye(5)[labels]
    return Task.from_arrays(features=x, weak_logits=weak, labels=labels, text=text, classes=NAMES, tower=tower)


def test_a_learned_prompt_is_a_classifier(task: Task, tmp_path: Path) -> None:
    results = fit(task, method=["kd+tp", "tp_coop"], seeds=1, **SHORT)
    rows = {r["method"]: r for r in results.rows if r["selection"] == "last"}
    assert {"kd+tp", "tp_coop", "ceiling+lp", "ceiling+proto"} < set(rows)
    assert sum(name.startswith("ceiling+tp") for name in rows) == 2
    assert rows["kd+tp"]["tau_s"] == pytest.approx(1 / task.tower().logit_scale)
    assert rows["kd+tp"]["acc_w2s"] > rows["kd+tp"]["acc_weak"]
    best = results.best("last", method="kd+tp")
    moved = best.theta["context"] - best.head.bound.start
    assert 1e-4 < float(moved.abs().max()) < 1
    module = best.to_torch()
    logits = module(task.features)
    with torch.no_grad():
        w = best.head.weights(best.theta)[0]
    assert torch.allclose(logits, torch.nn.functional.normalize(task.features, dim=-1) @ w.T, atol=1e-6)
    assert not any(p.requires_grad for p in module.parameters())
    split, fitted = best.split, best.fit
    assert np.array_equal(logits[torch.as_tensor(split.test)].argmax(-1).numpy(), fitted.predicted["last"])
    back, theta, card = load_head(best.save(tmp_path / "h"))
    again = back.bind(Start(k=5, d=task.width, names=tuple(card["classes"]), tower=task.tower()))
    assert torch.equal(again.weights(theta)[0], w)
    best.export(tmp_path / "c")


def test_the_presets_are_those_of_the_papers() -> None:
    coop, cpl = find("tp_coop"), find("tp_cpl")
    assert (str(coop.head), str(coop.loss), str(cpl.head), str(cpl.loss)) == ("prompt(tail='.')", "ce", "prompt", "kd")
    expected = {"solver": "sgd", "lr": 2e-3, "weight_decay": 5e-4, "epochs": 50, "batch_size": 32}
    assert expected.items() <= coop.settings.items() and coop.settings["schedule"].startswith("cosine")
    assert dict(cpl.settings) == {"lr": 1e-2}


def test_an_encoder_without_a_tower_is_told(task: Task) -> None:
    for method in ("kd+tp", "tp_coop"):
        with pytest.raises(MissingText, match="text tower, and arrays gives none.*take a CLIP model"):
            fit(replace(task, tower=None), method=method, **SHORT)
    with pytest.raises(UsageError, match=r"a context of 16 words or vectors leaves no room"):
        fit(task, loss="kd", head="prompt(init='random')", **SHORT)


@pytest.mark.slow
def test_the_command_on_drawn_sketch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    line = f"train --method tp_cpl kd+tp --data drawn:sketch --seeds 1 --cache {tmp_path / 'cache'} --out {out}"
    asked = Experiment.of({"data": "drawn:sketch", "method": ["tp_cpl", "kd+tp"]}, cache=tmp_path / "cache")
    planned = [one for one in dry_run(asked) if isinstance(one, Group)]
    assert sum(one.runs for one in planned) == 6
    with pytest.raises(SystemExit) as stop:
        cli(line.split())
    assert not stop.value.code, capsys.readouterr().err
    rows = [json.loads(text) for text in out.read_text().splitlines()]
    last = {r["method"]: r for r in rows if r["selection"] == "last"}
    assert {"tp_cpl", "kd+tp"} < set(last) and last["tp_cpl"]["lr"] == 0.01 != last["kd+tp"]["lr"]
    # no worse than a few points under zero-shot, from which it starts
    assert last["kd+tp"]["acc_w2s"] > last["kd+tp"]["acc_zero_shot"] - 0.1 and last["kd+tp"]["status"] == "ok"
