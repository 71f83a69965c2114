"""What must hold between the losses beyond the papers', and for every loss of the table."""

from __future__ import annotations

import math

import pytest
import torch
from golden import slope, value

from w2s_fast.losses import LOSSES, Batch, make

G = torch.Generator().manual_seed(11)
Z = 2 * torch.randn(40, 7, dtype=torch.float64, generator=G)
W = 2 * torch.randn(40, 7, dtype=torch.float64, generator=G)
MORE = {"prior": W.log_softmax(-1).flip(-1), "labels": torch.arange(40) % 8 - 1}
DISTANCES = ["js", "js(pi=.2)", "jeffreys", "hellinger", "tv", "chi2"]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_permuting_classes_changes_nothing(name):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    moved = {"prior": MORE["prior"][:, order], "labels": place[MORE["labels"]]}
    found = value(name, Z[:, order], W[:, order], 0.6, **moved)
    assert found == pytest.approx(value(name, Z, W, 0.6, **MORE), abs=1e-9)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_duplicating_the_batch_changes_nothing(name):
    """But for the quantile of `window`, which is interpolated."""
    once = value(name, Z, W, 0.5, **MORE)
    twice = value(name, Z.repeat(2, 1), W.repeat(2, 1), 0.5, **{n: torch.cat([x, x]) for n, x in MORE.items()})
    assert twice == pytest.approx(once + once, abs=1e-12)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"brier", "edl"}))
def test_a_constant_in_the_logits_changes_nothing(name):
    assert value(name, Z + 3.0, W - 2.0, 0.6, **MORE) == pytest.approx(value(name, Z, W, 0.6, **MORE), abs=1e-9)


@pytest.mark.parametrize("name", [*sorted(LOSSES), "adapt_conf(kd_t=3)", "dkd(T=3)"])
def test_temperatures_divide_logits(name):
    stem, _, given = name.rstrip(")").partition("(")
    hot = f"{stem}({given + ', ' if given else ''}tau_s=.5, tau_w=2)"
    assert value(hot, Z, W, 0.6, **MORE) == pytest.approx(value(name, 2 * Z, W / 2, 0.6, **MORE), abs=1e-9)


def test_a_buffer_is_a_longer_batch():
    """Rows that are held count like rows that are there, in the mean weak label and in the hardening."""
    weak = W + torch.linspace(8.0, 0.0, 7, dtype=torch.float64)
    loss = make("logconf_eleuther(alpha=.8, warmup=0, buffer=30)")
    held = loss.memory((), 7, 1, dtype=torch.float64, device=torch.device("cpu"))
    t = torch.zeros(1, 1, dtype=torch.float64)
    loss.step(held, {}, Z[:30], Batch(weak=weak[:30], t=t, memory=held))
    found = loss.value(Z[30:], Batch(weak=weak[30:], t=t, memory=held))
    assert found.tolist() == pytest.approx(value("logconf_eleuther(alpha=.8, warmup=0)", Z, weak)[30:], abs=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_divergences_vanish_only_where_distributions_agree(name):
    assert max(map(abs, value(name, W, W))) < 1e-12
    assert min(value(name, Z, W)) > 1e-3
    if name != "tv":
        assert slope(name, W + 5.0, W).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["js", "jeffreys", "hellinger", "tv"])
def test_symmetric_divergences(name):
    assert value(name, Z, W) == pytest.approx(value(name, W, Z), abs=1e-12)


def test_a_skewed_jensen_shannon_is_not_symmetric():
    skew = value("js(pi=.2)", Z, W)
    assert skew == pytest.approx(value("js(pi=.8)", W, Z), abs=1e-12)
    assert skew != pytest.approx(value("js(pi=.2)", W, Z), abs=1e-2)


def test_bounds_of_divergences():
    far = 300 * torch.eye(7, dtype=torch.float64)
    other = far.roll(1, 0)
    assert value("js", far, other) == pytest.approx([math.log(2)] * 7, abs=1e-12)
    assert value("tv", far, other) == value("hellinger", far, other) == pytest.approx([1.0] * 7, abs=1e-12)
    assert value("chi2", far, other) == pytest.approx([1 + 1e4] * 7)
    assert value("reverse_ce", far, other) == pytest.approx([-math.log(1e-4)] * 7)
    assert max(value("js", Z, W)) < math.log(2) and max(value("tv", Z, W)) < 1
    for h, tv in zip(value("hellinger", Z, W), value("tv", Z, W), strict=True):
        assert h <= tv <= math.sqrt(2 * h), "Le Cam"


def test_jeffreys_is_both_kullback_leiblers():
    both = [a + b for a, b in zip(value("kd", Z, W), value("kd", W, Z), strict=True)]
    assert value("jeffreys", Z, W) == pytest.approx(both, abs=1e-12)


def test_reverse_kl_is_reverse_cross_entropy_less_entropy():
    z, w = Z[:, :3] / 4, W[:, :3] / 4
    entropy = [a - b for a, b in zip(value("entropy_reg(lam=1)", z, w), value("ce_soft", z, w), strict=True)]
    found = [a - b for a, b in zip(value("reverse_ce", z, w), entropy, strict=True)]
    assert found == pytest.approx(value("reverse_kl", z, w), abs=1e-12), "no weak probability lies under a floor"


@pytest.mark.parametrize("a", [0.5, 1.0, 3.0])
def test_a_product_with_nothing_else_is_distillation_at_another_temperature(a):
    expected = slope(f"kd(tau_w={1 / a})", Z, W)
    assert torch.allclose(slope(f"product(a={a}, b=0)", Z, W), expected, atol=1e-12)
    assert torch.allclose(slope(f"product(a={a}, b=2, warmup=.5)", Z, W, 0.0), expected, atol=1e-12)
    assert torch.allclose(slope(f"prior_product(a={a}, b=0)", Z, W, **MORE), expected, atol=1e-12)


def test_a_product_of_nothing_but_its_own_stands_still():
    assert slope("product(a=0)", Z, W).abs().max() < 1e-12


def test_a_prior_of_the_students_own_leaves_nothing_to_anchor():
    anchored = slope("prior_anchor(lam=7)", Z, W, prior=Z.log_softmax(-1))
    assert torch.allclose(anchored, slope("kd", Z, W), atol=1e-12)
    twice = slope("prior_anchor(lam=1)", Z, W, prior=W.log_softmax(-1))
    assert torch.allclose(twice, 2 * slope("kd", Z, W), atol=1e-12)


def test_entropy_counts_here_and_not_in_eleuthers_option():
    z = Z.clone().requires_grad_(True)
    p, w = z.softmax(-1), W.softmax(-1)
    theirs = -((0.7 * w + 0.3 * p.detach()) * z.log_softmax(-1)).sum()
    (detached,) = torch.autograd.grad(theirs, z)
    assert torch.allclose(detached, 0.7 * slope("kd", Z, W), atol=1e-12), "a detached target only shrinks the step"
    found = slope("entropy_reg(lam=.3)", Z, W) - slope("kd", Z, W)
    (entropy,) = torch.autograd.grad(torch.distributions.Categorical(logits=z).entropy().sum(), z)
    assert torch.allclose(found, 0.3 * entropy, atol=1e-12) and found.abs().max() > 1e-2


def test_a_fixed_beta_of_one_half_is_aux_conf_by_argmax():
    expected = slope("aux_conf_argmax(alpha=.5, warmup=0)", Z, W)
    assert torch.allclose(slope("adapt_conf(beta=.5)", Z, W), expected, atol=1e-12)
    assert torch.allclose(slope("adapt_conf(beta=0)", Z, W), slope("kd", Z, W), atol=1e-12)


def test_kd_is_decoupled():
    """T^2 KL = the first term + (1 - w_y) times the second, row by row."""
    labels = torch.arange(40) % 7
    rest = 1 - (W / 3).softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    first = value("dkd(T=3, beta=0)", Z, W, labels=labels)
    second = value("dkd(T=3, alpha=0, beta=1)", Z, W, labels=labels)
    expected = [a + float(r) * b for a, b, r in zip(first, second, rest, strict=True)]
    assert value("kd(tau_s=3, tau_w=3, tau2=True)", Z, W) == pytest.approx(expected, abs=1e-12)
    both = value("dkd(T=3, beta=1)", Z, W, labels=labels)
    assert all(b >= a for a, b in zip(expected, both, strict=True))


def test_symmetric_cross_entropy_has_both_ends():
    assert torch.allclose(slope("sce(a=1, b=0)", Z, W), slope("kd", Z, W), atol=1e-12)
    assert torch.equal(slope("sce(a=0, b=1)", Z, W), slope("reverse_ce", Z, W))


def test_balanced_weak_labels_do_not_see_what_a_teacher_prefers():
    weak = W + torch.tensor([3.0, 0, 0, 0, 0, 0, 0], dtype=torch.float64)
    target = Z.softmax(-1) - slope("logconf_eleuther(alpha=0)", Z, weak)
    assert torch.allclose(target, Z.softmax(-1) - slope("logconf_eleuther(alpha=0)", Z, W), atol=1e-9)
    means = (target.log() - target.log().mean(-1, keepdim=True)).mean(0)
    assert float(means.abs().max()) < 1e-9, "the mean of the logarithms is even"


def test_evidence_is_blind_below_zero_and_to_how_sure_a_teacher_is():
    z = torch.tensor([[-1.0, -5.0, 2.0]], dtype=torch.float64)
    assert value("edl", z, z, 0.5) == value("edl", z - torch.tensor([3.0, 1.0, 0.0]), z, 0.5)
    assert value("edl", z, W[:1, :3], 0.7) == value("edl", z, 9 * W[:1, :3], 0.7)


STEEPEST = {"jeffreys": 3e5, "chi2": 2e4, "reverse_ce": 10, "sce": 12, "reverse_kl": 20, "entropy_reg": 1e4, "dkd": 12}
"""The largest slope that a loss may have on the rows below, where it is not some small number: of `dkd` 3 T."""


@pytest.mark.parametrize("name", [*sorted(set(LOSSES) - {"brier"}), "adapt_conf(kd_t=2)", "dkd(T=4)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extreme_logits_stay_finite(name, dtype):
    """A gap of 200, the range of half precision, many classes."""
    k = 8142
    g = torch.Generator().manual_seed(1)
    z = torch.randn(4, k, generator=g).to(dtype)
    z[0, 0], z[0, 1] = 200.0, -200.0
    z[1, :] = torch.linspace(-65504, 65504, k).to(dtype)
    z[2, 5] = 65504.0
    weak = torch.zeros(4, k, dtype=dtype)
    weak[:, 7] = 200.0
    weak[3] = z[1].flip(0)
    prior = weak.float().flip(0).log_softmax(-1)
    batch = Batch(weak=weak, t=torch.full((1, 1), 0.5), prior=prior, labels=torch.tensor([0, 1, 7, -1]))
    found, dz = make(name).value_and_dz(z, batch)
    assert found.isfinite().all() and dz.isfinite().all()
    assert found.dtype == torch.float32, "half precision is raised for the softmax"
    assert dz.abs().max() <= STEEPEST.get(name.partition("(")[0], 4)
    leaf = z.float().requires_grad_(True)
    (slow,) = torch.autograd.grad(make(name).value(leaf, batch).sum(), leaf)
    assert slow.isfinite().all(), "by autograd too, as whole networks are trained"
