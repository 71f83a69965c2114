"""Losses through torch.compile: when, what they cost, and that the numbers stay."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from tasks import task, thirds

from w2s_fast.core.errors import UsageError
from w2s_fast.train import Run, fit_heads

compiled = sys.modules["w2s_fast.train.compiled"]
LOSSES = ["ce(label_smoothing=.1)", "kd", "adapt_conf(T=.4)", "adapt_conf(T=.5)", "gce", "reverse_kl"]


def fits(t, losses, *, compile, epochs=2):
    runs = [Run(head="linear", loss=loss, batch_size=16, epochs=epochs, seed=s) for loss in losses for s in (0, 1)]
    found = fit_heads(
        t.x, runs, splits=[thirds(t.n, 44)], supervisions=[t.sup], start=t.start, truth=t.y, compile=compile
    )
    return sorted(found, key=lambda f: f.index)


def gap(found, wanted):
    return max(
        float((a.theta["last"]["weight"] - b.theta["last"]["weight"]).norm() / b.theta["last"]["weight"].norm())
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without a compiler: traced whole by dynamo, then run operation by operation."""
    made = []
    whole = torch.compile

    def compile(fn, **options):
        made.append(fn.__name__)
        return whole(fn, **options, fullgraph=True, backend="eager")

    monkeypatch.setattr(torch, "compile", compile)
    return made


def test_a_traced_loss_is_the_same_function(traced):
    t = task()
    plain = fits(t, LOSSES, compile="never")
    assert not traced
    found = fits(t, LOSSES, compile="always")
    assert len(traced) == 5, "one program per loss, whatever its numbers"
    assert gap(found, plain) < 1e-6
    assert sum(f.seconds["compile"] for f in found) > 0 == sum(f.seconds["compile"] for f in plain)
    for f in found:
        assert f.seconds["total"] == pytest.approx(f.seconds["compile"] + f.seconds["train"] + f.seconds["evaluate"])


@pytest.mark.slow
@pytest.mark.skipif(not compiled.has_compiler(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_a_compiled_loss_is_the_same_function():
    t = task()
    assert gap(fits(t, LOSSES, compile="always"), fits(t, LOSSES, compile="never")) < 1e-5


def test_it_is_compiled_where_the_steps_pay_for_it(traced, monkeypatch):
    t = task()
    fits(t, ["kd"], compile="auto")
    assert not traced
    monkeypatch.setattr(compiled, "SAVED", compiled.SECONDS / (2 * 2 * 44 * t.k) * 1.01)
    fits(t, ["kd"], compile="auto")
    assert len(traced) == 1
    monkeypatch.setattr(shutil, "which", lambda _: None)
    fits(t, ["kd"], compile="auto")
    assert len(traced) == 1, "there is no compiler"


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch, caplog):
    def broken(fn, **_):
        def call(*_):
            raise RuntimeError("no such instruction\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    t = task()
    found = fits(t, ["kd"], compile="always")
    np.testing.assert_array_equal(gap(found, fits(t, ["kd"], compile="never")), 0.0)
    told = [r.getMessage() for r in caplog.records if r.name == "w2s_fast"]
    assert told == ["loss Kd is not compiled: RuntimeError: no such instruction"]


def test_statistics_of_a_batch_stay_in_torch(traced):
    t = task()
    fits(t, ["aux_conf", lambda z, weak, batch: -(weak.probs * z.log_softmax(-1)).sum(-1)], compile="always")
    assert not traced


def test_unknown_mode():
    with pytest.raises(UsageError, match="compile 'yes' is not one of auto, never, always"):
        fits(task(), ["kd"], compile="yes")
