"""The gate for the losses beyond the papers': the engine equals a naive loop, with priors, labels, weights, padding."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from naive import LOSSES as NAIVE
from tasks import split, task, thirds, together
from test_engine_gate import distances

from w2s_fast.core.errors import TrainError
from w2s_fast.losses import LOSSES as TABLE
from w2s_fast.train import Run, Supervision, fit_heads

LOSSES = [
    "ce_hard",
    "aux_conf_argmax(legacy_warmup=True, warmup=.3)",
    "adapt_conf(beta=.5)",
    "adapt_conf(beta=.2, flip=True, ramp=.5)",
    "logconf_eleuther(buffer=0)",
    "logconf_eleuther(buffer=20, alpha=.8, warmup=0)",
    "entropy_reg",
    "entropy_reg(lam=-.3, tau_w=2)",
    "window",
    "product",
    "product(a=2, b=.5, warmup=.4)",
    "prior_product",
    "prior_product(a=.5, b=2)",
    "prior_anchor",
    "prior_anchor(lam=2, tau_w=3)",
    "reverse_ce",
    "reverse_ce(eps=1e-2)",
    "js",
    "js(pi=.2)",
    "jeffreys",
    "hellinger(tau_w=2)",
    "tv",
    "chi2",
    "chi2(eps=.05)",
    "sce",
    "sce(a=2, b=.3, eps=1e-2)",
    "sce(a=1)",
    "edl",
    "edl(gamma=.2, lam=2)",
    "dkd",
    "dkd(alpha=.5, beta=3, T=4)",
    "dkd(target='weak', T=2)",
    "raven",
]
HEADS = ("linear", "prototype(init_norm=3, tau_s=.1)")


def world(seed, k=5):
    """A task whose supervisions have priors and partly known labels; the second has weights, some of them 0."""
    t = task(k=k, seed=seed)
    prior = torch.randn(t.n, t.k, generator=t.g).double().log_softmax(1)
    weight = torch.rand(t.n, generator=t.g)
    weight[::7] = 0
    labels = torch.where(torch.rand(t.n, generator=t.g) < 0.2, -1, t.y)
    sups = [Supervision(weak=t.weak, prior=prior, labels=labels, weight=w) for w in (None, weight)]
    rows = np.arange(t.n)
    return t, sups, [thirds(t.n, 70), split(rows[20:83], rows[:10], rows[83:])]


def runs_of(losses, heads=HEADS):
    return [
        Run(
            head=head,
            loss=loss,
            solver=("adam", "sgd(momentum=.5)")[i % 2],
            seed=i % 3,
            epochs=(4, 3)[i % 2],
            batch_size=16,
            lr=(None, 5e-2)[i % 2],
            split=(i // 2) % 2,
            supervision=(i // 3) % 2,
        )
        for i, (loss, head) in enumerate(itertools.product(losses, heads))
    ]


def fits(t, loss):
    run = Run(head="linear", loss=loss, epochs=1)
    return list(fit_heads(t.x, [run], splits=[thirds(t.n, 70)], supervisions=[t.sup], start=t.start, truth=t.y))


def test_every_loss_of_the_table_has_a_naive_one():
    assert set(TABLE) == set(NAIVE)


def test_equals_the_naive_loop(monkeypatch):
    t, sups, splits = world(4)
    together(monkeypatch)
    runs = runs_of(LOSSES)
    worst = distances("fp64", runs=runs, splits=splits, sups=sups, t=t)
    assert len(worst) == len(runs)
    assert not {str(runs[i]): w for i, w in worst.items() if w[0] > 1e-10 or w[1] > 1e-10}


def test_two_classes_equal_the_naive_loop(monkeypatch):
    t, sups, splits = world(5, k=2)
    together(monkeypatch)
    runs = runs_of(["window", "window(r=.3)", "logconf_eleuther(buffer=9)", "dkd", "edl"], ["linear"])
    worst = distances("fp64", runs=runs, splits=splits, sups=sups, t=t)
    assert max(max(w) for w in worst.values()) < 1e-10


def test_evidence_takes_several_teachers(monkeypatch):
    t = task(m=3, seed=6)
    together(monkeypatch)
    worst = distances(
        "fp64", runs=runs_of(["edl", "edl(lam=.3)"], ["linear"]), splits=[thirds(t.n, 70)] * 2, sups=[t.sup] * 2, t=t
    )
    assert max(max(w) for w in worst.values()) < 1e-10


def test_learned_mixtures_of_teachers(monkeypatch):
    """Weights that are learned beside the head, in stacks of unlike runs; bases with memory, priors and labels."""
    t, sups, splits = world(7)
    several = task(m=3, seed=7)
    sups = [replace(s, weak=several.weak) for s in sups]
    together(monkeypatch)
    losses = [
        "raven",
        "raven(lr_v=.3, agree=0)",
        "raven(lr_v=2, agree=.5, tau_w=2)",
        "raven(base='logconf_eleuther(buffer=20, warmup=0)', lr_v=.3)",
        "raven(base='prior_anchor', lr_v=.3, agree=.3)",
        "raven(base='dkd', lr_v=.3, agree=.3)",
    ]
    runs = runs_of(losses)
    worst = distances("fp64", runs=runs, splits=splits, sups=sups, t=t)
    assert not {str(runs[i]): w for i, w in worst.items() if w[0] > 1e-10 or w[1] > 1e-10}


@pytest.mark.parametrize(("loss", "word"), [("dkd", "labels"), ("prior_product", "prior"), ("prior_anchor", "prior")])
def test_what_is_needed_and_absent_is_told(loss, word):
    t = task()
    with pytest.raises(TrainError, match=rf"run 0 \(loss {loss}\) needs {word}.*give Supervision\({word}=\.\.\.\)"):
        fits(t, loss)


def test_labels_are_not_needed_for_weak_targets():
    t = task()
    [fit] = fits(t, "dkd(target='weak')")
    assert fit.status == "ok"
