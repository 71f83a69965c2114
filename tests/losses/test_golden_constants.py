"""Constants computed from the published formulae by independent code (natural logarithms)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from golden import batch, slope, value

from w2s_fast.losses import make

A = ([[2.0, 0.0]], [[0.0, 1.0]])
B = ([[2.0, 1.0, 0.0]], [[1.0, 2.0, 0.0]])
CLOSE = 6e-9


def close(number):
    return pytest.approx(number, abs=CLOSE)


def test_cross_entropies_and_kl():
    assert value("ce", *A) == [close(2.12692801)]
    assert value("ce_soft", *A) == [close(1.58904517)]
    assert value("kd", *A) == [close(1.00684206)]
    assert value("ce_soft", *A)[0] - value("kd", *A)[0] == close(0.58220311)


@pytest.mark.parametrize(("t", "expected"), [(2, 1.09149480), (4, 1.11631904), (1e4, 1.125)])
def test_kd_with_temperature(t, expected):
    found = value(f"kd(tau_w={t}, tau_s={t}, tau2=True)", *A)[0]
    assert found == pytest.approx(expected, abs=CLOSE if t < 100 else 1e-6)


def test_kd_of_equal_distributions_is_zero():
    z = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (1, 3):
        spec = f"kd(tau_w={t}, tau_s={t})"
        assert value(spec, z, z + 7.5) == pytest.approx([0.0] * 4, abs=1e-14)
        assert slope(spec, z, z + 7.5).abs().max() < 1e-14
    w = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert value("kd", z + 3.0, w - 2.0) == pytest.approx(value("kd", z, w), abs=1e-13)


@pytest.mark.parametrize("t", [1.0, 4.0, 10.0, 1e5])
def test_kd_gradient_is_t_times_the_difference(t):
    z, w = torch.tensor(B[0], dtype=torch.float64), torch.tensor(B[1], dtype=torch.float64)
    found = slope(f"kd(tau_w={t}, tau_s={t}, tau2=True)", z, w)
    expected = t * ((z / t).softmax(-1) - (w / t).softmax(-1))
    assert torch.allclose(found, expected, atol=1e-12)
    if t == 1e5:
        d = z - w
        assert torch.allclose(found, (d - d.mean()) / 3, atol=1e-4)


def beta(z, weak, t):
    """The weight that adapt_conf gives the student's own label, read off its value."""
    own = value("ce", z, z)[0]
    soft = value("kd", z, weak)[0]
    return (value(f"adapt_conf(T={t})", z, weak)[0] - soft) / (own - soft)


@pytest.mark.parametrize(("t", "b"), [(0.5, 0.01798621), (1, 0.11920292), (4, 0.37754067)])
def test_adapt_conf_weight(t, b):
    assert beta(*A, t) == pytest.approx(b, abs=2e-8)


def test_adapt_conf_values():
    assert value("adapt_conf", *A) == [close(0.99101574)]
    assert value("adapt_conf(T=1)", *A) == [close(0.90195373)]
    assert value("adapt_conf(T=4)", *A) == [close(0.67463872)]
    assert value("adapt_conf", *B) == [close(0.37038617 + 0.04858782)]
    assert beta(*B, 0.5) == pytest.approx(0.11920292, abs=2e-8)


def test_aux_conf_argmax_value():
    found = value("aux_conf_argmax(alpha=.5, warmup=0)", *A)[0]
    assert found - 0.5 * 0.58220311 == pytest.approx(0.56688504, abs=1e-8)
    assert found == pytest.approx(0.5 * 1.58904517 + 0.06346401, abs=1e-8)


def test_adapt_conf_weight_is_half_on_agreement_and_falls_with_the_margin():
    assert beta([[2.0, 0.0]], [[1.0, 0.5]], 0.5) == pytest.approx(0.5, abs=1e-12)
    margins = [0.0, 0.1, 0.5, 1.0, 2.0, 5.0]
    found = [beta([[m, 0.0]], [[0.0, 3.0]], 1.0) for m in margins]
    assert all(a > b for a, b in itertools.pairwise(found))
    assert max(found) <= 0.5 + 1e-12


def test_no_gradient_flows_through_the_weight():
    z = torch.tensor(A[0], dtype=torch.float64, requires_grad=True)
    weak = torch.tensor(A[1], dtype=torch.float64)
    with_flow = torch.sigmoid((z[:, 1] - z[:, 0]) / 0.5)
    kl = (weak.softmax(-1) * (weak.log_softmax(-1) - z.log_softmax(-1))).sum(-1)
    total = (1 - with_flow) * kl - with_flow * z.log_softmax(-1)[:, 0]
    (flowing,) = torch.autograd.grad(total.sum(), z)
    b = with_flow.detach()
    expected = z.softmax(-1) - (1 - b) * weak.softmax(-1) - b * torch.tensor([[1.0, 0.0]])
    found = slope("adapt_conf", *A)
    assert torch.allclose(found, expected.detach(), atol=1e-12)
    assert (found - flowing).abs().max() > 1e-3


def test_limits_of_adapt_conf():
    z = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
    w = torch.tensor([[0.0, 2.0, 1.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    hot = slope("adapt_conf(T=1e9)", z, w)
    assert torch.allclose(hot, slope("aux_conf_argmax(alpha=.5, warmup=0)", z, w), atol=1e-8)
    cold, kd = slope("adapt_conf(T=1e-3)", z, w), slope("kd", z, w)
    assert torch.allclose(cold[0], kd[0], atol=1e-12), "a confident disagreement is plain distillation"
    assert torch.allclose(cold[1], slope("aux_conf_argmax(alpha=.5, warmup=0)", z, w)[1], atol=1e-12)


def test_adapt_conf_is_finite_where_exponentials_are_not():
    g = torch.Generator().manual_seed(0)
    z = 1e4 * torch.randn(3, 8142, dtype=torch.float64, generator=g)
    w = torch.randn(3, 8142, dtype=torch.float64, generator=g)
    assert all(math.isfinite(v) for v in value("adapt_conf(T=.1)", z, w))
    assert slope("adapt_conf(T=.1)", z, w).isfinite().all()


@pytest.mark.parametrize(
    ("epoch", "a"), [(0, 0.0), (1, 0.00694444), (36, 0.25), (71, 0.49305556), (72, 0.5), (239, 0.5)]
)
def test_alpha_schedule(epoch, a):
    z, w = A
    soft, own = value("ce_soft", z, w)[0], value("ce", z, z)[0]
    found = value("aux_conf_argmax(alpha=.5, warmup=.3)", z, w, epoch / 240)[0]
    assert (found - soft) / (own - soft) == pytest.approx(a, abs=1e-8)


@pytest.mark.parametrize(("epoch", "part"), [(1, 0.2), (2, 0.4), (3, 0.6), (4, 0.8), (5, 1.0), (20, 1.0)])
def test_ramp_of_adapt_conf(epoch, part):
    z, w = A
    soft, own = value("kd", z, w)[0], value("ce", z, z)[0]
    found = value("adapt_conf(T=1, ramp=.25)", z, w, epoch / 20)[0]
    assert (found - soft) / (own - soft) == pytest.approx(part * 0.11920292, abs=1e-8)


@pytest.mark.parametrize(
    ("t", "expected"), [(0.0, 0.65261664), (0.05, 0.56421277), (0.1, 0.47580890), (0.2, 0.47580890)]
)
def test_logconf_of_two_classes(t, expected):
    """OpenAI's rule with the fixed warm-up, over 10 % of the steps."""
    p = torch.tensor([0.9, 0.6, 0.3, 0.2], dtype=torch.float64)
    w = torch.tensor([0.8, 0.4, 0.7, 0.1], dtype=torch.float64)
    z, weak = torch.stack([p, 1 - p], 1).log(), torch.stack([w, 1 - w], 1).log()
    found = value("aux_conf(alpha=.5, warmup=.1)", z, weak, t)
    assert sum(found) / 4 == pytest.approx(expected, abs=1e-8)


def test_label_smoothing():
    assert value("ce(label_smoothing=.1)", [[2.0, 1.0, 0.0]], [[9.0, 1.0, 0.0]]) == [close(0.50760596)]


def test_brier():
    """By hand: softmax([0, 1]) = (.26894142, .73105858), so ((2 - .26894142)^2 + .73105858^2) / 2."""
    assert value("brier", *A) == [close(1.76550522)]
    assert value("brier(tau_s=2)", *A) == [close(0.53444665)]
    assert slope("brier(tau_s=2)", *A)[0].tolist() == [close(0.36552929), close(-0.36552929)]


def test_verified_metadata_is_there():
    for name in ("ce", "kd", "aux_conf", "adapt_conf"):
        assert make(name).verified and make(name).source and make(name).equation
    assert make("cpl").default_head == "prototype(init='text')"
    assert batch([[0.0, 1.0]]).t.shape == (1, 1)
