"""Curves, selections and predictions against scores recomputed from the parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from naive import naive_fit
from tasks import split, task, thirds

from w2s_fast.core.errors import UsageError
from w2s_fast.train import Run, Supervision, fit_heads, ground_truth


def fits(t, runs, splits, sups=None, truth=None, **rest):
    found = fit_heads(
        t.x,
        runs,
        splits=splits,
        supervisions=sups or [t.sup],
        start=t.start,
        truth=t.y if truth is None else truth,
        **{"precision": "fp64", **rest},
    )
    return sorted(found, key=lambda f: f.index)


def predictions(t, head, theta, rows):
    x = torch.nn.functional.normalize(t.x.double()[torch.as_tensor(rows)], dim=-1)
    if head.startswith("linear"):
        return (10 * x @ theta["weight"].T + theta["bias"]).argmax(-1)
    return (x @ torch.nn.functional.normalize(theta["prototypes"], dim=-1).T).argmax(-1)


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_curves_and_selections_follow_from_the_parameters(head):
    t = task(n=240, noise=2.0, seed=7)
    truth = torch.where(torch.arange(t.n) % 5 == 0, -1, t.y)
    part = thirds(t.n, 100)
    run = Run(head=head, loss="ce", lr=0.2, batch_size=16, seed=2)
    (fit,) = fits(t, [run], [part], truth=truth)
    thetas, curve = naive_fit(t.x, run, part, t.sup, t.text)
    weak = t.weak.argmax(-1)
    expected = {name: [] for name in ("agree_val", "acc_val", "agree_test", "acc_test")}
    tests = []
    for theta in thetas:
        for name, rows in (("val", part.val), ("test", part.test)):
            p, y, w = predictions(t, head, theta, rows), truth[rows], weak[rows]
            expected[f"agree_{name}"].append(float((p == w).double().mean()))
            expected[f"acc_{name}"].append(float((p == y)[y >= 0].double().mean()))
        tests.append(p)
    for name, values in expected.items():
        assert np.allclose(fit.curves[name], values, atol=1e-12), name
    assert np.isnan(fit.curves["loss"][0]) and np.allclose(fit.curves["loss"][1:], curve[1:])

    for selection, name in (("weak_val", "agree_val"), ("oracle", "acc_val"), ("test_best", "acc_test")):
        epoch = 1 + int(np.argmax(expected[name][1:]))
        assert fit.selected_epoch[selection] == epoch, selection
        for key, p in fit.theta[selection].items():
            assert torch.allclose(p, thetas[epoch][key], atol=1e-10)
        assert fit.predicted[selection].tolist() == tests[epoch].tolist()
        assert fit.predicted[selection].dtype == np.int32
    assert fit.selected_epoch["last"] == 10 and fit.predicted["last"].tolist() == tests[-1].tolist()
    assert len(set(fit.selected_epoch.values())) >= 3, "the example must tell the selections apart"


def test_ties_go_to_the_earlier_epoch_and_epoch_zero_is_no_candidate():
    t = task()
    (fit,) = fits(t, [Run(head="prototype", loss="kd", lr=0.0, batch_size=16, epochs=5)], [thirds(t.n, 60)])
    assert fit.selected_epoch == {"last": 5, "weak_val": 1, "oracle": 1, "test_best": 1}


def test_kept_parameters_are_copies():
    t = task()
    (fit,) = fits(t, [Run(head="linear", loss="kd", lr=0.3, batch_size=16)], [thirds(t.n, 60)])
    first = min(fit.selected_epoch, key=lambda s: fit.selected_epoch[s])
    assert fit.selected_epoch[first] < 10
    assert not torch.equal(fit.theta[first]["weight"], fit.theta["last"]["weight"])


def test_absent_selections_have_a_reason():
    t = task()
    rows = np.arange(t.n)
    run = Run(head="linear", loss="kd", batch_size=16, epochs=2)
    none, hidden, all_hidden = (
        fits(t, [run], [s], truth=y)[0]
        for s, y in (
            (split(rows[:60], [], rows[60:]), t.y),
            (split(rows[:60], rows[60:80], rows[80:]), torch.where(torch.arange(t.n) < 80, -1, t.y)),
            (split(rows[:60], rows[60:80], []), torch.full((t.n,), -1)),
        )
    )
    assert set(none.theta) == {"last", "test_best"} and len(none.notes) == 2 and "no val rows" in none.notes[0]
    assert np.isnan(none.curves["agree_val"]).all()
    assert set(hidden.theta) == {"last", "test_best", "weak_val"} and "known truth" in hidden.notes[0]
    assert set(all_hidden.theta) == {"last", "weak_val"} and all_hidden.predicted["last"].shape == (0,)
    assert all(f.status == "ok" for f in (none, hidden, all_hidden))


def test_only_the_selections_asked_for_are_kept():
    t = task()
    run = Run(head="linear", loss="kd", batch_size=16, epochs=2)
    (fit,) = fits(t, [run], [thirds(t.n, 60)], selections=["weak_val"])
    assert set(fit.theta) == set(fit.predicted) == {"weak_val"} and fit.notes == ()
    with pytest.raises(UsageError, match="did you mean 'oracle'"):
        fits(t, [run], [thirds(t.n, 60)], selections=["oracl"])


def test_a_ceiling_is_cross_entropy_on_ground_truth():
    t = task()
    runs = [Run(head="linear", loss=loss, batch_size=16) for loss in ("ce", "kd", "ce_soft")]
    found = fits(t, runs, [thirds(t.n, 60)], [ground_truth(t.y, t.k)])
    assert np.allclose(found[0].theta["last"]["weight"], found[1].theta["last"]["weight"], atol=1e-9)
    assert found[0].curves["acc_val"].tolist() == found[0].curves["agree_val"].tolist()


def test_unknown_labels_are_left_out_of_a_ceiling():
    t = task()
    labels = torch.where(torch.arange(t.n) < 10, -1, t.y)
    noise = torch.where(torch.arange(t.n) < 10, (t.y + 1) % t.k, t.y)
    weight = (labels >= 0).double()
    run = Run(head="linear", loss="ce", batch_size=16, epochs=3)
    a, b = fits(
        t,
        [run, replace(run, supervision=1)],
        [thirds(t.n, 60)],
        [ground_truth(labels, t.k), Supervision(weak=ground_truth(noise, t.k).weak, weight=weight)],
    )
    assert torch.allclose(a.theta["last"]["weight"], b.theta["last"]["weight"], atol=1e-12)


def test_progress_seconds_and_what_defaults_became():
    t = task()
    told = []
    runs = [Run(head=h, loss="kd", batch_size=16, epochs=e) for h in ("linear", "prototype") for e in (1, 3)]
    found = fits(t, runs, [thirds(t.n, 60)], on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for fit in found:
        assert fit.seconds["total"] == pytest.approx(
            fit.seconds["compile"] + fit.seconds["train"] + fit.seconds["evaluate"]
        )
        assert fit.seconds["total"] > 0
    assert found[0].resolved == {
        "head": "linear",
        "loss": "kd",
        "init": "random",
        "init_norm": None,
        "unit_x": True,
        "x_scale": 10.0,
        "tau_s": 1.0,
        "tau_w": 1.0,
        "solver": "adam",
        "schedule": "linear",
        "warmup": 0.1,
        "lr": 0.01,
        "weight_decay": 0.0,
        "w_gt": 0.0,
        "epochs": 1,
        "batch_size": 16,
        "steps": 4,
        "n_train": 60,
        "order": "resident",
        "precision": "fp64",
        "device": "cpu",
        "kernels": "torch",
        "gradient": "closed form",
    }
    assert found[2].resolved["tau_s"] == 0.05 and found[2].resolved["init"] == "text"
