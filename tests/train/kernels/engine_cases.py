"""Whole fits by the kernels against whole fits by torch; run by test_kernels_interpreted.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cpu_tape import READS_HOST
from torch.utils._python_dispatch import TorchDispatchMode

from w2s_fast.core.errors import UsageError
from w2s_fast.train import Run, Supervision, fit_heads, fused

sys.path.insert(0, str(Path(__file__).parents[1]))
from tasks import task, thirds

LOSSES = ["ce(label_smoothing=.1)", "kd(tau_w=2)", "aux_conf_argmax", "aux_conf(alpha=.7)", "adapt_conf(T=.4)", "gce"]


def fits(t, runs, *, kernels, precision="fp32"):
    weight = torch.linspace(0.2, 2, t.n)
    supervisions = [
        Supervision(weak=t.weak, labels=t.y, weight=weight),
        Supervision(weak=-t.weak, labels=t.y, weight=weight),
    ]
    found = fit_heads(
        t.x,
        runs,
        splits=[thirds(t.n, 44), thirds(t.n, 21)],
        supervisions=supervisions,
        start=t.start,
        truth=t.y,
        kernels=kernels,
        precision=precision,
        selections=["last", "weak_val"],
    )
    return sorted(found, key=lambda f: f.index)


def runs(head, solver, **more):
    """Losses, seeds, splits, supervisions and numbers mixed in one stack; one run ends before the others."""
    return [
        Run(
            head=head,
            loss=loss,
            solver=solver,
            seed=i,
            split=i % 2,
            supervision=(i + 1) % 2,
            lr=0.01 * (i + 1),
            weight_decay=0.01 * i,
            w_gt=0.3 * (i % 2),
            batch_size=16,
            epochs=1 + (i > 0),
            **more,
        )
        for i, loss in enumerate(LOSSES)
    ]


def differences(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.status == b.status == "ok"
        assert a.resolved["kernels"] == "triton" and b.resolved["kernels"] == "torch"
        np.testing.assert_allclose(a.curves["loss"], b.curves["loss"], rtol=2e-6, atol=2e-6)
        for selection, theta in b.theta.items():
            for name, p in theta.items():
                assert a.theta[selection][name].shape == p.shape
                yield float((a.theta[selection][name] - p).norm() / p.norm().clamp_min(1e-3))


@pytest.mark.parametrize(("head", "solver"), [("linear", "adamw"), ("prototype", "adam"), ("prototype", "sgd")])
def test_a_mixed_stack_equals_torch(head, solver):
    t = task()
    asked = runs(head, solver)
    assert max(differences(fits(t, asked, kernels="triton"), fits(t, asked, kernels="torch"))) < 2e-6


class NoHostReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in READS_HOST), func
        return func(*args, **(kwargs or {}))


class Replays:
    """What a CUDA graph does, by calling the work again: on the same buffers, without reading the device."""

    def __init__(self):
        self.replays = 0

    def warm(self, work):
        return work()

    def capture(self, work):
        out = torch.empty(0)

        def replay():
            self.replays += 1
            with NoHostReads():
                fresh = work()
            out.resize_(fresh.shape).copy_(fresh)

        return out, replay


def test_epochs_are_replayed_without_reading_the_device(monkeypatch):
    t, made = task(), []

    class Recorded(fused.Fused):
        def __init__(self, live):
            made.append(Replays())
            super().__init__(live, made[-1])

    asked = [Run(head="linear", loss=x, batch_size=16, epochs=3) for x in ("kd", "aux_conf", "adapt_conf")]
    plain = fits(t, asked, kernels="torch")
    monkeypatch.setattr(fused, "Fused", Recorded)
    assert max(differences(fits(t, asked, kernels="triton"), plain)) < 2e-6
    assert [m.replays for m in made] == [2]


def test_reduced_operands():
    t = task()
    asked = [Run(head=h, loss="kd", batch_size=16, epochs=1) for h in ("linear", "prototype")]
    found, wanted = (fits(t, asked, kernels=k, precision="bf16") for k in ("triton", "torch"))
    exact = fits(t, asked, kernels="torch")
    for a, b, c in zip(found, wanted, exact, strict=True):
        # operands have eight bits in both, products too in torch on a CPU
        for name, p in c.theta["last"].items():
            assert 0 < float((a.theta["last"][name] - p).norm() / p.norm()) < 0.02
            assert float((a.theta["last"][name] - b.theta["last"][name]).norm() / p.norm()) < 0.02


def test_what_has_no_kernel_is_left_to_torch():
    t = task()
    asked = [Run(head="linear", loss=lambda z, weak, batch: -(weak.probs * z.log_softmax(-1)).sum(-1), epochs=1)]
    (one,) = fits(t, asked, kernels="triton")
    assert one.resolved["kernels"] == "torch"
    with pytest.raises(UsageError, match="kernels 'cuda' is not one of"):
        fits(t, asked, kernels="cuda")
