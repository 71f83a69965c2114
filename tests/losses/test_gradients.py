"""Closed-form gradients against autograd of the value, with and without a lead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.errors import TrainError
from w2s_fast.losses import LOSSES, Batch, make, names, stack

SPECS = [
    "ce",
    "ce(label_smoothing=.2)",
    "ce_soft(tau_w=3)",
    "kd",
    "kd(tau_s=.05, tau_w=.5)",
    "kd(tau_s=4, tau_w=4, tau2=True)",
    "cpl",
    "aux_conf",
    "aux_conf(balance_to='uniform', warmup=0)",
    "aux_conf_argmax(tau_s=.3)",
    "adapt_conf",
    "adapt_conf(T=4, kd_t=3, ramp=.9, tau_s=.5)",
    "adapt_conf(flip=True)",
    "reverse_kl(tau_s=2)",
    "reverse_kl(eps=1e-3)",
    "gce",
    "gce(q=.1, tau_s=.5)",
    "brier",
    "brier(tau_s=.5, tau_w=2)",
]


def test_every_loss_of_the_table_is_checked():
    assert {s.partition("(")[0] for s in SPECS} == set(LOSSES) == set(names())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    lead=st.sampled_from([(), (1,), (3,)]),
    b=st.integers(1, 6),
    k=st.integers(1, 6),
    t=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("spec", SPECS)
def test_gradient_is_that_of_the_value(spec, lead, b, k, t, seed):
    g = torch.Generator().manual_seed(seed)
    z, weak = (2 * torch.randn(*lead, b, k, dtype=torch.float64, generator=g) for _ in range(2))
    valid = None if seed % 3 else torch.rand(*lead, b, generator=g) < 0.7
    batch = Batch(weak=weak, t=torch.full((*lead, 1, 1), t, dtype=torch.float64), valid=valid)
    loss = make(spec)
    value, dz = loss.value_and_dz(z, batch)
    assert value.shape == z.shape[:-1] and dz.shape == z.shape
    assert not value.requires_grad and not dz.requires_grad

    leaf = z.clone().requires_grad_(True)
    again = loss.value(leaf, batch)
    assert torch.allclose(value, again, atol=1e-12)
    (expected,) = torch.autograd.grad(again.sum(), leaf)
    tau = loss.tau_s or 1.0
    assert torch.allclose(dz, expected, atol=1e-11 / tau)


@pytest.mark.parametrize("spec", ["ce", "kd(tau_s=.7)", "reverse_kl", "gce", "ce_soft", "brier(tau_s=.7)"])
def test_gradient_is_that_of_finite_differences(spec):
    g = torch.Generator().manual_seed(0)
    z, weak = (torch.randn(3, 5, dtype=torch.float64, generator=g) for _ in range(2))
    batch = Batch(weak=weak, t=torch.zeros(1, 1, dtype=torch.float64))
    loss = make(spec)
    dz = loss.value_and_dz(z, batch)[1]
    for i in range(3):
        for c in range(5):
            step = torch.zeros_like(z)
            step[i, c] = 1e-6
            slope = (loss.value(z + step, batch) - loss.value(z - step, batch)).sum() / 2e-6
            assert float(slope) == pytest.approx(float(dz[i, c]), abs=1e-7)


STACKS = [
    ["kd", "kd(tau_s=.05)", "kd(tau_w=3, tau_s=2)"],
    ["kd(tau_s=2, tau2=True)", "kd(tau_s=3, tau2=True)", "kd(tau_s=1, tau2=True)"],
    ["ce", "ce(label_smoothing=.1)", "ce(label_smoothing=.5, tau_s=.2)"],
    ["aux_conf(alpha=.1)", "aux_conf(warmup=0)", "aux_conf(alpha=.9, warmup=.7, tau_s=.1)"],
    ["adapt_conf", "adapt_conf(T=4, kd_t=3)", "adapt_conf(ramp=.5)"],
    ["gce", "gce(q=.1)", "gce(q=1, tau_w=3)"],
    ["reverse_kl", "reverse_kl(eps=1e-2)", "reverse_kl(tau_w=4)"],
    ["brier", "brier(tau_w=3)", "brier(tau_s=.5)"],
]


@pytest.mark.parametrize("specs", STACKS, ids=lambda s: s[0])
@pytest.mark.parametrize("t", [0.0, 0.4])
def test_a_stack_is_its_losses(specs, t):
    g = torch.Generator().manual_seed(2)
    z, weak = (torch.randn(3, 5, 4, dtype=torch.float64, generator=g) for _ in range(2))
    losses = [make(s) for s in specs]
    losses = [replace(one, tau_s=one.tau_s or 1.0) for one in losses]
    batch = Batch(weak=weak, t=torch.full((3, 1, 1), t, dtype=torch.float64))
    value, dz = stack(losses, dtype=torch.float64, device="cpu").value_and_dz(z, batch)
    for r, loss in enumerate(losses):
        one, slope = loss.value_and_dz(z[r], batch.run(r))
        assert torch.allclose(value[r], one, atol=1e-12)
        assert torch.allclose(dz[r], slope, atol=1e-12)


def test_unlike_losses_do_not_stack():
    for pair in (
        ["kd", "ce"],
        ["kd", "kd(tau2=True)"],
        ["kd", "kd(tau_s=1)"],
        ["aux_conf", "aux_conf(harden='argmax')"],
    ):
        with pytest.raises(TrainError):
            stack([make(s) for s in pair], dtype=torch.float64, device="cpu")
