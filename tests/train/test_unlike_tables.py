"""What a batch looks up and joins: supervisions of unlike kinds in one stack, little room, and compiled losses."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tasks import task, thirds, together

from w2s_fast.losses import Supervision, TargetLoss
from w2s_fast.train import Run, engine, fit_heads

compiled = sys.modules["w2s_fast.train.compiled"]


def fits(t, runs, supervisions, *, splits=None, **more):
    found = fit_heads(
        t.x, runs, splits=splits or [thirds(t.n, 44)], supervisions=supervisions, start=t.start, truth=t.y, **more
    )
    return sorted(found, key=lambda f: f.index)


def gap(found, wanted):
    return max(
        float((a.theta["last"]["weight"] - b.theta["last"]["weight"]).norm() / b.theta["last"]["weight"].norm())
        for a, b in zip(found, wanted, strict=True)
    )


def kd(supervision, **more):
    return Run(head="linear", loss="kd", epochs=2, batch_size=16, supervision=supervision, **more)


@pytest.mark.parametrize("tables", [1, 2])
def test_room_for_tables_decides_speed_alone(monkeypatch, tables):
    t = task()
    together(monkeypatch)
    supervisions = [Supervision(weak=sign * t.weak) for sign in (1, -1, 0.5)]
    runs = [kd(i, seed=i) for i in range(3)]
    wanted = fits(t, runs, supervisions)
    monkeypatch.setattr(engine, "most_tables", lambda _: int(tables * t.weak.nbytes))
    assert gap(fits(t, runs, supervisions), wanted) < 1e-5


@pytest.mark.parametrize(
    "first",
    [
        "plain",
        "picked",
    ],
)
def test_a_picked_teacher_and_a_plain_table_in_one_stack(monkeypatch, first):
    t, several = task(), task(m=2)
    together(monkeypatch)
    picked = Supervision(weak=several.weak, pick=torch.arange(t.n) % 2)
    supervisions = [t.sup, picked] if first == "plain" else [picked, t.sup]
    alone = [fits(t, [kd(i)], supervisions)[0] for i in (0, 1)]
    assert gap(fits(t, [kd(0), kd(1)], supervisions), alone) < 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class ToLabels(TargetLoss):
    """Reads a column that is absent by default."""

    needs = frozenset({"labels"})

    def target(self, logp, batch):
        label = batch.label() if batch.labels is None else batch.labels
        return torch.nn.functional.one_hot(label, logp.shape[-1]).to(logp.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed(TargetLoss):
    def target(self, logp, batch):
        w = batch.probs(self.tau_w)
        return w if batch.weight is None else w * batch.weight.unsqueeze(-1)


@pytest.mark.parametrize("loss", [ToLabels(), Weighed(), "prior_product"])
def test_a_compiled_loss_sees_every_column(monkeypatch, loss):
    monkeypatch.setattr(compiled, "has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda fn, **_: fn)
    t = task()
    supervision = Supervision(
        weak=t.weak, labels=t.y, weight=torch.linspace(0.2, 2, t.n), prior=torch.randn(t.n, t.k, generator=t.g)
    )
    runs = [Run(head="linear", loss=loss, epochs=2, batch_size=16)]
    wanted = fits(t, runs, [supervision], compile="never")
    assert gap(fits(t, runs, [supervision], compile="always"), wanted) < 1e-5


def test_one_step_an_epoch_warns_of_nothing():
    t = task()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)
        try:
            fits(t, [kd(0, weight_decay=0.1 * i) for i in range(2)], [t.sup], splits=[thirds(t.n, 12)])
        finally:
            torch.set_warn_always(False)


def test_a_batch_larger_than_the_split_needs_no_more_memory():
    t = task()
    (fit,) = fits(t, [Run(head="linear", loss="kd", epochs=1, batch_size=10**9)], [t.sup])
    assert fit.status == "ok"


NEWER = """
import torch
from tasks import task, thirds
from w2s_fast.train import Run, fit_heads
torch.backends.cuda.matmul.fp32_precision = "tf32"
t = task()
runs = [Run(head="linear", loss="kd", epochs=1)]
[fit] = fit_heads(t.x, runs, splits=[thirds(t.n, 44)], supervisions=[t.sup], start=t.start, truth=t.y)
assert fit.status == "ok" and torch.backends.cuda.matmul.fp32_precision == "tf32"
"""


def test_torchs_newer_precision_settings_are_understood():
    subprocess.run(
        [sys.executable, "-c", NEWER], cwd=Path(__file__).parent, check=True, timeout=120, capture_output=True
    )
