"""What must hold between losses."""

from __future__ import annotations

import math

import pytest
import torch
from golden import slope, value

G = torch.Generator().manual_seed(11)
Z = 2 * torch.randn(40, 7, dtype=torch.float64, generator=G)
W = 2 * torch.randn(40, 7, dtype=torch.float64, generator=G)


def test_kd_has_the_gradient_of_soft_cross_entropy():
    for tau in (0.05, 1.0, 3.0):
        a, b = slope(f"kd(tau_s={tau}, tau_w=2)", Z, W), slope(f"ce_soft(tau_s={tau}, tau_w=2)", Z, W)
        assert torch.allclose(a, b, atol=1e-12 / tau)


def test_cpl_is_kd():
    assert value("cpl(tau_s=.05)", Z, W) == value("kd(tau_s=.05)", Z, W)
    assert torch.equal(slope("cpl(tau_s=.05)", Z, W), slope("kd(tau_s=.05)", Z, W))


@pytest.mark.parametrize("name", ["aux_conf(alpha=0)", "aux_conf_argmax(alpha=0)", "aux_conf(alpha=.9, warmup=.5)"])
def test_aux_conf_without_weight_is_kd(name):
    assert torch.allclose(slope(name, Z, W, 0.0), slope("kd", Z, W), atol=1e-12)


def test_kd_and_reverse_kl_vanish_only_where_distributions_agree():
    assert max(map(abs, value("kd", W, W))) < 1e-12
    assert min(value("kd", Z, W)) > 1e-3
    floored = W.softmax(-1).clamp_min(1e-6)
    floored = (floored / floored.sum(-1, keepdim=True)).log()
    assert max(map(abs, value("reverse_kl", floored, W))) < 1e-12
    assert min(value("reverse_kl", Z, W)) > 1e-3


def test_reverse_kl_is_bounded_by_its_floor():
    weak = torch.tensor([[0.0, -1e6]], dtype=torch.float64)
    found = value("reverse_kl(eps=1e-4)", [[-1e6, 0.0]], weak)[0]
    assert found == pytest.approx(-math.log(1e-4 / (1 + 1e-4)), rel=1e-9)


def test_gce_tends_to_cross_entropy():
    for q in (1e-4, 1e-8, 1e-12):
        assert value(f"gce(q={q})", Z, W) == pytest.approx(value("ce", Z, W), rel=30 * q + 1e-10)
    p = Z.softmax(-1).gather(-1, W.argmax(-1, keepdim=True)).squeeze(-1)
    assert value("gce(q=1)", Z, W) == pytest.approx((1 - p).tolist(), abs=1e-12)


def test_flip_turns_only_disagreements():
    agree = Z.argmax(-1) == W.argmax(-1)
    plain, flipped = slope("adapt_conf(T=1)", Z, W), slope("adapt_conf(T=1, flip=True)", Z, W)
    same = (plain - flipped).abs().amax(-1) < 1e-14
    assert torch.equal(same, agree) and 0 < int(agree.sum()) < 40


def test_hard_losses_break_ties_by_the_lowest_class():
    tied = torch.tensor([[0.0, 5.0, 5.0]], dtype=torch.float64)
    z = [[0.3, 0.1, 0.2]]
    assert value("ce", z, tied) == value("ce", z, [[0.0, 1.0, 0.0]])
    assert value("gce", z, tied) == value("gce", z, [[0.0, 1.0, 0.0]])


def test_brier_vanishes_where_logits_are_the_probabilities():
    assert max(value("brier(tau_s=2)", 2 * W.softmax(-1), W)) < 1e-30
    assert value("brier", Z, W) == pytest.approx(
        [
            0.5 * sum((float(a) - float(b)) ** 2 for a, b in zip(z, w.softmax(-1), strict=True))
            for z, w in zip(Z, W, strict=True)
        ]
    )
    assert min(value("brier", W, W)) > 1e-3, "raw logits, not their softmax"
