"""Heads: initialisation, class weights, gradients, specs."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.heads import Head, Start, make
from w2s_fast.heads.head import Head as Base


class Table:
    """A minimal feature table."""

    def __init__(self, x):
        self.x, (self.n, self.d) = x, x.shape

    def batches(self, rows, size):
        for i in range(0, len(rows), size):
            yield rows[i : i + size], self.x[rows[i : i + size]]


def begin(spec, *, k=4, d=6, n=30, seed=0, text=True):
    g = torch.Generator().manual_seed(1)
    x, weak = torch.randn(n, d, generator=g), 2 * torch.randn(n, k, generator=g)
    start = Start(k=k, d=d, text=3 * torch.randn(k, d, generator=g) if text else None)
    sup = SimpleNamespace(probs=lambda rows: weak[rows].softmax(-1))
    rows = torch.arange(5, n)
    head = make(spec).bind(start)
    return head, head.init(start, seed=seed, x=Table(x), rows=rows, supervision=sup), start, x, weak, rows


def test_linear_starts():
    head, theta, _start, *_ = begin("linear", d=400)
    assert theta["weight"].abs().max() <= 1 / 20 and theta["weight"].abs().max() > 0.99 / 20
    assert abs(float(theta["weight"].mean())) < 0.003 and float(theta["bias"].abs().max()) == 0
    assert (head.tau_s, head.unit_x, head.x_scale) == (1.0, True, 10.0)
    other = begin("linear", d=400, seed=1)[1]["weight"]
    assert not torch.equal(theta["weight"], other)
    assert torch.equal(theta["weight"], begin("linear", d=400)[1]["weight"])


def test_text_starts_of_both_heads_give_the_same_logits():
    line, theta, start, x, *_ = begin("linear(init='text')")
    proto, c, *_ = begin("prototype")
    xhat = torch.nn.functional.normalize(x, dim=-1)
    w, b = line.weights(theta)
    v, none = proto.weights(c)
    assert none is None
    assert torch.allclose(line.x_scale * xhat @ w.T + b, xhat @ v.T / proto.tau_s, atol=1e-5)
    assert torch.allclose(c["prototypes"].norm(dim=-1), torch.full((4,), 10.0), atol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(x[:, None], start.text[None], dim=-1)
    assert torch.allclose(xhat @ v.T, cosine, atol=1e-6)


def test_weak_mean_reads_train_rows_alone():
    _head, theta, _, x, weak, rows = begin("prototype(init='weak_mean', init_norm=2)")
    p, xhat = weak.softmax(-1)[rows].double().numpy(), x[rows].double().numpy()
    xhat = xhat / np.linalg.norm(xhat, axis=1, keepdims=True)
    mean = p.T @ xhat
    expected = 2 * mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.allclose(theta["prototypes"].numpy(), expected, atol=1e-5)


def test_random_prototypes():
    theta = begin("prototype(init='random', init_norm=5)")[1]
    assert torch.allclose(theta["prototypes"].norm(dim=-1), torch.full((4,), 5.0, dtype=torch.float64))
    assert not torch.equal(theta["prototypes"], begin("prototype(init='random', init_norm=5)", seed=3)[1]["prototypes"])


def test_no_text_names_the_way_out():
    for spec in ("prototype", "linear(init='text')"):
        with pytest.raises(MissingText, match="init='weak_mean'"):
            begin(spec, text=False)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(lead=st.sampled_from([(), (1,), (3,)]), k=st.integers(1, 5), d=st.integers(1, 6), seed=st.integers(0, 99))
@pytest.mark.parametrize("spec", ["linear", "prototype"])
def test_closed_form_is_autograd(spec, lead, k, d, seed):
    g = torch.Generator().manual_seed(seed)
    head = make(spec)
    names = {"linear": {"weight": (k, d), "bias": (k,)}, "prototype": {"prototypes": (k, d)}}[spec]
    theta = {n: torch.randn(*lead, *s, dtype=torch.float64, generator=g) for n, s in names.items()}
    w, b, pull = head.vjp(theta)
    dw = torch.randn(w.shape, dtype=torch.float64, generator=g)
    db = None if b is None else torch.randn(b.shape, dtype=torch.float64, generator=g)
    found = pull(dw, db)
    w2, b2, pull2 = Base.vjp(head, theta)
    expected = pull2(dw, db)
    assert torch.allclose(w, w2) and (b is None) == (b2 is None)
    for name in names:
        assert torch.allclose(found[name], expected[name], atol=1e-10), name
    if spec == "prototype":
        along = (found["prototypes"] * theta["prototypes"]).sum(-1)
        assert along.abs().max() < 1e-9, "the gradient is tangent to the sphere"
        half = head.vjp({"prototypes": 2 * theta["prototypes"]})[2](dw, None)["prototypes"]
        assert torch.allclose(2 * half, found["prototypes"], atol=1e-10), "and falls as 1 / |C|"


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen(Head):
    """Class weights that theta does not enter, and an offset that it does."""

    def weights(self, theta):
        return torch.ones(3, 2), theta["b"] * 2


def test_default_vjp_of_weights_that_theta_does_not_enter():
    w, _b, pull = Frozen().vjp({"b": torch.zeros(4, 3), "unused": torch.ones(4, 1)})
    assert w.shape == (3, 2)
    grads = pull(torch.ones(3, 2), torch.ones(4, 3))
    assert torch.equal(grads["b"], torch.full((4, 3), 2.0)) and torch.equal(grads["unused"], torch.zeros(4, 1))


@pytest.mark.parametrize(
    "spec",
    ["linear", "linear(init='text', tau0=0.01)", "prototype(init='weak_mean', init_norm=3.0)", "linear(unit_x=False)"],
)
def test_specs_come_back(spec):
    assert str(make(make(spec).spec()).spec()) == str(make(spec).spec())
    assert make(make(spec)).spec() == make(spec).spec()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("liner", ["no head 'liner'", "'linear'"]),
        ("linear(init='texts')", ["init='texts'", "'random'", "'text'"]),
        ("linear(start='text')", ["'start'", "init"]),
        ("linear(init_from='text')", ["'init_from'"]),
        ("linear(tau0=0)", ["tau0=0.0", "(0, inf)"]),
        ("prototype(init_norm=-1)", ["init_norm=-1.0"]),
        ("prototype(tau_s=0)", ["tau_s=0.0"]),
        ("prototype(unit_x='yes')", ["unit_x='yes'", "True or False"]),
    ],
)
def test_errors_say_what_and_what_else(spec, words):
    with pytest.raises(SpecError) as caught:
        make(spec)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_is_no_head():
    for wrong in (3, None, object()):
        with pytest.raises(UsageError):
            make(wrong)
