"""Schedules by hand, solvers against torch.optim, stacks of runs by memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks import task, thirds

from w2s_fast.core.errors import SpecError
from w2s_fast.core.schedule import make_schedule
from w2s_fast.train import Run, plan
from w2s_fast.train.solver import make_solver


def factors(spec, steps):
    return make_schedule(spec).factor(np.arange(steps), steps)


def test_linear_by_hand():
    assert factors("linear(warmup=.2)", 10).tolist() == pytest.approx(
        [0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )


def test_cosine_and_constant():
    assert factors("cosine(warmup=0)", 4).tolist() == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert factors("constant", 3).tolist() == [1, 1, 1]
    assert factors("constant(warmup=.5)", 4).tolist() == [0, 0.5, 1, 1]
    assert factors("linear(warmup=1)", 4).tolist() == [0, 0.25, 0.5, 0.75]
    assert factors("linear", 1).tolist() == [0.0], "one step is all warm-up"


def test_a_period_is_torchs_annealing_stepped_beyond_its_end():
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10)
    rates: list[float] = []
    for _ in range(57):
        rates.append(annealing.get_last_lr()[0])
        optimiser.step()
        annealing.step()
    assert factors("cosine(warmup=0, period=10)", 57).tolist() == pytest.approx(rates, abs=1e-12)
    assert factors("cosine(warmup=.5, period=2)", 8).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 0.5, 0, 0.5])
    with pytest.raises(SpecError, match="outside"):
        make_schedule("cosine(period=-1)")


@pytest.mark.parametrize(("steps", "w"), [(190, 19), (70, 7), (30, 3), (201, 21), (1, 1), (9, 1)])
def test_warm_up_steps_are_the_ceiling_of_a_tenth(steps, w):
    assert int(np.argmax(factors("linear", steps))) == min(w, steps - 1)


def test_warm_up_steps_do_not_see_rounding():
    assert 0.07 * 100 > 7
    assert int(np.argmax(factors("linear(warmup=.07)", 100))) == 7


@pytest.mark.parametrize("spec", ["linea", "linear(warmup=2)", "linear(warm=.1)", "step"])
def test_schedule_errors(spec):
    with pytest.raises(SpecError):
        make_schedule(spec)


@pytest.mark.parametrize("spec", ["adma", "adam(beta1=1)", "sgd(momentum=-1)", "adam(betas=.9)", "sgd(nesterov=2)"])
def test_solver_errors(spec):
    with pytest.raises(SpecError):
        make_solver(spec)


SOLVERS = {
    "adam": lambda p, wd: torch.optim.Adam(p, lr=0.0, weight_decay=wd),
    "adam(beta1=.5, beta2=.9, eps=1e-3)": lambda p, wd: torch.optim.Adam(
        p, lr=0.0, betas=(0.5, 0.9), eps=1e-3, weight_decay=wd
    ),
    "adamw": lambda p, wd: torch.optim.AdamW(p, lr=0.0, weight_decay=wd),
    "sgd": lambda p, wd: torch.optim.SGD(p, lr=0.0, momentum=0.9, weight_decay=wd),
    "sgd(momentum=0)": lambda p, wd: torch.optim.SGD(p, lr=0.0, weight_decay=wd),
    "sgd(momentum=.7, nesterov=True)": lambda p, wd: torch.optim.SGD(
        p, lr=0.0, momentum=0.7, nesterov=True, weight_decay=wd
    ),
}


@pytest.mark.parametrize("spec", SOLVERS)
@pytest.mark.parametrize("alike", [True, False])
def test_solvers_are_torchs(spec, alike):
    """Three runs with their own rates, decay and idle steps, against three optimisers."""
    g = torch.Generator().manual_seed(0)
    runs, steps = 3, 12
    solver = make_solver(spec)
    start = torch.randn(runs, 4, 5, dtype=torch.float64, generator=g)
    lr = np.full((steps, runs), 0.03) if alike else np.linspace(0, 0.1, steps * runs).reshape(steps, runs)
    decay = np.full(runs, 0.1) if alike else np.array([0.0, 0.1, 0.5])
    active = np.ones((steps, runs)) if alike else np.array([[1, s % 2, s < 5] for s in range(steps)], np.float64)
    count = np.maximum(active.cumsum(0), 1)
    tables = solver.hyperparameters(np.where(active > 0, lr, 0.0), count, decay)
    p = start.clone()
    state = {slot: torch.zeros_like(p) for slot in solver.slots}
    leaves = [start[r].clone().requires_grad_(True) for r in range(runs)]
    optimisers = [SOLVERS[spec]([leaf], decay[r]) for r, leaf in enumerate(leaves)]
    for s in range(steps):
        grad = torch.randn(runs, 4, 5, dtype=torch.float64, generator=g)
        numbers = {n: float(t[s, 0]) if alike else torch.as_tensor(t[s].copy()) for n, t in tables.items()}
        before = grad.clone()
        solver.update(p, grad, state, numbers, None if alike else torch.as_tensor(active[s]))
        assert torch.equal(before, grad)
        for r, (leaf, optimiser) in enumerate(zip(leaves, optimisers, strict=True)):
            if active[s, r]:
                leaf.grad = grad[r].clone()
                optimiser.param_groups[0]["lr"] = lr[s, r]
                optimiser.step()
    for r, leaf in enumerate(leaves):
        assert torch.allclose(p[r], leaf.detach(), atol=1e-12), r


def test_plan_groups_what_can_be_stacked():
    t = task()
    runs = [
        Run(head=head, loss=loss, seed=seed, batch_size=size)
        for head in ("linear", "linear(init='text')", "prototype", "linear(x_scale=1)")
        for loss in ("kd", "ce", "kd(tau_s=2)")
        for seed in (0, 1)
        for size in (16, 32)
    ]
    stacks = plan(runs, splits=[thirds(t.n, 60)], d=t.d, k=t.k, device="cpu")
    assert sorted(map(id, (r for s in stacks for r in s))) == sorted(map(id, runs))
    for stack in stacks:
        assert len({r.batch_size for r in stack}) == 1
        assert len({str(r.head).startswith("prototype") or "x_scale" in str(r.head) for r in stack}) == 1
    assert sorted(map(len, stacks)) == [6, 6, 6, 6, 12, 12]
    for size, widest in ((1 << 12, 32), (1 << 14, 16), (1 << 18, 1)):
        # a step's largest tensor, batch x k here, stays within 1 MiB of single precision
        many = [Run(head="linear", loss="kd", seed=s, batch_size=size // t.k) for s in range(40)]
        assert max(map(len, plan(many, splits=[thirds(t.n, 60)], d=1, k=t.k, device="cpu"))) == widest


def test_plan_follows_the_head():
    from w2s_fast.heads.linear import Linear

    class Narrow(Linear):
        max_stack = 2

    t = task()
    runs = [Run(head=Narrow(), loss="kd") for _ in range(5)]
    stacks = plan(runs, splits=[thirds(t.n, 60)], d=t.d, k=t.k, device="cpu")
    assert sorted(map(len, stacks)) == [1, 2, 2]
