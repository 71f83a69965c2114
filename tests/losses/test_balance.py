"""Balanced hardening against slow independent code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.losses import Batch, make
from w2s_fast.losses.balance import harden_balanced, quantile, sinkhorn_offsets, weak_mean


def plain_sinkhorn(p, w):
    """On probabilities, not in log domain; numpy."""
    u, v = np.ones(len(p)), np.ones(p.shape[1])
    for _ in range(10):
        u = 1 / (p @ v)
        v = len(p) * w.mean(0) / (p.T @ u)
    return (p * v).argmax(1), u[:, None] * p * v


def draw(b, k, seed, sharp=1.0):
    g = torch.Generator().manual_seed(seed)
    return tuple((sharp * torch.randn(b, k, dtype=torch.float64, generator=g)).softmax(-1) for _ in range(2))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(b=st.integers(1, 30), k=st.integers(3, 8), seed=st.integers(0, 10_000))
def test_ten_iterations(b, k, seed):
    p, w = draw(b, k, seed)
    expected, plan = plain_sinkhorn(p.numpy(), w.numpy())
    found = harden_balanced(p.log(), w, None, {}, uniform=False)
    assert found.tolist() == expected.tolist()
    assert np.allclose(plan.sum(0), b * w.numpy().mean(0)), "columns come last, so they fit exactly"


def test_nine_or_eleven_iterations_would_be_seen():
    p, w = draw(40, 6, 0, sharp=6.0)
    mean, count = weak_mean(w, None)
    b = sinkhorn_offsets(p.log(), None, mean, count).squeeze(0).numpy()
    u, v, history = np.ones(40), np.ones(6), []
    for _ in range(12):
        u = 1 / (p.numpy() @ v)
        v = 40 * w.numpy().mean(0) / (p.numpy().T @ u)
        history.append(np.log(v))
    assert np.abs(history[9] - b).max() < 1e-9
    assert np.abs(history[8] - b).max() > 1e-6 and np.abs(history[10] - b).max() > 1e-6


@pytest.mark.parametrize("k", [2, 5])
def test_padding_changes_nothing(k):
    p, w = draw(9, k, 3)
    extra_p, extra_w = draw(4, k, 4)
    valid = torch.tensor([True] * 5 + [False] * 2 + [True] * 4 + [False] * 2)
    mixed_p = torch.cat([p[:5], extra_p[:2], p[5:], extra_p[2:]])
    mixed_w = torch.cat([w[:5], extra_w[:2], w[5:], extra_w[2:]])
    alone = harden_balanced(p.log(), w, None, {}, uniform=False)
    found = harden_balanced(mixed_p.log(), mixed_w, valid, {}, uniform=False)
    assert torch.equal(found[valid], alone)
    if k == 5:
        wrong = harden_balanced(mixed_p.log(), mixed_w, None, {}, uniform=False)
        assert not torch.equal(wrong[valid], alone), "the example must be able to fail"


def test_a_class_without_weak_mass_is_never_chosen():
    p, w = draw(30, 4, 5)
    w = w.clone()
    w[:, 2] = 0
    w = w / w.sum(-1, keepdim=True)
    found = harden_balanced(p.log(), w, None, {}, uniform=False)
    assert 2 not in found.tolist() and len(set(found.tolist())) == 3


def test_uniform_target():
    p, w = draw(400, 4, 6, sharp=3.0)
    counts = np.bincount(harden_balanced(p.log(), w, None, {}, uniform=True), minlength=4)
    assert np.abs(counts - 100).max() < 25
    skewed = torch.zeros_like(w) + torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    counts = np.bincount(harden_balanced(p.log(), skewed, None, {}, uniform=False), minlength=4)
    assert counts[0] > 220


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 20), level=st.floats(0, 1), seed=st.integers(0, 1000))
def test_quantile_is_numpys(n, level, seed):
    x = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    place = torch.tensor(level, dtype=torch.float64)
    assert float(quantile(x, None, place)) == pytest.approx(float(np.quantile(x.numpy(), level)), abs=1e-12)
    padded, valid = torch.cat([x, torch.tensor([9.0, -9.0])]), torch.tensor([True] * n + [False] * 2)
    assert float(quantile(padded, valid, place)) == pytest.approx(float(np.quantile(x.numpy(), level)), abs=1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(b=st.integers(2, 40), seed=st.integers(0, 1000))
def test_two_classes_keep_the_weak_share(b, seed):
    p, w = draw(b, 2, seed)
    found = harden_balanced(p.log(), w, None, {}, uniform=False)
    assert abs(float((found == 1).double().mean()) - float(w[:, 1].mean())) <= 1 / b + 1e-12
    swapped = harden_balanced(p.flip(-1).log(), w.flip(-1), None, {}, uniform=False)
    assert int((swapped != 1 - found).sum()) <= 1, "up to ties at the threshold"


def test_a_row_at_the_threshold_is_class_zero():
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.25, 0.75]], dtype=torch.float64)
    w = torch.tensor([[0.5, 0.5]] * 3, dtype=torch.float64)
    assert harden_balanced(p.log(), w, None, {}, uniform=False).tolist() == [0, 0, 1]


def test_buffer_holds_the_newest_valid_rows():
    loss = make("aux_conf(buffer=3, alpha=1, warmup=0)")
    memory = loss.memory((2,), 4, 1, dtype=torch.float64, device=torch.device("cpu"))
    g = torch.Generator().manual_seed(0)
    seen = [[], []]
    for size in (2, 4, 1):
        z, weak = (torch.randn(2, size, 4, dtype=torch.float64, generator=g) for _ in range(2))
        valid = torch.rand(2, size, generator=g) < 0.6
        batch = Batch(weak=weak, t=torch.zeros(2, 1, 1, dtype=torch.float64), valid=valid, memory=memory)
        before = {name: t.clone() for name, t in memory.items()}
        value, _ = loss.value_and_dz(z, batch)
        assert all(torch.equal(before[name], t) for name, t in memory.items()), "value never writes memory"
        for r in range(2):
            rows = [(z[r, i].log_softmax(-1), weak[r, i].softmax(-1)) for i in range(size) if valid[r, i]]
            known = seen[r][-3:] + rows
            if rows:
                logp, w = torch.stack([a for a, _ in known]), torch.stack([b for _, b in known])
                label = plain_sinkhorn(logp.exp().numpy(), w.numpy())[0][-len(rows) :]
                expected = torch.stack([-a[c] for (a, _), c in zip(rows, label, strict=True)])
                assert torch.allclose(value[r][valid[r]], expected, atol=1e-10)
            seen[r] += rows
        loss.step(memory, {}, z, batch)
        for r in range(2):
            newest = seen[r][-3:]
            assert int(memory["held"][r].sum()) == len(newest)
            held = memory["logp"][r][memory["held"][r]]
            assert torch.equal(held, torch.stack([a for a, _ in newest]) if newest else held[:0])


def test_single_precision_in_half():
    p, w = draw(16, 5, 9)
    loss = make("aux_conf(alpha=1, warmup=0)")
    half = Batch(weak=w.log().half(), t=torch.zeros(1, 1))
    full = Batch(weak=w.log().half().float(), t=torch.zeros(1, 1))
    assert torch.equal(loss.value(p.log().half(), half), loss.value(p.log().half().float(), full))
