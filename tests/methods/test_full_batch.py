"""The full-batch solvers from the user's side: rows, ceilings, the command."""

from __future__ import annotations

import numpy as np
import pytest

import w2s_fast as w2s
from w2s_fast.core.errors import UsageError
from w2s_fast.methods.options import FitOptions
from w2s_fast.methods.plan import Plan


def arrays(n=400, k=4, d=16, *, text=True):
    g = np.random.default_rng(0)
    y = g.integers(0, k, n)
    centre = g.normal(size=(k, d))
    x = centre[y] + 0.8 * g.normal(size=(n, d))
    weak = 1.5 * g.normal(size=(n, k))
    weak[np.arange(n), y] += 2
    given = {"text": centre.astype(np.float32)} if text else {}
    return w2s.Task.from_arrays(features=x.astype(np.float32), weak_logits=weak.astype(np.float32), labels=y, **given)


@pytest.mark.parametrize("text", [True, False])
def test_a_ridge_study_has_rows_and_ceilings_of_its_own(text):
    found = w2s.fit(arrays(text=text), loss="brier", head="linear", solver="ridge", weight_decay=[1e-4, 1.0], seeds=2)
    rows = [r for r in found.rows if r["selection"] == "last"]
    students = [r for r in rows if r["supervision"] == "weak"]
    ceilings = {(r["method"], r["loss"], r["optimizer"], r["weight_decay"]) for r in rows if r["supervision"] == "gt"}
    assert {(loss, solver, decay) for _, loss, solver, decay in ceilings} == {
        ("brier", "ridge", 1e-4),
        ("brier", "ridge", 1.0),
        ("ce", "adam", 0.0),
    }
    assert len(students) == 4 and all(r["status"] == "ok" and r["acc_ceiling"] is not None for r in students)
    for r in students:
        assert [r[name] for name in ("lr", "warmup", "schedule", "batch_size")] == [None] * 4
        mine = [c for c in rows if c["seed"] == r["seed"] and c["loss"] == "brier" and c["supervision"] == "gt"]
        (same,) = (c for c in mine if c["weight_decay"] == r["weight_decay"])
        assert r["acc_ceiling"] == same["acc_w2s"]
    assert str(found.table())


def test_lbfgs_takes_any_method_and_its_ceilings_too():
    found = w2s.fit(arrays(), method=["cpl", "ce+lp"], solver="lbfgs(iterations=50)", weight_decay=1e-4, epochs=2)
    assert {r["status"] for r in found.rows} == {"ok"}
    assert {r["optimizer"] for r in found.rows} == {"lbfgs(iterations=50)"}
    assert {r["loss"] for r in found.rows if r["supervision"] == "gt"} == {"ce"}


def test_ridge_with_another_loss_or_head_says_what_to_use():
    for given in ({"method": "kd+lp"}, {"loss": "brier", "head": "prototype"}):
        with pytest.raises(UsageError, match=r"solver 'ridge' solves .*use .*lbfgs"):
            w2s.fit(arrays(), solver="ridge", **given)


def test_adams_ceilings_stay_cross_entropy():
    asked = FitOptions(loss=("brier",), head=("linear",), settings={"solver": ["adam", "ridge"]})
    trials = Plan.of(asked).trials(arrays())
    ceilings = {(str(a.method.head), str(a.method.loss), a.settings.solver) for a in trials if a.ceiling}
    assert ceilings == {("linear", "ce", "adam"), ("linear", "brier", "ridge"), ("prototype", "ce", "adam")}
