"""Constants of the losses beyond the papers': from the published formulae by hand or plain Python (natural logs)."""

from __future__ import annotations

import math

import pytest
import torch
from golden import slope, value

from w2s_fast.core.errors import TrainError
from w2s_fast.losses import make

A = ([[2.0, 0.0]], [[0.0, 1.0]])
B = ([[2.0, 1.0, 0.0]], [[1.0, 2.0, 0.0]])
P, W = (0.8807970779778823, 0.11920292202211755), (0.2689414213699951, 0.7310585786300049)
"""softmax of A."""
OPENAI_P = torch.tensor([0.9, 0.6, 0.3, 0.2], dtype=torch.float64)
OPENAI_W = torch.tensor([0.8, 0.4, 0.7, 0.1], dtype=torch.float64)


def pairs(p):
    return torch.stack([p, 1 - p], 1).log()


def close(number, tol=6e-9):
    return pytest.approx(number, abs=tol)


def test_ce_hard_is_ce():
    assert value("ce_hard", *A) == value("ce", *A) == [close(2.12692801)]


def test_divergences_by_hand():
    kl = sum(w * math.log(w / p) for p, w in zip(P, W, strict=True))
    reverse = sum(p * math.log(p / w) for p, w in zip(P, W, strict=True))
    assert kl == close(1.00684206) and reverse == close(0.82872491)
    assert value("jeffreys", *A) == [close(kl + reverse)]
    assert value("reverse_ce", *A) == [close(1.19405877)]
    assert value("hellinger", *A) == [close(1 - math.sqrt(P[0] * W[0]) - math.sqrt(P[1] * W[1]))] == [close(0.21809174)]
    assert value("tv", *A) == [close(P[0] - W[0])] == [close(0.61185566)]
    assert value("chi2", *A) == [close((P[0] - W[0]) ** 2 * (1 / W[0] + 1 / W[1]))] == [close(1.90409269)]
    m = [(p + w) / 2 for p, w in zip(P, W, strict=True)]
    half = sum(p * math.log(p / c) + w * math.log(w / c) for p, w, c in zip(P, W, m, strict=True)) / 2
    assert value("js", *A) == [close(half)] == [close(0.20812562)]
    m = [0.3 * w + 0.7 * p for p, w in zip(P, W, strict=True)]
    skew = sum(0.7 * p * math.log(p / c) + 0.3 * w * math.log(w / c) for p, w, c in zip(P, W, m, strict=True))
    assert value("js(pi=.3)", *A) == [close(skew)]


def test_floors():
    sure = [[0.0, -50.0]]
    assert value("reverse_ce", [[-50.0, 0.0]], sure) == [close(-math.log(1e-4))]
    assert value("reverse_ce(eps=.25)", [[0.0, 0.0]], sure) == [close(math.log(4) / 2)]
    assert value("chi2", [[-50.0, 0.0]], sure) == [close(1 + 1e4, 1e-6)]
    assert value("chi2(eps=.5)", [[0.0, 0.0]], sure) == [close(0.25 + 0.5)]
    assert value("jeffreys", [[-50.0, 0.0]], sure) == [close(100.0, 1e-12)], "it has no floor"


def test_product_of_openai():
    assert sum(value("product", pairs(OPENAI_P), pairs(OPENAI_W))) / 4 == close(0.47980950)


def test_products_by_hand():
    """q ~ (.1, .4) and p = w = (.2, .8), prior (.5, .5); then a prior that counts twice."""
    w = [[math.log(0.2), math.log(0.8)]]
    log_p = (math.log(0.2), math.log(0.8))
    prior = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    assert value("prior_product(b=1)", w, w, prior=prior) == [close(-0.2 * log_p[0] - 0.8 * log_p[1])]
    prior = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log()
    assert value("prior_product(b=1)", w, w, prior=prior) == [close(-0.5 * log_p[0] - 0.5 * log_p[1])]
    q = 0.2 * 0.64 / (0.2 * 0.64 + 0.8 * 0.04)
    assert value("prior_product(b=2)", w, w, prior=prior) == [close(-q * log_p[0] - (1 - q) * log_p[1])]
    kl = 0.8 * math.log(4) + 0.2 * math.log(0.25)
    assert value("prior_anchor(lam=.5)", w, w, prior=prior) == [close(0.5 * kl)]


def test_sce_by_the_number_of_classes():
    ce, rce = value("ce_soft", *A)[0], value("reverse_ce", *A)[0]
    assert value("sce", *A) == [close(0.1 * ce + rce)]
    assert value("sce(a=3)", *A) == [close(3 * ce + rce)] and value("sce(b=3)", *A) == [close(0.1 * ce + 3 * rce)]
    g = torch.Generator().manual_seed(0)
    for k, a, b in ((99, 0.1, 1.0), (100, 6.0, 0.1)):
        z, w = (torch.randn(2, k, dtype=torch.float64, generator=g) for _ in range(2))
        parts = zip(value("ce_soft", z, w), value("reverse_ce", z, w), strict=True)
        assert value("sce", z, w) == [close(a * ce + b * rce, 1e-10) for ce, rce in parts]


def test_entropy_by_hand():
    entropy = -sum(p * math.log(p) for p in P)
    assert entropy == close(0.36533386)
    assert value("entropy_reg", *A) == [close(1.58904517 + 0.036533386)]
    assert value("entropy_reg(lam=-1)", *A) == [close(1.58904517 - 0.36533386, 2e-8)]


def test_window_of_two_classes():
    """p = .6 lies below .65 and .7 does not; no row is dropped from the mean."""
    p = torch.tensor([0.6, 0.3, 0.6499, 0.6501], dtype=torch.float64)
    w = torch.full((4,), 0.5, dtype=torch.float64)
    found = value("window", pairs(p), pairs(w))
    assert found[1] == found[3] == 0
    assert found[0] == close(-(math.log(0.6) + math.log(0.4)) / 2) and found[2] > 0
    assert value("window(r=.25)", pairs(p), pairs(w))[1] > 0
    assert value("window(r=0)", pairs(p), pairs(w)) == [0, 0, 0, 0]
    assert value("window(r=0)", [[0.0, 0.0]], [[0.0, 1.0]]) == [0], "below .5 + r, not at it"


def test_window_of_more_classes_is_the_median_of_weak_confidence():
    w = torch.tensor([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.9, 0.05, 0.05]], dtype=torch.float64)
    p = torch.tensor([[0.59, 0.21, 0.2], [0.61, 0.19, 0.2], [0.5, 0.25, 0.25]], dtype=torch.float64)
    found = value("window", p.log(), w.log())
    assert found[0] > 0 == found[1] and found[2] > 0
    interpolated = value("window", p[:2].log(), w[:2].log())
    assert interpolated == [0, 0], "the median of .4 and .6 is .5"
    valid = torch.tensor([True, False, True])
    padded = value("window", p.log(), w.log(), valid=valid)
    assert padded[0] > 0 and padded[1] > 0, "without the padded row the median is .65"


@pytest.mark.parametrize(
    ("t", "expected"), [(0.0, 0.65261664), (0.05, 0.64377625), (0.1, 0.63493586), (0.2, 0.47580890)]
)
def test_logconf_of_openai_with_its_jump(t, expected):
    found = value("aux_conf(alpha=.5, warmup=.1, legacy_warmup=True)", pairs(OPENAI_P), pairs(OPENAI_W), t)
    assert sum(found) / 4 == close(expected, 1e-8)


def test_a_fixed_beta_is_the_control():
    assert value("adapt_conf(beta=.5)", *A) == [close(0.50342103 + 0.06346401, 1e-8)]
    assert value("adapt_conf(beta=0)", *A) == [close(1.00684206)]
    assert value("adapt_conf(beta=1, T=7)", *A) == [close(0.12692801)]
    assert value("adapt_conf(beta=.2, flip=True)", *A) == [close(0.2 * 1.00684206 + 0.8 * 0.12692801)]
    assert value("adapt_conf(beta=.5, ramp=.5)", *A, 0.25) == [close(0.75 * 1.00684206 + 0.25 * 0.12692801)]


def test_logconf_of_eleuther_by_hand():
    """Two classes: log-odds (2, 0, 1) less their mean 1; the student's median is .6, rows from .6 on are class 0."""
    weak = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    p = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    w = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0.5]
    soft = [-a * math.log(b) - (1 - a) * math.log(1 - b) for a, b in zip(w, p.tolist(), strict=True)]
    own = [-math.log(0.7), -math.log(0.6), -math.log(0.9)]
    for t, a in ((0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.9, 0.5)):
        found = value("logconf_eleuther", pairs(p), weak, t)
        assert found == [close((1 - a) * s + a * o) for s, o in zip(soft, own, strict=True)]


def test_logconf_of_eleuther_floors_and_skips_padding():
    weak = torch.tensor([[0.0, -1e4], [0.0, -1e4], [5.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([True, True, False])
    z = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    found = value("logconf_eleuther", z, weak, 0.0, valid=valid)
    assert found[:2] == [close(math.log(1 + math.exp(-1)) + 0.5), close(math.log(2))], "two equal rows become even"
    # a sure row beside an even one: log-odds -log 1e-7 and 0, less their mean
    found = value("logconf_eleuther", [[1.0, 0.0], [1.0, 0.0]], [[0.0, -1e4], [0.0, 0.0]])
    share = 1 / (1 + math.exp(math.log(1e-7) / 2))
    assert found == [close(math.log(1 + math.exp(-1)) + w, 1e-12) for w in (1 - share, share)]


def test_evidence_by_hand():
    """alpha = (3, 1): S = 4. Label 0: log 4/3, no other evidence. Label 1: log 4 and KL(Dir(3, 1), uniform)."""
    kl = math.log(3) + 2 * (1 + 1 / 2 - (1 + 1 / 2 + 1 / 3))  # lgamma and digamma of whole numbers
    assert kl == close(0.43194562)
    for t in (0.0, 0.25):
        teacher, own = math.log(4) + t * kl, math.log(4 / 3)
        assert value("edl", *A, t) == [close(0.5 * teacher + 0.5 * own)]
        assert value("edl(gamma=.2, lam=3)", *A, t) == [close(0.8 * 3 * teacher + 0.2 * own)]
    assert value("edl(tau_s=2)", *A, 0.0) == [close(0.5 * math.log(3) + 0.5 * math.log(3 / 2))]
    both = [[[0.0, 1.0], [5.0, 1.0]]]
    teachers = make("edl").value(torch.tensor(A[0], dtype=torch.float64), _batch(both))
    assert teachers.tolist() == [close(0.5 * (math.log(4) + math.log(4 / 3)) + 0.5 * math.log(4 / 3))]


def _batch(weak):
    from w2s_fast.losses import Batch

    return Batch(weak=torch.tensor(weak, dtype=torch.float64), t=torch.zeros(1, 1, dtype=torch.float64))


Y = torch.tensor([0])


def test_dkd():
    assert value("dkd", *B, labels=Y) == [close(0.50407205)]
    assert value("dkd(beta=0)", *B, labels=Y) == [close(0.36981054)]
    assert value("dkd(alpha=0, beta=1)", *B, labels=Y) == [close(0.06713075)]
    assert value("dkd(T=4, beta=8)", *B, labels=Y) == [close(1.24744729)]
    assert value("dkd(T=4, beta=0)", *B, labels=Y) == [close(0.29035692)]
    assert value("kd", *B) == [close(0.36981054 + (1 - 0.24472847) * 0.06713075)] == [close(0.42051248)]


def test_dkd_of_two_classes_is_kd():
    for y in (0, 1):
        assert value("dkd(beta=5)", *A, labels=torch.tensor([y])) == [close(1.00684206)]
        found = slope("dkd(beta=5, T=3)", *A, labels=torch.tensor([y]))
        assert torch.allclose(found, slope("kd(tau_s=3, tau_w=3, tau2=True)", *A), atol=1e-12)


def test_dkd_targets():
    assert value("dkd(target='weak')", *B) == value("dkd", *B, labels=torch.tensor([1]))
    assert value("dkd(target='weak')", *B) != pytest.approx(value("dkd", *B, labels=Y), abs=1e-3)
    assert value("dkd", *B, labels=torch.tensor([-1])) == [0] and not slope("dkd", *B, labels=torch.tensor([-1])).any()
    assert make("dkd").needs == {"labels"} and make("dkd(target='weak')").needs == frozenset()
    with pytest.raises(TrainError, match=r"dkd needs labels.*dkd\(target='weak'\)"):
        value("dkd", *B)
    for name in ("prior_product", "prior_anchor"):
        with pytest.raises(TrainError, match=rf"{name} needs a prior.*Supervision\(prior="):
            value(name, *B)


def test_dkd_is_finite_where_probabilities_underflow():
    z = torch.tensor([[200.0, 0.0, -200.0]])
    for y in (0, 2):
        found = make("dkd").value_and_dz(z, _single(z.flip(-1), y))
        assert found[0].isfinite().all() and found[1].isfinite().all()
    assert float(make("dkd(beta=0)").value(z, _single(z.flip(-1), 0))) == pytest.approx(200.0)


def _single(weak, y):
    from w2s_fast.losses import Batch

    return Batch(weak=weak, t=torch.zeros(1, 1), labels=torch.tensor([y]))
