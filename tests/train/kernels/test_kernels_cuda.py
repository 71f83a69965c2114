"""The kernels on a real GPU against torch in double precision, at the sizes of the standard task; and real graphs."""

from __future__ import annotations

import pytest
import torch
from row_tasks import THREE, by_torch, off, row_task
from test_epoch_graph import Small, epochs

from w2s_fast.heads.head import unit
from w2s_fast.train.kernels import CudaRecorder, EpochGraph, available
from w2s_fast.train.solver import make_solver

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

RUNS, B, D = 8, 512, 512


@pytest.fixture(autouse=True)
def _kernels_run():
    if not available("cuda"):
        pytest.skip("Triton does not run on this GPU")


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("k", [2, 40, 345, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows(name, k, dtype):
    from w2s_fast.train.kernels.rows import value_and_dz

    t = row_task(name, k=k, b=B, kp=-(-k // 8) * 8, runs=RUNS, device="cuda", table=3000)
    dz = torch.empty_like(t.z, dtype=dtype)
    given = {"k": k, "t": t.t, "inverse": t.inverse, "factor": t.factor, "own": t.own, "dz": dz}
    value, dz = value_and_dz(t.kind, t.numbers, t.z, t.weak, t.rows, **given)
    wanted, slope = by_torch(t)
    single, single_slope = by_torch(t, torch.float32)
    assert bool((dz[..., k:] == 0).all())
    assert off(value, wanted) <= 4 * off(single, wanted) + 4e-6
    rounding = 2**-8 if dtype == torch.bfloat16 else 0
    assert off(dz[..., :k], slope) <= 4 * off(single_slope, slope) + 4e-6 + rounding


@pytest.mark.parametrize("spec", ["adam", "adamw", "sgd(nesterov=True)"])
@pytest.mark.parametrize("k", [345, 1000])
def test_solvers(spec, k):
    from w2s_fast.train.kernels import adam

    g = torch.Generator("cuda").manual_seed(0)
    solver = make_solver(spec)
    wanted = torch.randn(RUNS, k, D, dtype=torch.float64, device="cuda", generator=g)
    p, low = wanted.float(), wanted.bfloat16()
    state = {slot: torch.zeros_like(p) for slot in solver.slots}
    exact = {slot: torch.zeros_like(wanted) for slot in solver.slots}
    active = torch.tensor([1.0, 0.0] * (RUNS // 2), device="cuda")
    for step in range(3):
        grad = torch.randn(RUNS, k, D, dtype=torch.float64, device="cuda", generator=g)
        many = torch.linspace(0.01, 0.1, RUNS, dtype=torch.float64, device="cuda") * active
        numbers = {"move": many, "root": torch.full_like(many, 0.1 * (step + 1)), "l2": many / 2, "shrink": 1 - many}
        solver.update(wanted, grad, exact, numbers, active.double())
        adam.update(solver, p, grad.float(), state, {n: x.float() for n, x in numbers.items()}, active, low=low)
    assert off(p, wanted) < 2e-6
    assert all(off(state[slot], exact[slot]) < 2e-6 for slot in state)
    assert torch.equal(low, p.bfloat16())


@pytest.mark.parametrize("d", [512, 768, 4096])
def test_unit_rows(d):
    from w2s_fast.train.kernels import adam
    from w2s_fast.train.kernels import unit as unit_rows

    g = torch.Generator("cuda").manual_seed(0)
    c = 10 * torch.randn(RUNS, 345, d, dtype=torch.float64, device="cuda", generator=g)
    dw = torch.randn(RUNS, 345, d, dtype=torch.float64, device="cuda", generator=g)
    leaf = c.clone().requires_grad_(True)
    (dc,) = torch.autograd.grad(unit(leaf), leaf, dw)
    low = torch.empty_like(c, dtype=torch.bfloat16)
    w = unit_rows.normalise(c.float(), w=torch.empty_like(c, dtype=torch.float32), low=low)
    assert off(w, unit(c)) < 2e-6
    assert torch.equal(low, w.bfloat16())
    assert off(unit_rows.pull(c.float(), dw.float()), dc) < 4e-6

    solver = make_solver("adam")
    numbers = {"move": torch.full((RUNS,), 0.1, device="cuda"), "root": torch.full((RUNS,), 0.03, device="cuda")}
    ours, theirs = c.float(), c.float()
    states = [{slot: torch.zeros_like(ours) for slot in ("m", "v")} for _ in range(2)]
    unit_rows.step(solver, ours, dw.float(), states[0], numbers, w=w, low=low)
    adam.update(solver, theirs, unit_rows.pull(theirs, dw.float()), states[1], numbers)
    assert off(ours, theirs) < 1e-6
    assert off(w, unit(ours)) < 2e-6
    assert torch.equal(low, w.bfloat16())


def on_gpu(work):
    work.x, work.y, work.w = work.x.cuda(), work.y.cuda(), work.w.cuda()
    work.state = {name: x.cuda() for name, x in work.state.items()}
    return work


class SmallOnGpu(Small):
    """The epoch of the CPU tests; its running total must be where its tensors are."""

    def __call__(self, buffers):
        with torch.device("cuda"):
            return super().__call__(buffers)


def test_replayed_epochs_equal_those_done_step_by_step():
    plain, work = on_gpu(SmallOnGpu()), on_gpu(SmallOnGpu())
    graph = EpochGraph(work, CudaRecorder(torch.device("cuda")), device="cuda")
    for values in epochs(5):
        wanted = plain({name: x.cuda() for name, x in values.items()})
        assert torch.allclose(graph.run(values), wanted, rtol=1e-5)
    assert graph.captured and graph.why is None
    assert work.epochs == 2
    assert torch.allclose(work.w, plain.w, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_captured_says_why_and_still_trains():
    plain, work = on_gpu(SmallOnGpu("item")), on_gpu(SmallOnGpu("item"))
    graph = EpochGraph(work, CudaRecorder(torch.device("cuda")), device="cuda")
    for values in epochs(3):
        wanted = plain({name: x.cuda() for name, x in values.items()})
        assert torch.allclose(graph.run(values), wanted, rtol=1e-5)
    assert not graph.captured and graph.why
