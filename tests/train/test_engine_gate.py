"""The gate: the engine equals a naive loop, for every head x loss x init, stacked with unlike runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from naive import gap, naive_fit
from tasks import alone, split, task, thirds, together

from w2s_fast.train import Run, Supervision, fit_heads

HEADS = [
    "linear",
    "linear(init='text')",
    "prototype",
    "prototype(init='random')",
    "prototype(init='weak_mean', init_norm=3, tau_s=.1)",
]
LOSSES = [
    "ce",
    "ce(label_smoothing=.1)",
    "ce_soft(tau_w=2)",
    "kd",
    "kd(tau_w=.7, tau_s=.5, tau2=True)",
    "cpl",
    "aux_conf_argmax",
    "aux_conf_argmax(alpha=.8, warmup=0)",
    "aux_conf",
    "adapt_conf",
    "adapt_conf(T=4, kd_t=3, ramp=.25)",
    "adapt_conf(T=2, flip=True)",
    "reverse_kl",
    "gce",
    "gce(q=.2, tau_s=.3)",
    "brier",
    "brier(tau_w=2, tau_s=.5)",
]
BALANCED = ("aux_conf",)


def grid(t):
    """Every head x loss, with seed, split, lr, decay, epochs, supervision and schedule varied along the way."""
    pick = torch.randint(0, 3, (t.n,), generator=t.g)
    weight = torch.rand(t.n, generator=t.g)
    weight[::7] = 0
    labels = torch.where(torch.rand(t.n, generator=t.g) < 0.2, -1, t.y)
    three = t.weak[:, None] + torch.randn(t.n, 3, t.k, generator=t.g)
    sups = [
        Supervision(weak=t.weak),
        Supervision(weak=t.weak, weight=weight),
        Supervision(weak=three, pick=pick, labels=labels),
    ]
    rows = np.arange(t.n)
    splits = [thirds(t.n, 70), split(rows[20:83], rows[:10], rows[83:]), split(rows[40:], rows[:20], rows[20:40])]
    runs = []
    for i, (head, loss) in enumerate(itertools.product(HEADS, LOSSES)):
        runs.append(
            Run(
                head=head,
                loss=loss,
                solver=("adam", "adamw(eps=1e-6)", "sgd", "adam(beta1=.8)", "sgd(momentum=.5, nesterov=True)")[i % 5],
                schedule=("linear", "cosine(warmup=.2)", "constant", "constant(warmup=.3)")[i % 4],
                seed=i % 3,
                epochs=10 if i % 4 else 7,
                batch_size=16,
                lr=(None, 3e-2, 5e-3)[i % 3],
                weight_decay=(0.0, 1e-2, 0.0, 1e-1)[i % 4],
                w_gt=0.5 if i % 6 == 2 else 0.0,
                split=(i // 2) % 3,
                supervision=2 if i % 6 == 2 else (i % 2),
            )
        )
    return runs, splits, sups


def distances(precision, *, runs, splits, sups, t):
    worst = {}
    for fit in fit_heads(
        t.x, runs, splits=splits, supervisions=sups, start=t.start, truth=t.y, precision=precision, selections=["last"]
    ):
        dtype = {"fp32": torch.float32, "fp64": torch.float64}[precision]
        run = fit.run
        thetas, curve = naive_fit(t.x, run, splits[run.split], sups[run.supervision], t.text, dtype)
        assert fit.status == "ok"
        assert set(fit.theta["last"]) == set(thetas[-1])
        assert gap(thetas[-1], thetas[0]) > 1e-4, "a run that does not move proves nothing"
        worst[fit.index] = (gap(fit.theta["last"], thetas[-1]), np.nanmax(np.abs(fit.curves["loss"] - np.array(curve))))
    return worst


@pytest.mark.parametrize("mode", ["stacked", "planned", "alone"])
def test_equals_the_naive_loop_in_double_precision(monkeypatch, mode):
    t = task()
    runs, splits, sups = grid(t)
    if mode != "stacked":
        runs = [r for i, r in enumerate(runs) if i % 4 == 1]
    if mode == "stacked":
        together(monkeypatch)
    elif mode == "alone":
        alone(monkeypatch)
    worst = distances("fp64", runs=runs, splits=splits, sups=sups, t=t)
    assert len(worst) == len(runs)
    bad = {str(runs[i]): w for i, w in worst.items() if w[0] > 1e-10 or w[1] > 1e-10}
    assert not bad


@pytest.mark.parametrize("mode", ["stacked", "planned"])
def test_equals_the_naive_loop_in_single_precision(monkeypatch, mode):
    t = task(seed=1)
    runs, splits, sups = grid(t)
    runs = [r for r in runs if str(r.loss) not in BALANCED]
    if mode == "stacked":
        together(monkeypatch)
    else:
        runs = runs[1::3]
    worst = distances("fp32", runs=runs, splits=splits, sups=sups, t=t)
    bad = {str(runs[i]): w for i, w in worst.items() if w[0] > 1e-5}
    assert not bad


def test_two_classes_use_the_quantile_rule(monkeypatch):
    t = task(k=2, seed=3)
    together(monkeypatch)
    runs = [
        Run(head=head, loss=loss, batch_size=16, seed=seed, split=seed % 2)
        for head in ("linear", "prototype")
        for loss in ("aux_conf", "aux_conf(alpha=.9, warmup=0)")
        for seed in (0, 1)
    ]
    splits = [thirds(t.n, 70), thirds(t.n, 57)]
    worst = distances("fp64", runs=runs, splits=splits, sups=[t.sup], t=t)
    assert max(w[0] for w in worst.values()) < 1e-10


def test_balanced_in_single_precision_is_as_accurate(monkeypatch):
    """The assignment is discontinuous, so single precision is compared by accuracy over 20 seeds."""
    t = task(n=200, k=6, d=12, seed=5, noise=1.5)
    together(monkeypatch)
    splits = [thirds(t.n, 100)]
    found = {}
    for precision in ("fp32", "fp64"):
        runs = [Run(head="linear", loss="aux_conf", seed=s, batch_size=25) for s in range(20)]
        fits = fit_heads(t.x, runs, splits=splits, supervisions=[t.sup], start=t.start, truth=t.y, precision=precision)
        found[precision] = np.array([f.curves["acc_test"][-1] for f in sorted(fits, key=lambda f: f.index)])
    gaps = found["fp32"] - found["fp64"]
    error = gaps.std(ddof=1) / np.sqrt(len(gaps))
    assert abs(gaps.mean()) <= 2.1 * error + 1e-12
    assert found["fp64"].mean() > 0.3
