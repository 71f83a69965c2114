"""Ridge in closed form: the normal equations, scikit-learn, Adam's limit, and one eigendecomposition for many runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from naive import gap
from tasks import fits, split, task, thirds

from w2s_fast.core.errors import UsageError
from w2s_fast.losses import Supervision
from w2s_fast.train import Run, fit_heads, ground_truth, plan
from w2s_fast.train.full_batch import moments


def ridge(decay=0.0, **rest):
    return Run(**{"head": "linear", "loss": "brier", "solver": "ridge", "epochs": 1, "weight_decay": decay, **rest})


def normal_equations(x, q, weight, decay, *, scale=10.0, tau=1.0, unit=True):
    """(A^T S A / n + decay D) [W b]^T = A^T S (tau-scaled targets) / n with A = [x / tau, 1 / tau]; D spares b."""
    x = x.double()
    x = scale * (x / x.norm(dim=1, keepdim=True) if unit else x)
    a = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1) / tau
    s = weight.double()[:, None]
    free = torch.eye(a.shape[1], dtype=torch.float64)
    free[-1, -1] = 0
    solved = torch.linalg.solve(a.T @ (s * a) / len(x) + decay * free, a.T @ (s * q) / len(x))
    return {"weight": solved[:-1].T, "bias": solved[-1]}


def test_the_normal_equations_for_every_decay_weight_and_temperature():
    t = task(n=200)
    weight = torch.rand(t.n, generator=t.g)
    weight[::9] = 0
    sups = [t.sup, Supervision(weak=t.weak, weight=weight)]
    parts = [thirds(t.n, 130), split(range(60, 200), range(30), range(30, 60))]
    heads = [("linear", 10.0, True), ("linear(x_scale=2)", 2.0, True), ("linear(unit_x=False, x_scale=1)", 1.0, False)]
    losses = [("brier", 1.0, 1.0), ("brier(tau_s=.5, tau_w=3)", 0.5, 3.0)]
    kinds = list(itertools.product(heads, losses, (0, 1), (0, 1), (0.0, 1e-4, 1.0)))
    runs = [ridge(decay, head=h[0], loss=loss[0], supervision=u, split=p) for h, loss, u, p, decay in kinds]
    for fit, (head, (_, tau, tau_w), u, p, decay) in zip(fits(t, runs, parts, sups), kinds, strict=True):
        rows = torch.as_tensor(parts[p].train)
        q = (t.weak.double()[rows] / tau_w).softmax(1)
        s = torch.ones(len(rows)) if u == 0 else weight[rows]
        expected = normal_equations(t.x[rows], q, s, decay, scale=head[1], tau=tau, unit=head[2])
        theta = fit.theta["last"]
        assert all((theta[name] - expected[name]).abs().max() < 1e-8 for name in theta), fit.run
        x = t.x.double()[rows]
        x = head[1] * (x / x.norm(dim=1, keepdim=True) if head[2] else x)
        values = ((x @ theta["weight"].T + theta["bias"]) / tau - q).square().sum(1) / 2
        assert fit.curves["loss"][-1] == pytest.approx(float((values * s).sum()) / len(rows), rel=1e-9)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_scikit_learns_ridge(precision):
    from sklearn.linear_model import Ridge

    t = task(n=200)
    part, weight = thirds(t.n, 140), torch.rand(t.n, generator=t.g)
    runs = [ridge(decay) for decay in (1e-3, 0.1, 10.0)]
    x = (10 * torch.nn.functional.normalize(t.x.double(), dim=-1)).numpy()
    q = t.weak.double().softmax(1).numpy()
    close = 1e-5 if precision == "fp32" else 1e-9
    for fit in fits(t, runs, [part], [Supervision(weak=t.weak, weight=weight)], precision=precision):
        model = Ridge(alpha=140 * fit.run.weight_decay, solver="cholesky")
        model.fit(x[part.train], q[part.train], sample_weight=weight.numpy()[part.train])
        assert np.allclose(fit.theta["last"]["weight"], model.coef_, atol=close)
        assert np.allclose(fit.theta["last"]["bias"], model.intercept_, atol=close)
        assert np.array_equal(fit.predicted["last"], model.predict(x[part.test]).argmax(1))


def test_adam_and_lbfgs_converge_to_it():
    t = task()
    part = thirds(t.n, 60)
    adam = Run(head="linear", loss="brier", batch_size=60, epochs=500, lr=0.1, schedule="cosine", weight_decay=0.1)
    runs = [ridge(0.1), adam, Run(head="linear", loss="brier", solver="lbfgs", epochs=2, weight_decay=0.1)]
    exact, stepped, searched = fits(t, runs, [part], selections=["last"])
    assert gap(stepped.theta["last"], exact.theta["last"]) < 1e-5
    assert gap(searched.theta["last"], exact.theta["last"]) < 1e-6


def counted(monkeypatch):
    """Shapes of the matrices that are decomposed from here on."""
    seen, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(moments.torch.linalg, "eigh", lambda a: seen.append(tuple(a.shape)) or eigh(a))
    return seen


def test_many_runs_cost_one_decomposition(monkeypatch):
    t = task()
    seen = counted(monkeypatch)
    weight = torch.rand(t.n, generator=t.g)
    sups = [Supervision(weak=t.weak), Supervision(weak=-t.weak), ground_truth(t.y, t.k)]
    decays = np.logspace(-6, 2, 30).tolist()
    runs = [
        ridge(decay, loss=f"brier(tau_w={tau})", supervision=u, seed=u)
        for decay, tau, u in itertools.product(decays, (1, 2), range(3))
    ]
    assert len(runs) == 180
    found = fits(t, runs, [thirds(t.n, 60)], sups)
    assert seen == [(9, 9)], "whatever weight decay, supervision, temperature and seed"
    losses = [f.curves["loss"][-1] for f in found[::6]]
    assert losses == sorted(losses) and losses[0] < losses[-1]

    seen.clear()
    weighted = [Supervision(weak=t.weak, weight=w) for w in (None, weight, weight.clone(), 1 - weight)]
    runs = [ridge(decay, supervision=u, split=p) for decay in (0.1, 1.0) for u in range(4) for p in (0, 1)]
    fits(t, runs, [thirds(t.n, 60), thirds(t.n, 80)], weighted)
    assert len(seen) == 6, "two splits of three kinds of weights; equal weights are one kind"
    stacks = plan(runs, splits=[thirds(t.n, 60)] * 2, d=t.d, k=t.k, device="cpu")
    assert [len(s) for s in stacks] == [16]


def test_without_decay_and_rank_the_solution_has_least_norm():
    t = task(n=60, d=20)
    t.x[:, 10:] = 2 * t.x[:, :10]
    part = thirds(t.n, 40)
    few = split(range(8), range(8, 30), range(30, 60))
    wide, narrow, nearly = fits(t, [ridge(), ridge(split=1), ridge(1e-9, split=1)], [part, few])
    for fit, rows in ((wide, part.train), (narrow, few.train)):
        x = 10 * torch.nn.functional.normalize(t.x.double()[rows], dim=-1)
        q = t.weak.double()[rows].softmax(1)
        w = (torch.linalg.pinv(x - x.mean(0), rtol=1e-6) @ (q - q.mean(0))).T
        assert torch.allclose(fit.theta["last"]["weight"], w, atol=1e-8)
        assert torch.allclose(fit.theta["last"]["bias"], q.mean(0) - w @ x.mean(0), atol=1e-8)
    assert abs(narrow.curves["loss"][-1]) < 1e-12, "eight rows are met exactly"
    assert gap(narrow.theta["last"], nearly.theta["last"]) < 1e-4


class Streaming:
    def __init__(self, x):
        self.x, self.n, self.d = x, x.shape[0], x.shape[1]

    def batches(self, rows, size):
        for i in range(0, rows.shape[-1], size):
            yield rows[..., i : i + size], self.x[rows[..., i : i + size]]


@pytest.mark.parametrize("streamed", [True, False])
def test_chunks_and_streams_are_the_whole(monkeypatch, streamed):
    t = task(n=400)
    weight = torch.rand(t.n, generator=t.g)
    weight[:50] = 0
    sups = [t.sup, Supervision(weak=t.weak, weight=weight)]
    runs = [ridge(decay, supervision=u) for decay in (0.0, 0.1) for u in (0, 1)]
    whole = fits(t, runs, [thirds(t.n, 300)], sups)
    monkeypatch.setattr(moments, "ROWS", 32)
    cut = fits(t, runs, [thirds(t.n, 300)], sups, x=Streaming(t.x) if streamed else None)
    for a, b in zip(whole, cut, strict=True):
        assert gap(a.theta["last"], b.theta["last"]) < 1e-11
        assert a.curves["loss"][-1] == pytest.approx(b.curves["loss"][-1], rel=1e-10)


def test_a_far_mean_costs_no_digits():
    """Covariances as mean of squares minus square of means would lose twelve digits here."""
    t = task(n=200)
    far, near = t.x.double() + 1e6, t.x.double()
    near = (far - 1e6).contiguous()
    run = ridge(0.01, head="linear(unit_x=False, x_scale=1)")
    (a,), (b,) = (fits(t, [run], [thirds(t.n, 130)], x=x) for x in (far, near))
    assert torch.allclose(a.theta["last"]["weight"], b.theta["last"]["weight"], atol=1e-10)
    assert np.array_equal(a.predicted["last"], b.predicted["last"])


def test_epochs_repeat_and_runs_leave_one_by_one():
    t = task()
    runs = [ridge(decay, epochs=e) for decay, e in ((1.0, 3), (0.1, 1), (0.01, 2), (1.0, 1))]
    found = fits(t, runs, [thirds(t.n, 60)])
    for fit in found:
        assert len({*fit.curves["loss"][1:].tolist()}) == len({*fit.curves["acc_test"][1:].tolist()}) == 1
        assert len(fit.curves["loss"]) == fit.run.epochs + 1 and fit.selected_epoch["weak_val"] == 1
    (alone,) = fits(t, [runs[2]], [thirds(t.n, 60)])
    assert gap(alone.theta["last"], found[2].theta["last"]) < 1e-13
    assert alone.curves["loss"].tolist()[1:] == pytest.approx(found[2].curves["loss"].tolist()[1:], rel=1e-12)
    assert alone.curves["agree_val"].tolist() == found[2].curves["agree_val"].tolist()
    assert all(alone.resolved[name] is None for name in ("batch_size", "lr", "schedule", "warmup", "steps"))
    assert gap(found[0].theta["last"], found[3].theta["last"]) == 0


def test_bad_runs_end_alone():
    t = task()
    x = t.x.clone()
    x[3] = torch.nan
    weight = torch.zeros(t.n)
    sups = [t.sup, Supervision(weak=t.weak, weight=weight)]
    parts = [thirds(t.n, 60), split(range(10, 60), range(60, 80), range(80, 120))]
    runs = [ridge(0.1), ridge(0.1, split=1), ridge(0.1, split=1, supervision=1), ridge(0.0, split=1, supervision=1)]
    bad, good, none, zero = fits(t, runs, parts, sups, x=Streaming(x))
    assert (bad.status, good.status, none.status, zero.status) == ("diverged", "ok", "ok", "ok")
    assert "lr" not in bad.notes[0]
    assert not none.theta["last"]["weight"].any() and not zero.theta["last"]["weight"].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "kd"}, ["run 1: solver 'ridge'", "not 'kd'", "loss 'brier'", "solver 'lbfgs'"]),
        ({"loss": lambda z, weak, ctx: z.square().sum(-1)}, ["'<lambda>'", "brier"]),
        ({"head": "prototype"}, ["not 'prototype'", "head 'linear'", "solver 'lbfgs'"]),
        ({"w_gt": 0.5}, ["w_gt=0.5", "use w_gt=0", "solver 'lbfgs'"]),
    ],
)
def test_what_has_no_closed_form_is_refused_before_anything_runs(change, words):
    t = task()
    sup = Supervision(weak=t.weak, labels=t.y)
    with pytest.raises(UsageError) as caught:
        fit_heads(
            t.x, [ridge(), ridge(**change)], splits=[thirds(t.n, 60)], supervisions=[sup], start=t.start, truth=t.y
        )
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_one_class_and_one_row():
    t = task(n=30, k=1, d=4)
    one, some = fits(t, [ridge(), ridge(split=1)], [split([3], [], range(20, 30)), thirds(t.n, 10)])
    for fit in (one, some):
        assert fit.status == "ok" and fit.curves["acc_test"][-1] == 1.0
        assert float(fit.theta["last"]["bias"]) == pytest.approx(1.0), "softmax of one class"
