"""Tuning a text tower: the start is the zero-shot classifier, gradients are those of the model itself."""

from __future__ import annotations

import pytest
import torch
from head_worlds import World

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.text import text_features
from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.heads import Start, make
from w2s_fast.heads import text_encoder as module
from w2s_fast.train.step import forward

NAMES = ("cat", "Clock", "fish", "tree")


@pytest.fixture(scope="module")
def tower():
    return open_encoder("drawn:clip").text_tower()


def begin(tower, spec="text_encoder", names=NAMES):
    return World(tower=tower, names=names).begin(spec)


def test_it_starts_as_the_zero_shot_classifier(tower):
    head, theta = begin(tower)
    expected = torch.nn.functional.normalize(text_features(tower, NAMES), dim=-1)
    w, b = head.weights(theta)
    assert b is None and torch.allclose(w, expected, atol=1e-6)
    assert "token_embedding.weight" not in theta and "positional_embedding" in theta
    other, moved = begin(tower, "text_encoder(template='a drawing of a {}')")
    assert not torch.allclose(other.weights(moved)[0], expected, atol=1e-3)


@pytest.mark.parametrize("chunk", [256, 3])
@pytest.mark.parametrize("tune", ["all", "projection"])
def test_gradients_are_those_of_the_tower_itself(tower, tune, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    head, theta = begin(tower, f"text_encoder(tune='{tune}')")
    g = torch.Generator().manual_seed(2)
    moved = {n: (p + 0.01 * torch.randn(p.shape, generator=g))[None] for n, p in theta.items()}
    x = torch.randn(5, tower.params()["text_projection"].shape[1], generator=g)
    z, back = forward(head, moved, x, 1)
    dz = torch.randn(z.shape, generator=g)
    grads = back(dz)
    leaves = {n: p[0].clone().requires_grad_(True) for n, p in moved.items()}
    tokens = tower.tokenize(["a photo of a " + n.lower().replace("_", " ") for n in NAMES])
    rows = tower.encode(tower.embed(tokens).detach(), tower.eot(tokens), params={**tower.params(), **leaves})
    own = x @ torch.nn.functional.normalize(rows, dim=-1).T
    assert torch.allclose(z[0], own, atol=1e-5)
    own.backward(dz[0])
    for name, leaf in leaves.items():
        scale = float(leaf.grad.abs().max()) + 1e-6
        assert torch.allclose(grads[name][0], leaf.grad, atol=2e-5 * scale + 1e-6), name
        assert leaf.grad.abs().max() > 0, name
    if tune == "projection":
        assert all(name.startswith(("ln_final", "text_projection")) for name in theta) and len(theta) == 3


def test_the_tower_is_left_as_it_was(tower):
    before = {n: p.clone() for n, p in tower.params().items()}
    head, theta = begin(tower)
    for p in theta.values():
        p.add_(1.0)
    head.weights(theta)
    assert all(torch.equal(p, before[n]) for n, p in tower.params().items())


def test_what_it_needs_is_told(tower):
    with pytest.raises(MissingText, match="tunes a text tower, and this encoder has none"):
        begin(None)
    narrow = Start(k=4, d=8, tower=tower, names=NAMES)
    with pytest.raises(UsageError, match="the features have 8"):
        make("text_encoder").bind(narrow)
    with pytest.raises(MissingText, match="no names"):
        begin(tower, names=())
    with pytest.raises(MissingText, match="'n02084071' is a WordNet id"):
        begin(tower, names=("n02084071", *NAMES[1:]))
    with pytest.raises(MissingText, match=r"class name 'Tree tree tree .* takes 12; give other names"):
        begin(tower, names=("cat", "Clock", "fish", "Tree " + "tree " * 9))
    with pytest.raises(UsageError, match="exactly one {}"):
        begin(tower, "text_encoder(template='a photo')")
    with pytest.raises(SpecError, match="'projection'"):
        make("text_encoder(tune='last')")
    with pytest.raises(UsageError, match="bind"):
        make("text_encoder").weights({})
