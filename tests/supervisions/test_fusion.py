"""Weak labels and zero-shot together: targets in float64; the fusion as classifier is the reference row."""

from __future__ import annotations

import numpy as np
import pytest
from cases import accuracy, student, taught_p, unit, weak_p
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.tasks.task import Task


def product(task: Task, a: float, b: float, tau_0: float) -> np.ndarray:
    """softmax(a log p_w + b log softmax(cos / tau_0)), f64[N, k]."""
    assert task.text is not None
    z = unit(task.features.numpy().astype(np.float64)) @ unit(task.text.numpy().astype(np.float64)).T / tau_0
    prior = np.exp(z - z.max(1, keepdims=True))
    found = weak_p(task) ** a * (prior / prior.sum(1, keepdims=True)) ** b
    return found / found.sum(1, keepdims=True)


@pytest.mark.parametrize(("spec", "a", "b", "tau_0"), [
    ("fused", 1, 1, 0.01), ("fused(a=0.5, b=2, tau_0=0.2)", 0.5, 2, 0.2), ("fused(b=0)", 1, 0, 0.01),
])  # fmt: skip
def test_labels_are_the_product(spec: str, a: float, b: float, tau_0: float) -> None:
    task = student_world(n=120)
    np.testing.assert_allclose(taught_p(student(task, spec)), product(task, a, b, tau_0), atol=1e-5)


def test_the_fusion_itself_is_the_reference_under_any_head_and_loss() -> None:
    task = student_world(n=200)
    arguments = {"supervision": "fusion", "epochs": 3, "batch_size": 32, "solver": "lbfgs", "references": False}
    for head, loss in (("linear", "ce"), ("prototype", "kd")):
        results = w2s.fit(task, loss=loss, head=head, **arguments)
        assert {row["acc_w2s"] for row in results.rows} == {results.rows[0]["acc_fusion"]} and len(results.rows) == 4
    found = results.fits[0]
    test = found.split.test
    expected = product(task, 1, 1, 0.01)[test].argmax(1)
    assert found.predicted["last"].tolist() == expected.tolist()
    other = student(task, "fusion(a=0.3, tau_0=0.5)")
    assert other.predicted["weak_val"].tolist() == product(task, 0.3, 1, 0.5)[test].argmax(1).tolist()
    with pytest.raises(UsageError, match="predictions"):
        results.best("last").to_torch()


def test_lists_are_points_of_a_grid_told_apart_by_agreement() -> None:
    task = student_world(n=200)
    results = w2s.fit(task, loss="kd", head="linear", supervision="fusion(a=[0.1, 1, 100])", references=False)
    rows = [row for row in results.rows if row["selection"] == "last"]
    assert [row["supervision"] for row in rows] == ["fusion(a=0.1)", "fusion", "fusion(a=100)"]
    agree = [row["agree_val"] for row in rows]
    assert agree[0] <= agree[1] < agree[2] == 1, "the weak model itself agrees best, as the docstring says"


def test_two_judges_that_err_apart() -> None:
    """The weak model's errors can be read off the features; zero-shot knows nothing of them."""
    rng, k, d, n = np.random.default_rng(0), 6, 24, 700
    means, y = rng.normal(size=(k, d)), np.arange(n) % k
    wrong = rng.random(n) < 0.45
    said = np.where(wrong, (y + 1) % k, y)
    x = np.hstack([0.5 * means[y] + 0.9 * rng.normal(size=(n, d)), 3 * wrong[:, None] * np.eye(k)[said]])
    text = np.hstack([means + 1.1 * rng.normal(size=(k, d)), np.zeros((k, k))])
    task = Task.from_arrays(features=x, weak_logits=2.0 * np.eye(k)[said], labels=y, text=text, logit_scale=15)
    naive = accuracy(task, "weak")
    assert accuracy(task, "fused") > naive + 0.1
    assert accuracy(task, "fusion") > naive + 0.1


@pytest.mark.parametrize("spec", ["fused(a=-1)", "fused(tau_0=0)", "fusion(tau=1)", "fusion(b='x')"])
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


@pytest.mark.parametrize("spec", ["fused", "fusion"])
def test_without_text_they_say_so(spec: str) -> None:
    task = student_world(n=100)
    bare = Task.from_arrays(features=task.features, weak_logits=task.weak_logits[0], labels=task.labels)
    with pytest.raises(MissingText, match="text features"):
        student(bare, spec)
