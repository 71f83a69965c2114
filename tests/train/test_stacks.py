"""Stacking is invisible: neighbours, order, padding and ended runs change nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from naive import gap
from tasks import alone, split, task, thirds, together

from w2s_fast.losses import Supervision, make
from w2s_fast.train import Run, Start, fit_heads, order
from w2s_fast.train.layout import lay_out
from w2s_fast.train.run import resolve


def fits(t, runs, splits, sups=None, **rest):
    found = fit_heads(
        t.x,
        runs,
        splits=splits,
        supervisions=sups or [t.sup],
        start=t.start,
        truth=t.y,
        **{"precision": "fp64", **rest},
    )
    return sorted(found, key=lambda f: f.index)


MIXED = [
    ("kd", 0, 0, 4),
    ("aux_conf", 1, 1, 6),
    ("kd(tau_s=.5)", 2, 0, 2),
    ("adapt_conf", 3, 2, 5),
    ("aux_conf(alpha=.9, buffer=8)", 0, 2, 6),
    ("ce", 1, 1, 1),
]


def mixed(batch_size=16, head="linear"):
    return [Run(head=head, loss=m[0], seed=m[1], split=m[2], epochs=m[3], batch_size=batch_size) for m in MIXED]


def three_splits(n):
    rows = np.arange(n)
    return [thirds(n, 66), split(rows[10:51], rows[:10], rows[51:]), split(rows[60:77], rows[:9], rows[9:60])]


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_stacked_is_alone(monkeypatch, head):
    t = task()
    runs, splits = mixed(head=head), three_splits(t.n)
    with monkeypatch.context() as m:
        together(m)
        stacked = fits(t, runs, splits)
    with monkeypatch.context() as m:
        alone(m)
        single = fits(t, runs, splits)
    for a, b in zip(stacked, single, strict=True):
        assert gap(a.theta["last"], b.theta["last"]) < 1e-12
        assert a.selected_epoch == b.selected_epoch
        for name in a.curves:
            assert np.allclose(a.curves[name], b.curves[name], atol=1e-12, equal_nan=True), name
        for name in a.predicted:
            assert np.array_equal(a.predicted[name], b.predicted[name])


def test_the_order_of_runs_changes_nothing(monkeypatch):
    t = task()
    together(monkeypatch)
    runs, splits = mixed(), three_splits(t.n)
    forward = fits(t, runs, splits)
    back = fits(t, runs[::-1], splits)[::-1]
    for a, b in zip(forward, back, strict=True):
        assert a.run == b.run and gap(a.theta["last"], b.theta["last"]) < 1e-12
        assert a.index == len(runs) - 1 - b.index


def test_the_same_run_twice_is_the_same(monkeypatch):
    t = task()
    together(monkeypatch)
    runs = [Run(head="linear", loss="aux_conf", batch_size=16, epochs=3)] * 2
    a, b = fits(t, runs, [thirds(t.n, 60)], precision="fp32")
    assert gap(a.theta["last"], b.theta["last"]) < 1e-6


def test_a_seed_changes_start_and_order_and_nothing_else_does():
    t = task()
    base = Run(head="linear", loss="kd", batch_size=16, epochs=2)
    text = replace(base, head="linear(init='text')")
    a, b, c, d = fits(t, [base, replace(base, seed=1), text, replace(text, seed=1)], [thirds(t.n, 60)])
    assert gap(a.theta["last"], b.theta["last"]) > 1e-3
    assert gap(c.theta["last"], d.theta["last"]) > 1e-6, "the order alone moves a run that starts from text"
    assert a.curves["acc_test"][0] != b.curves["acc_test"][0] and c.curves["acc_test"][0] == d.curves["acc_test"][0]
    again = fits(t, [base], [thirds(t.n, 60)])[0]
    assert gap(a.theta["last"], again.theta["last"]) < 1e-12


def test_order_depends_on_its_three_numbers_alone():
    assert sorted(order(3, 1, 50)) == list(range(50))
    assert order(3, 1, 50).dtype == np.int64
    different = {tuple(order(s, e, 50)) for s in range(4) for e in range(4)}
    assert len(different) == 16
    assert order(0, 0, 8).tolist() == FIRST, "the stream is part of what makes results repeatable"
    assert order(0, 0, 0).tolist() == [] and order(5, 2, 1).tolist() == [0]


FIRST = np.argsort(np.random.PCG64(np.random.SeedSequence((0, 0, 8))).random_raw(8)).tolist()


def test_order_is_uniform():
    seen = np.zeros((5, 5))
    for seed in range(2000):
        seen[np.arange(5), order(seed, 0, 5)] += 1
    assert np.abs(seen / 2000 - 0.2).max() < 0.04


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "sgd(nesterov=True)"])
def test_idle_runs_do_not_move(monkeypatch, solver):
    """A run of 17 rows beside one of 66 idles for half of each epoch, with state that would carry it on."""
    t = task()
    splits = three_splits(t.n)
    runs = [
        Run(head="linear", loss=loss, split=s, solver=solver, epochs=4, batch_size=16, weight_decay=0.1, lr=lr)
        for loss, s, lr in (("kd", 0, 1e-2), ("aux_conf(buffer=5)", 2, 3e-2), ("kd", 2, 5e-3))
    ]
    with monkeypatch.context() as m:
        together(m)
        stacked = fits(t, runs, splits)
    with monkeypatch.context() as m:
        alone(m)
        single = fits(t, runs, splits)
    for a, b in zip(stacked, single, strict=True):
        assert gap(a.theta["last"], b.theta["last"]) < 1e-12


def test_layout_of_unlike_runs():
    t = task()
    splits = three_splits(t.n)
    setups = [
        replace(resolve(i, Run(head="linear", loss="kd", split=s, epochs=3, batch_size=16), t.start), n_train=n)
        for i, (s, n) in enumerate(((0, 66), (2, 17)))
    ]
    rows = [np.asarray(splits[s].train) for s in (0, 2)]
    layout = lay_out(setups, rows, 1, dtype=torch.float64, device=torch.device("cpu"))
    assert layout.steps == 5 and layout.rows.shape == (2, 66)
    assert layout.valid.sum(dim=1).tolist() == [66, 17]
    assert layout.whole.tolist() == [True, False, False, False, False]
    assert layout.idle.tolist() == [False, False, True, True, True]
    assert layout.active.tolist() == [[1, 1], [1, 1], [1, 0], [1, 0], [1, 0]]
    assert layout.t[:, 0].flatten().tolist() == pytest.approx([5 / 15, 6 / 15, 7 / 15, 8 / 15, 9 / 15])
    assert layout.t[:2, 1].flatten().tolist() == pytest.approx([2 / 6, 3 / 6])
    assert layout.inverse[:, 1].tolist() == pytest.approx([1 / 16, 1, 1, 1, 1])
    assert set(layout.rows[1].tolist()) == set(splits[2].train)
    assert sorted(layout.rows[1][:17].tolist()) == sorted(splits[2].train)


def test_rows_of_weight_zero_count_in_the_batch():
    t = task()
    weight = torch.ones(t.n, dtype=torch.float64)
    weight[20:] = 0
    part = split(range(40), range(40, 80), range(80, 120))
    run = Run(head="linear", loss="kd", solver="sgd(momentum=0)", epochs=1, batch_size=40, schedule="constant", lr=0.1)
    whole, weighted, few = (
        fits(t, [r], s, [u])[0].theta["last"]["weight"]
        for r, s, u in (
            (replace(run, lr=0.0), [part], Supervision(weak=t.weak)),
            (run, [part], Supervision(weak=t.weak, weight=weight)),
            (run, [split(range(20), range(40, 80), range(80, 120))], Supervision(weak=t.weak)),
        )
    )
    start = whole
    assert torch.allclose(weighted - start, (few - start) / 2, atol=1e-12)


def test_a_diverging_run_is_reported_and_its_neighbours_are_not_touched(monkeypatch):
    t = task()
    runs = [
        Run(head="linear", loss="kd", batch_size=16, epochs=4),
        Run(head="linear", loss="kd", batch_size=16, epochs=4, lr=1e307),
        Run(head="linear", loss="ce", batch_size=16, epochs=4),
    ]
    with monkeypatch.context() as m:
        together(m)
        good, bad, other = fits(t, runs, [thirds(t.n, 60)])
    assert (good.status, bad.status, other.status) == ("ok", "diverged", "ok")
    assert bad.theta == {} and bad.predicted == {} and bad.selected_epoch == {}
    assert "diverged in epoch" in bad.notes[0] and "lower lr" in bad.notes[0]
    assert len(bad.curves["loss"]) == 5 and np.isnan(bad.curves["loss"][-1])
    with monkeypatch.context() as m:
        alone(m)
        again = fits(t, [runs[0], runs[2]], [thirds(t.n, 60)])
    assert gap(good.theta["last"], again[0].theta["last"]) < 1e-13
    assert gap(other.theta["last"], again[1].theta["last"]) < 1e-13


def test_one_run_that_diverges_among_63(monkeypatch):
    """Weight decay at lr = 1e6 doubles the digits of a parameter in every step, until single precision ends."""
    t = task()
    together(monkeypatch)
    runs = [
        Run(head="linear", loss=loss, seed=seed, lr=lr, solver="sgd", weight_decay=0.01, batch_size=16, epochs=4)
        for loss in ("kd", "ce", "gce")
        for seed in range(7)
        for lr in (1e-3, 1e-2, 3e-2)
    ]
    options = {"precision": "fp32"}
    without = fits(t, runs, [thirds(t.n, 60)], **options)
    at = 30
    among = fits(t, [*runs[:at], replace(runs[0], lr=1e6), *runs[at:]], [thirds(t.n, 60)], **options)
    bad = among.pop(at)
    assert bad.status == "diverged" and "lr" in bad.notes[0]
    for a, b in zip(without, among, strict=True):
        assert a.run == b.run and b.status == "ok"
        assert gap(a.theta["last"], b.theta["last"]) < 1e-6
        assert all(np.allclose(a.curves[c], b.curves[c], atol=1e-5, equal_nan=True) for c in a.curves)


def test_scaling_prototypes_and_learning_rate_together_changes_nothing():
    """Cosines see directions only, so (norm, lr) and (c norm, c lr) are one trajectory."""
    t = task()
    runs = [
        Run(head=f"prototype(init_norm={n})", loss="cpl", lr=lr, batch_size=16, epochs=6, solver="adam(eps=1e-14)")
        for n, lr in ((10, 1e-2), (2, 2e-3), (1, 1e-2))
    ]
    a, b, c = (f.theta["last"]["prototypes"] for f in fits(t, runs, [thirds(t.n, 60)]))
    assert torch.allclose(a / 10, b / 2, atol=1e-8)
    assert (a / 10 - c).abs().max() > 1e-2


def test_cpl_is_kd_on_the_prototype_head():
    t = task()
    a, b = fits(t, [Run(head="prototype", loss=name, batch_size=16) for name in ("cpl", "kd")], [thirds(t.n, 60)])
    assert gap(a.theta["last"], b.theta["last"]) < 1e-12
    assert a.resolved["tau_s"] == 0.05 and a.resolved["tau_w"] == 1.0


@pytest.mark.parametrize("name", ["ce", "kd", "aux_conf", "adapt_conf", "gce"])
def test_one_class_one_row_and_small_batches(name):
    t = task(n=30, k=1, d=4)
    for train, size in ((1, 1), (7, 7), (7, 100), (7, 3)):
        run = Run(head="linear", loss=name, batch_size=size, epochs=2)
        (fit,) = fits(t, [run], [split(range(train), range(10, 20), range(20, 30))])
        assert fit.status == "ok" and fit.curves["acc_test"][-1] == 1.0
        assert fit.resolved["steps"] == 2 * math.ceil(train / size)


def test_an_empty_list_of_runs():
    t = task()
    assert fits(t, [], [thirds(t.n, 60)]) == []


def test_zero_epochs_score_the_start():
    t = task()
    (fit,) = fits(t, [Run(head="prototype", loss="kd", epochs=0)], [thirds(t.n, 60)])
    assert set(fit.theta) == {"last"} and fit.selected_epoch == {"last": 0}
    cosine = torch.nn.functional.cosine_similarity(t.x[:, None], t.text[None], dim=-1).argmax(-1)
    assert fit.predicted["last"].tolist() == cosine[thirds(t.n, 60).test].tolist()
    assert len(fit.notes) == 3


def test_start_is_not_changed():
    t = task()
    before = t.text.clone(), t.x.clone(), t.weak.clone()
    fits(t, mixed(), three_splits(t.n))
    assert all(torch.equal(a, b) for a, b in zip(before, (t.text, t.x, t.weak), strict=True))
    assert isinstance(t.start, Start) and make("kd").tau_s is None
