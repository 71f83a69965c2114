"""Third-party losses and heads: memory, teachers, functions, features that are learned, streamed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from naive import gap, lr_at
from tasks import alone, fits, split, task, thirds, together

from w2s_fast.core.errors import TrainError
from w2s_fast.heads import Head
from w2s_fast.heads.linear import Linear
from w2s_fast.losses import Loss, Supervision
from w2s_fast.train import Run, Start, fit_heads, order


@dataclass(frozen=True, kw_only=True, eq=False)
class Centred(Loss):
    """KD to weak logits minus a running mean of them: memory without gradient."""

    rate: float = 0.3

    def memory(self, lead, k, m, *, dtype, device):
        return {"mean": torch.zeros(*lead, 1, k, dtype=dtype, device=device)}

    def value(self, z, batch):
        w = (batch.weak - batch.memory["mean"]).softmax(-1)
        return -(w * (z / self.tau_s).log_softmax(-1)).sum(-1)

    def step(self, memory, grads, z, batch):
        valid = torch.ones(z.shape[:-1], dtype=z.dtype) if batch.valid is None else batch.valid.to(z.dtype)
        count = valid.sum(-1)[..., None, None].clamp_min(1)
        mean = (batch.weak * valid.unsqueeze(-1)).sum(-2, keepdim=True) / count
        memory["mean"].lerp_(mean, self.rate)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture(Loss):
    """KD to a mixture of m teachers whose weights are learned by plain gradient descent."""

    lr_v: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"teachers"})

    def memory(self, lead, k, m, *, dtype, device):
        return {"v": torch.zeros(*lead, m, dtype=dtype, device=device).requires_grad_(True)}

    def value(self, z, batch):
        share = batch.memory["v"].softmax(-1)
        w = (batch.weak.softmax(-1) * share[..., None, :, None]).sum(-2)
        return -(w * (z / self.tau_s).log_softmax(-1)).sum(-1)

    def step(self, memory, grads, z, batch):
        rate = self.lr_v if isinstance(self.lr_v, float) else self.lr_v.squeeze(-1)
        with torch.no_grad():
            memory["v"] -= rate * grads["v"]


def plain_loop(t, run, part, loss_of, after, weight=None):
    """The linear head of the engine with any loss and memory, one run at a time."""
    g = torch.Generator().manual_seed(run.seed)
    w = ((torch.rand(t.k, t.d, generator=g).double() * 2 - 1) / t.d**0.5).requires_grad_(True)
    b = torch.zeros(t.k, dtype=torch.float64, requires_grad=True)
    x = 10 * torch.nn.functional.normalize(t.x.double(), dim=-1)
    optimiser = torch.optim.Adam([w, b], lr=0.0)
    train = torch.as_tensor(np.asarray(part.train))
    steps, step = run.epochs * -(-len(train) // run.batch_size), 0
    for epoch in range(run.epochs):
        for rows in train[torch.as_tensor(order(run.seed, epoch, len(train)))].split(run.batch_size):
            optimiser.param_groups[0]["lr"] = lr_at(run.schedule, 1e-2, step, steps)
            optimiser.zero_grad()
            value = loss_of(x[rows] @ w.T + b, rows)
            value = value if weight is None else value * weight[rows]
            (value.sum() / len(rows)).backward()
            optimiser.step()
            after(rows)
            step += 1
    return {"weight": w.detach(), "bias": b.detach()}


@pytest.mark.parametrize("how", [together, alone])
def test_memory_is_carried_and_masked(monkeypatch, how):
    t = task()
    how(monkeypatch)
    rows = np.arange(t.n)
    splits = [thirds(t.n, 60), split(rows[10:31], rows[:10], rows[31:])]
    runs = [
        Run(head="linear", loss=loss, seed=s, split=p, epochs=e, batch_size=16)
        for loss, s, p, e in ((Centred(), 0, 0, 5), ("kd", 1, 1, 3), (Centred(rate=0.7), 1, 1, 5), (Centred(), 2, 1, 2))
    ]
    for fit in fits(t, runs, splits):
        if isinstance(fit.run.loss, str):
            continue
        memory, rate = torch.zeros(1, t.k, dtype=torch.float64), fit.run.loss.rate

        def loss_of(z, rows, memory=memory):
            return -((t.weak.double()[rows] - memory).softmax(-1) * z.log_softmax(-1)).sum(-1)

        def after(rows, memory=memory, rate=rate):
            memory.lerp_(t.weak.double()[rows].mean(0, keepdim=True), rate)

        expected = plain_loop(t, fit.run, splits[fit.run.split], loss_of, after)
        assert gap(fit.theta["last"], expected) < 1e-10


@pytest.mark.parametrize("how", [together, alone])
def test_memory_that_learns(monkeypatch, how):
    t = task(m=3)
    how(monkeypatch)
    weight = torch.rand(t.n, generator=t.g)
    rows = np.arange(t.n)
    splits = [thirds(t.n, 60), split(rows[10:31], rows[:10], rows[31:])]
    sups = [Supervision(weak=t.weak, weight=weight)]
    runs = [
        Run(head="linear", loss=Mixture(lr_v=v), seed=s, split=p, epochs=e, batch_size=16)
        for v, s, p, e in ((0.5, 0, 0, 5), (3.0, 1, 1, 5), (0.5, 1, 1, 3))
    ]
    for fit in fits(t, runs, splits, sups):
        v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        weak = t.weak.double()

        def loss_of(z, rows, v=v, weak=weak):
            target = (weak[rows].softmax(-1) * v.softmax(-1)[None, :, None]).sum(1)
            return -(target * z.log_softmax(-1)).sum(-1)

        def after(rows, v=v, rate=fit.run.loss.lr_v):
            with torch.no_grad():
                v -= rate * v.grad
            v.grad = None

        expected = plain_loop(t, fit.run, splits[fit.run.split], loss_of, after, weight.double())
        assert gap(fit.theta["last"], expected) < 1e-10
        assert v.detach().abs().max() > 0.01, "the example must move the memory"


def test_several_teachers_need_a_loss_that_knows_them():
    t = task(m=3)
    sups = [Supervision(weak=t.weak)]
    with pytest.raises(TrainError, match=r"run 0 \(loss kd\) takes one teacher .* has 3; set pick"):
        fits(t, [Run(head="linear", loss="kd")], [thirds(t.n, 60)], sups)
    assert fits(t, [Run(head="linear", loss=Mixture(), epochs=1)], [thirds(t.n, 60)], sups)[0].status == "ok"


def test_pick_is_the_picked_table():
    t = task(m=3)
    pick = torch.randint(0, 3, (t.n,), generator=t.g)
    flat = t.weak[torch.arange(t.n), pick]
    runs = [Run(head="linear", loss="aux_conf", batch_size=16, epochs=3, supervision=i) for i in (0, 1)]
    a, b = fits(t, runs, [thirds(t.n, 60)], [Supervision(weak=t.weak, pick=pick), Supervision(weak=flat)])
    assert gap(a.theta["last"], b.theta["last"]) < 1e-13
    assert np.array_equal(a.curves["agree_test"], b.curves["agree_test"])


def test_needs_are_checked_before_anything_runs():
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Needy(Loss):
        needs: ClassVar[frozenset[str]] = frozenset({"prior", "labels"})

    t = task()
    for sup, word in ((Supervision(weak=t.weak), "labels"), (Supervision(weak=t.weak, labels=t.y), "prior")):
        with pytest.raises(TrainError, match=f"needs {word}"):
            fit_heads(
                t.x,
                [Run(head="linear", loss=Needy())],
                splits=[thirds(t.n, 60)],
                supervisions=[sup],
                start=t.start,
                truth=t.y,
            )
    with pytest.raises(TrainError, match=r"w_gt=0.5, and its supervision has no labels"):
        fits(t, [Run(head="linear", loss="kd", w_gt=0.5)], [thirds(t.n, 60)])


@pytest.mark.parametrize("how", [together, alone])
@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_function_is_the_loss_that_it_writes(monkeypatch, how, head):
    t = task()
    how(monkeypatch)

    def mine(z, weak, ctx):
        assert z.ndim == 2 and ctx.labels is not None and ctx.prior is not None
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    mine.needs = {"labels"}
    prior = torch.randn(t.n, t.k).log_softmax(-1)
    sups = [Supervision(weak=t.weak, labels=t.y, prior=prior)]
    runs = [Run(head=head, loss=loss, seed=s, batch_size=16, epochs=4) for loss in (mine, "kd") for s in (0, 1)]
    found = fits(t, runs, [thirds(t.n, 60)], sups)
    assert gap(found[0].theta["last"], found[2].theta["last"]) < 1e-11
    assert gap(found[1].theta["last"], found[3].theta["last"]) < 1e-11
    assert found[0].resolved["loss"] == "mine"


def test_a_wrong_shape_names_the_loss():
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Mean(Loss):
        def value(self, z, batch):
            return z.mean(-1).mean(-1)

    t = task()
    with pytest.raises(TrainError, match="unreduced"):
        fits(t, [Run(head="linear", loss=Mean(), batch_size=16)], [thirds(t.n, 60)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Plain(Linear):
    """The linear head without its closed form."""

    def vjp(self, theta):
        return Head.vjp(self, theta)


@dataclass(frozen=True, kw_only=True, eq=False)
class Through(Linear):
    """The linear head with features that pass through a function, so that all goes by autograd."""

    def features(self, theta, x):
        assert x.ndim == 3 and x.shape[0] == theta["bias"].shape[0]
        return x * 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter(Head):
    """Frozen class weights without a lead and a learned residual map of the features."""

    tau_s: float = 0.1

    def init(self, start: Start, *, seed, x, rows, supervision):
        return {"a": torch.zeros(start.d, start.d)}

    def bind(self, start):
        bound = type(self)(tau_s=self.tau_s)
        object.__setattr__(bound, "text", start.unit_text("adapter").double())
        return bound

    def weights(self, theta):
        return self.text, None

    def features(self, theta, x):
        return torch.nn.functional.normalize(x + x @ theta["a"], dim=-1)


@pytest.mark.parametrize("kind", [Plain, Through])
@pytest.mark.parametrize("how", [together, alone])
def test_heads_without_a_closed_form_equal_the_one_with(monkeypatch, kind, how):
    t = task()
    how(monkeypatch)
    splits = [thirds(t.n, 60), thirds(t.n, 33)]
    runs = [
        Run(head=head, loss=loss, seed=s, split=s, batch_size=16, epochs=3, weight_decay=0.01)
        for head in (kind(), "linear")
        for loss, s in (("kd", 0), ("adapt_conf", 1), ("aux_conf", 0))
    ]
    found = fits(t, runs, splits)
    for a, b in zip(found[:3], found[3:], strict=True):
        assert gap(a.theta["last"], b.theta["last"]) < 1e-10
        assert np.array_equal(a.predicted["last"], b.predicted["last"])


@pytest.mark.parametrize("how", [together, alone])
def test_an_adapter_learns_through_features(monkeypatch, how):
    t = task()
    how(monkeypatch)
    run = Run(head=Adapter(), loss="kd", batch_size=16, epochs=3)
    part = thirds(t.n, 60)
    found = fits(t, [run, Run(head=run.head, loss="kd", seed=1, batch_size=16, epochs=3)], [part])
    a = torch.zeros(t.d, t.d, dtype=torch.float64, requires_grad=True)
    unit = torch.nn.functional.normalize
    x, text = unit(t.x.double(), dim=-1), unit(t.text.double(), dim=-1)
    optimiser, step = torch.optim.Adam([a], lr=0.0), 0
    for epoch in range(3):
        for rows in torch.as_tensor(part.train[order(0, epoch, 60)]).split(16):
            optimiser.param_groups[0]["lr"] = lr_at("linear", 1e-2, step, 12)
            optimiser.zero_grad()
            z = unit(x[rows] + x[rows] @ a, dim=-1) @ text.T / 0.1
            w = t.weak.double()[rows].log_softmax(-1)
            (w.exp() * (w - z.log_softmax(-1))).sum(-1).mean().backward()
            optimiser.step()
            step += 1
    assert gap(found[0].theta["last"], {"a": a.detach()}) < 1e-10
    assert gap(found[0].theta["last"], found[1].theta["last"]) > 1e-3


class Streaming:
    """A table that hands out batches in another precision, from another place."""

    def __init__(self, x):
        self.x, self.n, self.d = x, x.shape[0], x.shape[1]

    def batches(self, rows, size):
        for i in range(0, rows.shape[-1], size):
            yield rows[..., i : i + size], self.x[rows[..., i : i + size]]


@pytest.mark.parametrize("how", [together, alone])
def test_streamed_features_are_the_resident_ones(monkeypatch, how):
    t = task()
    how(monkeypatch)
    runs = [
        Run(head=head, loss="kd", seed=s, batch_size=16, epochs=2, split=s)
        for s in (0, 1)
        for head in ("linear", "prototype(init='weak_mean')", "linear(unit_x=False, x_scale=1)")
    ]
    splits = [thirds(t.n, 60), thirds(t.n, 41)]
    for a, b in zip(fits(t, runs, splits), fits(t, runs, splits, x=Streaming(t.x)), strict=True):
        assert gap(a.theta["last"], b.theta["last"]) < 1e-13
        assert np.array_equal(a.predicted["last"], b.predicted["last"])
