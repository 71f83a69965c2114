"""The same code on a GPU, where stacks mix splits and seeds."""

from __future__ import annotations

import pytest
import torch
from naive import gap
from tasks import task, thirds
from test_engine_gate import grid

from w2s_fast.train import Run, fit_heads, plan

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_equals_the_cpu_in_double_precision():
    t = task()
    runs, splits, sups = grid(t)
    found = {}
    for device in ("cpu", "cuda"):
        fits = fit_heads(
            t.x,
            runs,
            splits=splits,
            supervisions=sups,
            start=t.start,
            truth=t.y,
            device=device,
            precision="fp64",
            selections=["last"],
        )
        found[device] = {f.index: {n: p.cpu() for n, p in f.theta["last"].items()} for f in fits}
    bad = {str(runs[i]): gap(p, found["cpu"][i]) for i, p in found["cuda"].items() if gap(p, found["cpu"][i]) > 1e-10}
    assert not bad


def test_stacks_are_wide():
    t = task()
    runs = [Run(head="linear", loss="kd", seed=s, split=s % 2) for s in range(200)]
    assert [len(s) for s in plan(runs, splits=[thirds(t.n, 60)] * 2, d=t.d, k=t.k, device="cuda")] == [128, 72]


@pytest.mark.parametrize("head", ["linear", "prototype"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_kernels_in_a_graph_equal_torch(head, precision):
    t = task(n=1200, k=37, d=64)
    losses = ["ce", "kd", "cpl", "aux_conf_argmax", "aux_conf", "adapt_conf", "reverse_kl", "gce"]
    runs = [
        Run(head=head, loss=x, seed=s, split=s % 2, lr=0.01, batch_size=128, epochs=4) for x in losses for s in range(3)
    ]
    found = {}
    for kernels in ("triton", "torch"):
        fits = fit_heads(
            t.x,
            runs,
            splits=[thirds(t.n, 700), thirds(t.n, 650)],
            supervisions=[t.sup],
            start=t.start,
            truth=t.y,
            device="cuda",
            precision=precision,
            kernels=kernels,
        )
        found[kernels] = {f.index: f for f in fits}
    assert {f.resolved["kernels"] for f in found["triton"].values()} == {"triton"}
    for i, one in found["triton"].items():
        other = found["torch"][i]
        if precision == "fp32" and runs[i].loss not in ("aux_conf", "aux_conf_argmax", "adapt_conf"):
            assert gap(one.theta["last"], other.theta["last"]) < 1e-4, runs[i]
        assert abs(one.curves["acc_test"][-1] - other.curves["acc_test"][-1]) < 0.02, runs[i]


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_run_that_diverges_in_a_graph_leaves_the_others_as_they_are(head):
    """It leaves after the first epoch or in a replayed one, and the rest go on in a graph of their own."""
    t = task(n=1200, k=37, d=64)
    good = [Run(head=head, loss="kd", seed=s, split=s % 2, lr=0.01, batch_size=128, epochs=5) for s in range(3)]
    wild = [Run(head=head, loss="kd", seed=9, lr=lr, batch_size=128, epochs=5) for lr in (1e38, 1e19)]
    given = {"splits": [thirds(t.n, 700), thirds(t.n, 650)], "supervisions": [t.sup], "start": t.start, "truth": t.y}
    alone, beside = ({f.index: f for f in fit_heads(t.x, r, device="cuda", **given)} for r in (good, good + wild))
    assert [beside[i].status for i in range(3)] == ["ok"] * 3 and beside[3].status == "diverged"
    for i in range(3):
        assert gap(beside[i].theta["last"], alone[i].theta["last"]) < 1e-5
