"""Salience: what is frozen and what is read; a concept that weak labels make easy to read off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import accuracy, flipped, student, taught_p, weak_p
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import MissingText, SpecError
from w2s_fast.tasks.task import Task

ADAPTER = "adapter(scale=1.0)"


def frozen(task: Task, head: str, **arguments: object) -> tuple[dict[str, np.ndarray], float]:
    """Parameters f64 of a head fitted on the weak labels by itself, and its temperature."""
    found = w2s.fit(task, loss="kd", head=head, seeds=1, batch_size=64, references=False, **arguments).fits[0]
    theta = {name: p.double().numpy() for name, p in found.fitted.fit.theta["last"].items()}
    return theta, float(found.fitted.fit.resolved["tau_s"])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["salience", "gt_salience"])
def test_features_are_those_of_the_frozen_adapter(name: str) -> None:
    task = student_world(n=200)
    theta, _ = frozen(task, ADAPTER, epochs=3)
    x = unit(task.features.double().numpy())
    expected = unit(x + x @ theta["down"].T @ theta["up"].T)
    found = student(task, f"{name}(via={ADAPTER!r})", loss="kd", epochs=3)
    request = found.fitted
    assert request.features is not None and request.move is not None
    np.testing.assert_allclose(request.features.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(request.move(task.features[:7]).numpy(), expected[:7], atol=2e-5)
    labels = np.eye(4)[task.labels.numpy()] if name == "gt_salience" else weak_p(task)
    np.testing.assert_allclose(taught_p(found), labels, atol=1e-6)
    truth = task.manifest.labels[found.split.test]
    said = (expected @ unit(theta["classes"]).T).argmax(1)[found.split.test]
    assert found.stages[0]["acc_test"] == pytest.approx((said == truth).mean())


def test_logits_are_those_of_the_frozen_head_over_its_temperature() -> None:
    task = student_world(n=200)
    theta, tau = frozen(task, "prototype", epochs=3)
    expected = unit(task.features.double().numpy()) @ unit(theta["prototypes"]).T / tau
    found = student(task, "gt_salience(via='prototype', reads='logits')", loss="kd", epochs=3)
    features = found.fitted.features
    assert tau == 0.05 and features is not None and features.shape == (200, 4)
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-4)
    assert found.fitted.text is None


def test_the_head_is_taken_out_with_what_it_reads() -> None:
    task = student_world(n=200)
    for spec in (f"gt_salience(via={ADAPTER!r})", "salience(via='prototype', reads='logits')"):
        results = w2s.fit(task, loss="kd", head="linear", supervision=spec, epochs=2, batch_size=64, references=False)
        best = results.best("last")
        rows = torch.from_numpy(best.split.test)
        said = best.to_torch()(task.features[rows]).argmax(1).numpy()
        assert (said == best.fit.predicted["last"]).all()


def test_rows_say_whether_ground_truth_was_read() -> None:
    task = student_world(n=150)
    results = w2s.fit(
        task, loss="kd", head="linear", supervision=["salience", "gt_salience"], epochs=1, references=False
    )
    assert {r["supervision"]: r["reads_truth"] for r in results.rows} == {"salience": False, "gt_salience": True}


def test_a_concept_of_low_salience() -> None:
    """LP(weak) < LP(GT) < adapter(weak) < frozen adapter and LP(GT): the classes lie where features vary least."""
    rng, k, d, n = np.random.default_rng(1), 4, 32, 700
    y, quiet = np.arange(n) % k, np.arange(d) < 8
    means = np.where(quiet, rng.normal(size=(k, d)), 0.0)
    x = means[y] + rng.normal(size=(n, d)) * np.where(quiet, 0.4, 15)
    text = means + np.where(quiet, 0.3, 0.0) * rng.normal(size=(k, d))
    z = 4.0 * np.eye(k)[flipped(y, k, 0.25, rng)]
    task = Task.from_arrays(features=x, weak_logits=z, labels=y, text=text, logit_scale=15)
    few = {"epochs": 20, "lr": 1e-2}
    weak, truth = accuracy(task, "weak", **few), accuracy(task, "gt", **few)
    adapter = accuracy(task, "weak", head=ADAPTER, **few)
    both = accuracy(task, f"gt_salience(via={ADAPTER!r})", **few)
    assert weak + 0.03 < truth < adapter - 0.1 and both > adapter + 0.02 and both > truth + 0.2


def test_logits_of_prototypes_follow_the_published_order() -> None:
    """LP(weak) < LP(GT) < prototypes(weak) <= LP(GT) on their logits, where there are fewer rows than weights."""
    rng, k, d, n = np.random.default_rng(0), 5, 150, 400
    y, quiet = np.arange(n) % k, np.arange(d) < 10
    means = np.where(quiet, 1.5 * rng.normal(size=(k, d)), 0.0)
    x = means[y] + rng.normal(size=(n, d)) * np.where(quiet, 0.35, 1.0)
    text = means + np.where(quiet, 1.0, 0.0) * rng.normal(size=(k, d))
    z = 4.0 * np.eye(k)[flipped(y, k, 0.3, rng)]
    task = Task.from_arrays(features=x, weak_logits=z, labels=y, text=text, logit_scale=15)
    few = {"epochs": 40, "lr": 1e-2, "seeds": 3}
    weak, truth = accuracy(task, "weak", **few), accuracy(task, "gt", **few)
    prototypes = accuracy(task, "weak", head="prototype", **few)
    both = accuracy(task, "gt_salience(via='prototype', reads='logits')", **few)
    assert weak + 0.1 < truth < prototypes < both + 0.02 and both > truth + 0.1


@pytest.mark.parametrize(
    "spec",
    [
        "salience(via='adaptor')",
        "salience(reads='gradients')",
        "gt_salience(rank=2)",
        "salience(via=\"prototype(init='class_mean')\", reads='logits')",
        "salience(via=\"adapter(init='class_mean')\")",
    ],
)
def test_specs_that_do_not_fit(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


def test_an_adapter_without_text_says_so() -> None:
    task = student_world(n=100)
    bare = Task.from_arrays(features=task.features, weak_logits=task.weak_logits[0], labels=task.labels)
    with pytest.raises(MissingText, match="text features"):
        student(bare, "gt_salience")
    assert student(bare, "gt_salience(via=\"adapter(init='weak_mean')\")").status == "ok"
