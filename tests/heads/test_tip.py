"""The cache head against Tip-Adapter's formula in numpy, which rows it keeps, and what learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_worlds import World, logits

from w2s_fast.core.errors import MissingText, SpecError
from w2s_fast.heads import make
from w2s_fast.train.step import forward


def published(world, kept, values, *, alpha, beta):
    """100 cos(x, text) + alpha exp(-beta (1 - cos(x, keys))) values, f64[N, K]."""
    x, t = world.hats().numpy(), world.text.double().numpy()
    t = t / np.linalg.norm(t, axis=1, keepdims=True)
    return 100 * x @ t.T + alpha * np.exp(-beta * (1 - x @ x[kept].T)) @ values


@pytest.mark.parametrize("values", ["hard", "soft"])
def test_logits_are_tip_adapters(values):
    world = World()
    head, theta = world.begin(f"tip(shots=0, alpha=2.5, beta=3, values='{values}')")
    kept, p = world.rows.numpy(), world.weak.softmax(-1).double().numpy()[world.rows]
    told = np.eye(world.K)[p.argmax(1)] if values == "hard" else p
    found = logits(head, {n: t.double() for n, t in theta.items()}, world.x.double()) / head.tau_s
    assert np.allclose(found.numpy(), published(world, kept, told, alpha=2.5, beta=3), atol=1e-4)
    assert head.tau_s == 0.01


def rows_kept(world, theta):
    """The row number of every key."""
    near = theta["keys"].double() @ world.hats().T
    assert torch.allclose(near.max(-1).values, torch.ones(len(near), dtype=torch.float64), atol=1e-5)
    return near.argmax(-1).tolist()


def test_a_few_rows_of_each_weak_label_are_kept():
    world = World()
    label, sure = world.weak.argmax(-1), world.weak.softmax(-1).max(-1).values
    theirs = {c: [r for r in world.rows.tolist() if label[r] == c] for c in range(world.K)}
    assert max(map(len, theirs.values())) > 3
    _, theta = world.begin("tip(shots=3, choose='confident')")
    best = {c: sorted(mine, key=lambda r: -float(sure[r]))[:3] for c, mine in theirs.items()}
    kept = rows_kept(world, theta)
    assert kept == sorted(r for mine in best.values() for r in mine), "in the order of rows, and train rows alone"
    assert torch.equal(theta["values"].argmax(-1), label[kept])
    draws = {tuple(rows_kept(world, world.begin("tip(shots=3)", seed=seed)[1])) for seed in range(4)}
    assert len(draws) == 4 and draws != {tuple(kept)}
    for draw in draws:
        counts = torch.bincount(label[list(draw)], minlength=world.K).tolist()
        assert counts == [min(3, len(theirs[c])) for c in range(world.K)] and min(draw) >= 3
    assert draws == {tuple(rows_kept(world, world.begin("tip(shots=3)", seed=seed)[1])) for seed in range(4)}


@pytest.mark.parametrize("tune", [True, False])
def test_only_keys_learn_and_only_where_tuned(tune):
    world = World()
    head, first = world.begin(f"tip(shots=2, alpha=20.0, tune={tune})")
    theta = {n: p.double()[None] for n, p in first.items()}
    x = world.hats()[:6]
    z, back = forward(head, theta, x, 1)
    dz = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = back(dz)
    assert set(grads) == ({"keys"} if tune else set())
    keys = theta["keys"][0].clone().requires_grad_(True)
    near = torch.exp(-5.5 * (1 - x @ keys.T))
    text = torch.nn.functional.normalize(world.text.double(), dim=-1)
    own = x @ text.T + 0.2 * near @ theta["values"][0]
    assert torch.allclose(z[0], own, atol=1e-6)
    own.backward(dz[0])
    assert not tune or torch.allclose(grads["keys"][0], keys.grad, atol=1e-7)


def test_what_it_needs_is_told():
    with pytest.raises(MissingText, match="init='weak_mean'"):
        World(text=False).begin("tip")
    World(text=False).begin("tip(init='weak_mean')")
    for spec, word in {
        "tip(shots=-1)": "shots=-1",
        "tip(beta=-1)": "beta=-1.0",
        "tip(values='onehot')": "'soft'",
    }.items():
        with pytest.raises(SpecError, match=word):
            make(spec)
