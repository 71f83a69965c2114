"""Closed-form gradients against autograd of the value, with and without a lead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import LOSSES as NAIVE

from w2s_fast.core.errors import TrainError
from w2s_fast.core.specs import parse
from w2s_fast.losses import LOSSES, Batch, make, names, stack

SPECS = [
    "ce",
    "ce_hard",
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
    "adapt_conf(beta=.5)",
    "adapt_conf(beta=.3, kd_t=2, ramp=.6, flip=True)",
    "aux_conf_argmax(legacy_warmup=True, warmup=.4)",
    "logconf_eleuther",
    "entropy_reg(tau_s=.3)",
    "entropy_reg(lam=-2)",
    "window",
    "window(r=.4, tau_w=3)",
    "product",
    "product(a=.5, b=2, warmup=.9, tau_s=.3)",
    "prior_product",
    "prior_product(a=2, tau_w=.5)",
    "prior_anchor",
    "prior_anchor(lam=3, tau_s=.2)",
    "reverse_ce(tau_s=.5)",
    "js",
    "js(pi=.1, tau_s=.3)",
    "jeffreys(tau_w=2)",
    "hellinger(tau_s=.3)",
    "tv",
    "chi2",
    "chi2(eps=.1, tau_s=3)",
    "sce",
    "sce(a=2, tau_s=.3)",
    "edl",
    "edl(gamma=.1, lam=2, tau_s=.5)",
    "raven",
    "raven(base='adapt_conf(T=2)', tau_s=.5, tau_w=2)",
    "raven(base='reverse_kl')",
    "dkd",
    "dkd(alpha=3, beta=.5, T=4, tau_s=.3)",
    "dkd(target='weak', tau_w=2)",
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
    prior = torch.randn(*lead, b, k, dtype=torch.float64, generator=g).log_softmax(-1)
    labels = torch.randint(-1, k, (*lead, b), generator=g)
    when = torch.full((*lead, 1, 1), t, dtype=torch.float64)
    batch = Batch(weak=weak, t=when, valid=valid, prior=prior, labels=labels)
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

    if lead == () and valid is None:
        told = loss_arguments(spec)
        leaf = z.clone().requires_grad_(True)
        plain = NAIVE[spec.partition("(")[0]](leaf / tau, weak, t, prior=prior, labels=labels, **told)
        (expected,) = torch.autograd.grad(plain.sum(), leaf)
        assert torch.allclose(value, plain, atol=1e-10), "a value written elsewhere, by other means"
        assert torch.allclose(dz, expected, atol=1e-10 / tau)


def loss_arguments(spec):
    """What the spec sets, and tau_s, for the naive loss of that name."""
    loss, given = make(spec), parse(spec).args
    return {"tau_s": loss.tau_s or 1.0, **{name: value for name, value in given.items() if name != "tau_s"}}


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
    ["adapt_conf(beta=.1)", "adapt_conf(beta=.5, ramp=.5)", "adapt_conf(beta=1, kd_t=2)"],
    [
        "aux_conf(legacy_warmup=True)",
        "aux_conf(legacy_warmup=True, warmup=.5)",
        "aux_conf(legacy_warmup=True, alpha=1)",
    ],
    ["logconf_eleuther", "logconf_eleuther(alpha=.9, warmup=0)", "logconf_eleuther(warmup=.6, tau_w=3)"],
    ["entropy_reg", "entropy_reg(lam=2)", "entropy_reg(lam=-.5, tau_s=.3)"],
    ["window", "window(tau_w=2)", "window(r=.3, tau_s=.2)"],
    ["product", "product(a=2)", "product(b=.3, warmup=.7)"],
    ["prior_product", "prior_product(a=2)", "prior_product(b=0, tau_w=3)"],
    ["prior_anchor", "prior_anchor(lam=0)", "prior_anchor(lam=2, tau_w=3)"],
    ["reverse_ce", "reverse_ce(eps=.1)", "reverse_ce(tau_w=4)"],
    ["js", "js(pi=.1)", "js(pi=.9, tau_w=3)"],
    ["jeffreys", "jeffreys(tau_w=3)", "jeffreys(tau_s=.3)"],
    ["hellinger", "hellinger(tau_w=3)", "hellinger(tau_s=.3)"],
    ["tv", "tv(tau_w=3)", "tv(tau_s=.3)"],
    ["chi2", "chi2(eps=.2)", "chi2(tau_w=3, tau_s=.3)"],
    ["sce", "sce(eps=.1)", "sce(tau_w=3)"],
    ["sce(a=1, b=2)", "sce(a=2, b=0)", "sce(a=.5, b=.5, tau_s=.2)"],
    ["edl", "edl(gamma=.9)", "edl(lam=3, tau_s=.2)"],
    ["raven", "raven(agree=.5)", "raven(lr_v=.1, tau_s=.2, tau_w=3)"],
    ["dkd", "dkd(alpha=3, T=4)", "dkd(beta=.1, tau_w=3, tau_s=.3)"],
]


def test_every_loss_with_numbers_is_stacked():
    assert {s.partition("(")[0] for specs in STACKS for s in specs} >= set(LOSSES) - {"ce_hard", "ce_soft", "cpl"} - {
        "aux_conf_argmax"
    }


@pytest.mark.parametrize("specs", STACKS, ids=lambda s: s[0])
@pytest.mark.parametrize("t", [0.0, 0.4])
def test_a_stack_is_its_losses(specs, t):
    g = torch.Generator().manual_seed(2)
    z, weak = (torch.randn(3, 5, 4, dtype=torch.float64, generator=g) for _ in range(2))
    losses = [make(s) for s in specs]
    losses = [replace(one, tau_s=one.tau_s or 1.0) for one in losses]
    prior = torch.randn(3, 5, 4, dtype=torch.float64, generator=g).log_softmax(-1)
    labels = torch.randint(-1, 4, (3, 5), generator=g)
    batch = Batch(weak=weak, t=torch.full((3, 1, 1), t, dtype=torch.float64), prior=prior, labels=labels)
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
        ["adapt_conf", "adapt_conf(beta=.5)"],
        ["sce", "sce(a=1)"],
        ["dkd", "dkd(target='weak')"],
    ):
        with pytest.raises(TrainError):
            stack([make(s) for s in pair], dtype=torch.float64, device="cpu")
