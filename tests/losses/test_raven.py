"""Learned mixtures of teachers: by hand, their bases, their weights on the simplex, one bad teacher of three."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tasks import task, thirds

from w2s_fast.core.errors import SpecError, TrainError
from w2s_fast.losses import Batch, make, stack
from w2s_fast.train import Run, Supervision, fit_heads

CPU = torch.device("cpu")


def several(lead=(), *, b=6, m=3, k=4, t=0.5, seed=0, **rest):
    g = torch.Generator().manual_seed(seed)
    weak = torch.randn(*lead, b, m, k, dtype=torch.float64, generator=g)
    z = torch.randn(*lead, b, k, dtype=torch.float64, generator=g)
    return z, Batch(weak=weak, t=torch.full((*lead, 1, 1), t, dtype=torch.float64), **rest)


def start(spec, lead=(), *, m=3, k=4):
    return make(spec).memory(lead, k, m, dtype=torch.float64, device=CPU)


def test_raven_by_hand():
    """Teachers (.8, .2) and (.4, .6), a student at (.75, .25)."""
    z = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    weak = torch.tensor([[[0.8, 0.2], [0.4, 0.6]]], dtype=torch.float64).log()
    memory = start("raven", m=2, k=2)
    batch = Batch(weak=weak, t=torch.full((1, 1), 0.5, dtype=torch.float64), memory=memory)
    value = make("raven(base='ce_soft')").value(z, batch)
    assert value.tolist() == pytest.approx([-0.6 * math.log(0.75) - 0.4 * math.log(0.25)])
    (slope,) = torch.autograd.grad(value.sum(), memory["v"])
    cross = [-p * math.log(0.75) - (1 - p) * math.log(0.25) for p in (0.8, 0.4, 0.6)]
    assert slope.tolist() == pytest.approx([cross[0] - cross[2], cross[1] - cross[2]])
    make("raven(lr_v=.5)").step(memory, {"v": slope}, z, batch)
    moved = np.maximum(0.5 - 0.5 * slope.numpy(), 1e-6)
    assert memory["v"].detach().numpy() == pytest.approx(moved / moved.sum())
    assert memory["v"].requires_grad and float(memory["v"].detach()[0]) > 0.5


def test_weights_stay_on_the_simplex_and_no_teacher_dies():
    loss, memory = make("raven(lr_v=100)"), start("raven")
    z, batch = several()
    loss.step(memory, {"v": torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)}, z, batch)
    found = memory["v"].detach()
    assert float(found.sum()) == pytest.approx(1)
    assert found.tolist() == pytest.approx([1e-6 / 100.33] * 2 + [1.0], rel=1e-3)


@pytest.mark.parametrize("base", ["kd", "ce", "adapt_conf", "reverse_kl", "js(pi=.3)", "prior_anchor", "dkd(T=2)"])
def test_its_value_and_slope_are_those_of_its_base_on_the_mixture(base):
    """With uniform weights and no lead, as whole networks are trained, and with weights of runs in a stack."""
    g = torch.Generator().manual_seed(3)
    prior = torch.randn(6, 4, dtype=torch.float64, generator=g).log_softmax(-1)
    labels = torch.arange(6) % 4
    z, batch = several(prior=prior, labels=labels)
    mean = batch.weak.softmax(-1).mean(1)
    plain = Batch(weak=mean.log(), t=batch.t, prior=prior, labels=labels)
    for found, expected in zip(
        make(f'raven(base="{base}", tau_s=.7)').value_and_dz(z, batch),
        make(base.rstrip(")") + (", " if "(" in base else "(") + "tau_s=.7)").value_and_dz(z, plain),
        strict=True,
    ):
        assert torch.allclose(found, expected, atol=1e-12)

    v = torch.rand(3, 3, dtype=torch.float64, generator=g)
    v = (v / v.sum(-1, keepdim=True)).requires_grad_()
    z, weak = several((3,), b=6)[0], several((3,), b=6)[1].weak
    given = {"prior": prior.expand(3, 6, 4), "labels": labels.expand(3, 6)}
    t = torch.full((3, 1, 1), 0.5, dtype=torch.float64)
    many = make(f'raven(base="{base}")').value(z, Batch(weak=weak, t=t, memory={"v": v}, **given))
    for r in range(3):
        mixed = sum(v[r, m].detach() * weak[r, :, m].softmax(-1) for m in range(3))
        one = make(base).value(z[r], Batch(weak=mixed.log(), t=t[r], prior=prior, labels=labels))
        assert torch.allclose(many[r], one, atol=1e-12)


def test_only_rows_on_which_all_agree_count_at_first():
    z, batch = several(b=40, t=0.05)
    same = batch.weak.argmax(-1)
    same = (same == same[:, :1]).all(1)
    assert 0 < int(same.sum()) < 40
    full = make("raven(agree=0)").value(z, batch)
    early = make("raven").value(z, batch)
    assert torch.equal(early, full * same)
    memory = start("raven")
    make("raven").step(memory, {"v": torch.ones(3, dtype=torch.float64)}, z, batch)
    assert memory["v"].detach().tolist() == [1 / 3] * 3, "weights wait as long"


def test_runs_of_a_stack_wait_and_move_each_for_itself():
    specs = ["raven(lr_v=.1, agree=.9)", "raven(lr_v=.1)", "raven(lr_v=.4, tau_w=2)"]
    z, batch = several((3,), t=0.5)
    memory = start("raven", (3,))
    slope = torch.tensor([[0.3, 0.1, -0.2]] * 3, dtype=torch.float64)
    stack([make(s) for s in specs], dtype=torch.float64, device="cpu").step(memory, {"v": slope}, z, batch)
    for r, spec in enumerate(specs):
        alone = start("raven")
        make(spec).step(alone, {"v": slope[r]}, z[r], batch.run(r))
        assert torch.allclose(memory["v"][r], alone["v"], atol=1e-12)
    assert len({tuple(v) for v in memory["v"].tolist()}) == 3


def test_what_a_base_may_not_be():
    for text, word in (
        ("raven(base='edl')", "several teachers"),
        ("raven(base='raven')", "several teachers"),
        ("raven(base='kdd')", "no loss 'kdd'"),
        ("raven(base='kd(tau_w=0)')", "tau_w"),
        ("raven(base='kd(tau_s=1)')", "raven\\(tau_s"),
        ("raven(agree=2)", "agree"),
        ("raven(lr_v=-1)", "lr_v"),
    ):
        with pytest.raises(SpecError, match=word):
            make(text)
    assert make("raven(base='dkd')").needs == {"teachers", "labels"} and make("raven(base='window')").mixes_rows
    t = task(m=2)
    with pytest.raises(TrainError, match="needs prior"):
        list(fits(t, ["raven(base='prior_anchor')"]))


def fits(t, losses, weak=None, **settings):
    runs = [Run(head="linear", loss=loss, **{"batch_size": 64, "epochs": 8, **settings}) for loss in losses]
    sups = [Supervision(weak=t.weak if weak is None else weak)]
    splits = [thirds(t.n, t.n * 2 // 3)]
    return fit_heads(t.x, runs, splits=splits, supervisions=sups, start=t.start, truth=t.y)


def test_one_bad_teacher_of_three_loses_its_weight():
    """It is sure and takes one class for another; two unsure ones err less often, each in its own way.

    A uniform mixture says what the bad one says. Where all agree they are right, so that a student that has begun with
    those rows holds the bad one's labels for dear - if the weights move before the student does what the mixture says.
    """
    t = task(n=3000, d=12, seed=2)
    g = torch.Generator().manual_seed(1)
    hot = torch.eye(t.k)

    def right(share, shifts):
        other = t.y + torch.tensor(shifts)[torch.randint(0, len(shifts), (t.n,), generator=g)]
        return torch.where(torch.rand(t.n, generator=g) < share, t.y, other % t.k)

    good = [1.4 * hot[right(0.7, [1, 3, 4])] for _ in range(2)]
    bad = 9 * hot[right(0.2, [2])]
    weak = torch.stack([good[0], bad, good[1]], dim=1)
    specs = ["raven(lr_v=.1, agree=.3)", "raven(lr_v=0, agree=0)"]
    [learned, kept] = fits(t, specs, weak, epochs=10, lr=2e-3)
    v, acc = learned.learned["v"], learned.curves["acc_test"][-1]
    assert v.sum() == pytest.approx(1, abs=1e-5)
    assert v[1] < 1e-4 and min(v[0], v[2]) > 0.3
    assert kept.learned["v"].tolist() == pytest.approx([1 / 3] * 3)
    assert acc > kept.curves["acc_test"][-1] + 0.25
    assert acc > float((bad.argmax(-1) == t.y).float().mean()) + 0.4
    [hasty] = fits(t, specs[:1], weak, epochs=10, lr=1e-2)
    assert hasty.learned["v"][1] > 0.99, "a student faster than its weights makes the sure one right"
