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
