"""Adam, SGD and unit rows against the engine's solvers and autograd; run by test_kernels_interpreted.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from w2s_fast.heads.head import unit
from w2s_fast.train.kernels import adam
from w2s_fast.train.kernels import unit as unit_rows
from w2s_fast.train.solver import Adam, Solver, make_solver

RUNS, STEPS = 3, 3
ALL = [
    "adam",
    "adam(beta1=.5, beta2=.9, eps=1e-3)",
    "adam(beta1=0, eps=1e-2)",
    "adamw",
    "sgd",
    "sgd(momentum=0)",
    "sgd(momentum=.7, nesterov=True)",
]


def schedule(solver, idle):
    """Hyperparameters f32[R] of every step, and which runs move, for three runs with their own rates and decay."""
    lr = np.linspace(0.01, 0.1, STEPS * RUNS).reshape(STEPS, RUNS)
    active = np.array([[1, s % 2 if idle else 1, s < 2 or not idle] for s in range(STEPS)], np.float64)
    count = np.maximum(active.cumsum(axis=0), 1)
    tables = solver.hyperparameters(lr * active, count, np.array([0.0, 0.1, 0.5]))
    return [
        ({n: torch.tensor(np.ascontiguousarray(x[s])) for n, x in tables.items()}, torch.tensor(active[s]))
        for s in range(STEPS)
    ]


def state_of(solver, p):
    return {slot: torch.zeros_like(p) for slot in solver.slots}


def single(numbers):
    return {name: x.float() for name, x in numbers.items()}


def near(found, wanted):
    return float((found.double() - wanted).abs().max()) <= 2e-6 * float(wanted.abs().max())


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("idle", [False, True])
def test_update_is_the_solvers(spec, idle):
    """The copy is in fp16 here, which numpy rounds as hardware does; of bf16 the interpreter cuts off the tail."""
    g = torch.Generator().manual_seed(0)
    solver = make_solver(spec)
    wanted = torch.randn(RUNS, 4, 30, dtype=torch.float64, generator=g)
    p, copy = wanted.float(), wanted.half()
    state, exact = state_of(solver, p), state_of(solver, wanted)
    for numbers, active in schedule(solver, idle):
        grad = torch.randn(RUNS, 4, 30, dtype=torch.float64, generator=g).bfloat16()
        still = [x.clone() for x in (p, copy, *state.values())]
        solver.update(wanted, grad.double(), exact, numbers, active if idle else None)
        given = grad if idle else grad.float()
        adam.update(solver, p, given, state, single(numbers), active.float() if idle else None, low=copy)
        assert near(p, wanted)
        assert all(near(state[name], exact[name]) for name in state)
        assert torch.equal(copy, p.half())
        for old, new in zip(still, (p, copy, *state.values()), strict=True):
            resting = active == 0
            assert torch.equal(old[resting], new[resting])
            assert not torch.equal(old[~resting], new[~resting])


def test_parameters_longer_than_a_block():
    g = torch.Generator().manual_seed(0)
    solver = make_solver("adam")
    wanted = torch.randn(RUNS, 5, 250, dtype=torch.float64, generator=g)
    p, low = wanted.float(), wanted.bfloat16()
    grad = torch.randn(RUNS, 5, 250, dtype=torch.float64, generator=g)
    numbers, _ = schedule(solver, False)[0]
    state, exact = state_of(solver, p), state_of(solver, wanted)
    solver.update(wanted, grad, exact, numbers, None)
    adam.update(solver, p, grad.float(), state, single(numbers), low=low)
    assert near(p, wanted) and near(state["m"], exact["m"]) and near(state["v"], exact["v"])
    assert float((low.float() / p - 1).abs().max()) < 2**-7


def test_without_decay_nothing_shrinks():
    """What a parameter that decay leaves alone gets: the numbers without l2 and shrink."""
    g = torch.Generator().manual_seed(1)
    for spec in ("adam", "adamw", "sgd"):
        solver = make_solver(spec)
        wanted = torch.randn(RUNS, 5, dtype=torch.float64, generator=g)
        p = wanted.float()
        state, exact = state_of(solver, p), state_of(solver, wanted)
        for numbers, _ in schedule(solver, False):
            grad = torch.randn(RUNS, 5, dtype=torch.float64, generator=g)
            solver.update(wanted, grad, exact, {**numbers, **solver.undecayed}, None)
            adam.update(
                solver, p, grad.float(), state, {n: x for n, x in single(numbers).items() if n in ("move", "root")}
            )
            assert near(p, wanted)


def test_a_diverged_run_leaves_its_neighbours_alone():
    solver = make_solver("adam")
    numbers, _ = schedule(solver, False)[0]
    p, grad = torch.ones(RUNS, 3, 5), torch.ones(RUNS, 3, 5)
    grad[1] = torch.nan
    adam.update(solver, p, grad, state_of(solver, p), single(numbers))
    assert bool(p[1].isnan().all()) and bool(p[[0, 2]].isfinite().all())


def test_subclasses_are_not_served():
    class Mine(Adam):
        pass

    assert all(adam.serves(make_solver(spec)) for spec in ALL)
    assert not adam.serves(Mine()) and not adam.serves(Solver())


def test_what_does_not_fit_is_refused():
    solver = make_solver("adam")
    p = torch.ones(RUNS, 4, 5)
    numbers = {"move": torch.ones(RUNS), "root": torch.ones(RUNS)}
    for grad in (torch.ones(RUNS, 5, 4), torch.ones(RUNS, 5, 4).mT):
        with pytest.raises(ValueError):
            adam.update(solver, p, grad, state_of(solver, p), numbers)
    with pytest.raises(ValueError):
        adam.update(solver, p.double(), p.double(), state_of(solver, p.double()), numbers)
    with pytest.raises(ValueError):
        adam.update(solver, p, p.clone(), state_of(solver, p), {**numbers, "move": torch.ones(2)})


@pytest.mark.parametrize("d", [3, 70])
def test_unit_rows_and_back(d):
    g = torch.Generator().manual_seed(d)
    c = 10 * torch.randn(RUNS, 2, d, dtype=torch.float64, generator=g)
    c[0, 1] *= 1e-6
    dw = torch.randn(RUNS, 2, d, dtype=torch.float64, generator=g)
    leaf = c.clone().requires_grad_(True)
    wanted = unit(leaf)
    (dc,) = torch.autograd.grad(wanted, leaf, dw)
    low = torch.empty(RUNS, 2, d, dtype=torch.float16)
    w = unit_rows.normalise(c.float(), low=low, w=torch.empty(RUNS, 2, d))
    assert near(w, wanted.detach())
    assert torch.equal(low, w.half())
    assert unit_rows.normalise(c.float(), low=torch.empty_like(low)).equal(low)
    found = unit_rows.pull(c.float(), dw.float())
    # short rows have huge gradients: each row by its own size
    size = (dw.abs() / c.norm(dim=-1, keepdim=True)).amax(dim=-1, keepdim=True)
    assert float(((found - dc) / size).abs().max()) < 2e-6


def test_a_zero_row_stays_zero():
    """As heads.prototype clamps the length: w = 0, and the gradient goes through at 1 / 1e-12."""
    c, dw = torch.zeros(1, 2, 5), torch.ones(1, 2, 5)
    assert not unit_rows.normalise(c).any()
    assert unit_rows.pull(c, dw).tolist() == (dw / 1e-12).tolist()


def test_pull_may_overwrite_its_input():
    g = torch.Generator().manual_seed(0)
    c, dw = torch.randn(RUNS, 2, 6, generator=g), torch.randn(RUNS, 2, 6, generator=g)
    wanted = unit_rows.pull(c, dw)
    assert unit_rows.pull(c, dw, out=dw) is dw
    assert torch.equal(dw, wanted)


@pytest.mark.parametrize("spec", ["adam", "adamw", "adam(beta1=.5, beta2=.9, eps=1e-3)"])
@pytest.mark.parametrize("idle", [False, True])
def test_backward_adam_and_forward_in_one_pass(spec, idle):
    g = torch.Generator().manual_seed(4)
    solver = make_solver(spec)
    wanted = 3 * torch.randn(RUNS, 2, 13, dtype=torch.float64, generator=g)
    c = wanted.float()
    state, exact = state_of(solver, c), state_of(solver, wanted)
    w = unit_rows.normalise(c)
    low = w.half()
    for numbers, active in schedule(solver, idle):
        dw = torch.randn(RUNS, 2, 13, dtype=torch.float64, generator=g)
        leaf = wanted.clone().requires_grad_(True)
        (dc,) = torch.autograd.grad(unit(leaf), leaf, dw)
        solver.update(wanted, dc, exact, numbers, active if idle else None)
        unit_rows.step(solver, c, dw.float(), state, single(numbers), active.float() if idle else None, w=w, low=low)
        assert near(c, wanted)
        assert all(near(state[name], exact[name]) for name in state)
        assert near(w, unit(wanted))
        assert torch.equal(low, w.half())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_padding_of_a_row_does_not_enter_its_length():
    """Without eps and second moment Adam divides 0 by 0 beyond d."""
    g = torch.Generator().manual_seed(5)
    solver = make_solver("adam(beta2=0, eps=0)")
    c, dw = torch.randn(RUNS, 1, 13, generator=g), torch.randn(RUNS, 1, 13, generator=g)
    numbers, _ = schedule(solver, False)[0]
    w = torch.empty_like(c)
    unit_rows.step(solver, c, dw, state_of(solver, c), single(numbers), w=w)
    assert near(w, unit(c.double()))


def test_rows_too_long_are_refused():
    with pytest.raises(ValueError, match="use torch"):
        unit_rows.normalise(torch.ones(1, unit_rows.WIDEST + 1))
