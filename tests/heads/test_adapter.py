"""The adapter head against modules built from torch.nn, its gradients, and how it starts."""

from __future__ import annotations

import pytest
import torch
from head_worlds import World, logits
from torch import nn

from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.heads import make
from w2s_fast.heads.head import unit
from w2s_fast.train.step import forward


def doubled(theta):
    return {name: p.double() for name, p in theta.items()}


def test_the_residual_form_starts_as_the_zero_shot_classifier():
    world = World()
    head, theta = world.begin("adapter")
    expected = nn.functional.cosine_similarity(world.x[:, None], world.text[None], dim=-1)
    assert torch.allclose(logits(head, doubled(theta), world.x.double()), expected.double(), atol=1e-6)
    assert theta["down"].shape == (2, 8) and theta["up"].shape == (8, 2) and not theta["up"].any()
    bound = 1 / 8**0.5
    assert 0 < theta["down"].abs().max() <= bound
    assert not torch.equal(theta["down"], world.begin("adapter", seed=1)[1]["down"])
    assert torch.equal(theta["down"], world.begin("adapter")[1]["down"])


def test_clip_adapter_is_the_published_module_on_raw_features():
    world = World()
    head, theta = world.begin("adapter(form='clip_adapter', rank=3, scale=0.3, tau_s=0.01)")
    theta = doubled(theta)
    fc = nn.Sequential(nn.Linear(8, 3, bias=False), nn.ReLU(), nn.Linear(3, 8, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        fc[0].weight.copy_(theta["down"])
        fc[2].weight.copy_(theta["up"])
    x = 7 * world.x.double()
    mixed = 0.3 * fc(x) + 0.7 * x
    expected = mixed / mixed.norm(dim=-1, keepdim=True) @ unit(world.text.double()).T
    assert torch.allclose(logits(head, theta, x), expected, atol=1e-7), "raw length does not matter"
    assert theta["up"].abs().max() > 0


@pytest.mark.parametrize("spec", ["adapter", "adapter(form='clip_adapter')", "adapter(tune_classes=True, scale=1.0)"])
def test_gradients_of_a_stack_are_those_of_each_run_alone(spec):
    world = World()
    head, first = world.begin(spec)
    g = torch.Generator().manual_seed(9)
    thetas = [{n: p.double() + 0.3 * torch.randn(p.shape, generator=g) for n, p in first.items()} for _ in range(3)]
    stacked = {n: torch.stack([theta[n] for theta in thetas]) for n in first}
    x = world.hats()[:5]
    z, back = forward(head, stacked, x, 3)
    dz = torch.randn(z.shape, generator=g, dtype=torch.float64)
    grads = back(dz)
    for r, theta in enumerate(thetas):
        leaves = {n: p.clone().requires_grad_(True) for n, p in theta.items()}
        if "clip" in spec:
            moved = torch.relu(torch.relu(x @ leaves["down"].T) @ leaves["up"].T)
            phi = (1 - head.scale) * x + head.scale * moved
        else:
            phi = x + head.scale * x @ leaves["down"].T @ leaves["up"].T
        w = leaves["classes"] if head.tune_classes else leaves["classes"].detach()
        own = nn.functional.cosine_similarity(phi[:, None], w[None], dim=-1)
        assert torch.allclose(z[r], own, atol=1e-10)
        own.backward(dz[r])
        for name, grad in grads.items():
            expected = leaves[name].grad
            assert expected is not None and torch.allclose(grad[r], expected, atol=1e-9), name
    assert set(grads) == {"down", "up"} | ({"classes"} if head.tune_classes else set())


def test_class_rows_come_from_weak_labels_where_there_is_no_text():
    world = World(text=False)
    with pytest.raises(MissingText, match="init='weak_mean'"):
        world.begin("adapter")
    classes = world.begin("adapter(init='weak_mean')")[1]["classes"]
    mean = world.weak.softmax(-1)[world.rows].double().T @ world.hats()[world.rows]
    assert torch.allclose(classes.double(), unit(mean), atol=1e-6)


def test_a_bottleneck_is_no_wider_than_the_features():
    world = World()
    assert world.begin("adapter(rank=8)")[1]["down"].shape == (8, 8)
    with pytest.raises(UsageError, match=r"rank=9 is more than the 8 dimensions"):
        world.begin("adapter(rank=9)")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adapter(init='random')", ["init='random'", "'weak_mean'"]),
        ("adapter(form='mlp')", ["form='mlp'", "'clip_adapter'"]),
        ("adapter(scale=1.5)", ["scale=1.5", "(0, 1]"]),
        ("adapter(rank=-1)", ["rank=-1"]),
        ("adapter(rank=2.5)", ["rank=2.5", "whole number"]),
        ("adapter(ratio=0.2)", ["'ratio'"]),
    ],
)
def test_errors_say_what_and_what_else(spec, words):
    with pytest.raises(SpecError) as caught:
        make(spec)
    assert all(word in str(caught.value) for word in words), str(caught.value)
