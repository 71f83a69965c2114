"""Simulation: features that hold the weak answer, errors moved to other rows, imitability."""

from __future__ import annotations

import numpy as np
import pytest
from cases import accuracy, noisy_task, student, taught_p, unit, weak_p
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.studies.imitability import imitability
from w2s_fast.supervisions.simulation import exchanged
from w2s_fast.tasks.task import Task


def test_features_hold_the_weak_probabilities() -> None:
    task = student_world(n=120)
    found = student(task, "simulate(scale=0.5)", head="prototype")
    request = found.fitted
    expected = np.hstack([unit(task.features.double().numpy()), 0.5 * weak_p(task)])
    assert request.features is not None and request.text is not None and task.text is not None
    np.testing.assert_allclose(request.features.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(request.text.numpy(), np.hstack([task.text.numpy(), np.zeros((4, 4))]))
    np.testing.assert_allclose(taught_p(found), weak_p(task), atol=1e-6)
    with pytest.raises(UsageError, match="predictions"):
        w2s.fit(task, loss="kd", head="linear", supervision="simulate", epochs=1).best("last").to_torch()


def test_the_easier_the_simulation_the_worse_the_student() -> None:
    task = noisy_task(n=600, d=16, spread=0.8, noise=0.5)
    blind, some, much = (accuracy(task, f"simulate(scale={s})", epochs=10) for s in (0.0, 0.1, 2.0))
    assert blind > some + 0.03 and some > much + 0.2
    agreement = [imitability(task), accuracy(task, "weak", epochs=10)]
    assert agreement[0] < 0.6 < agreement[1], "errors at random cannot be imitated"


def errors_that_show() -> Task:
    """Weak errors follow the features: a side of a direction, and which error it is."""
    rng, k, d, n = np.random.default_rng(0), 4, 16, 700
    means, y, side = rng.normal(size=(k, d)), np.arange(n) % k, rng.normal(size=n) > 0.25
    said = np.where(side, (y + 1) % k, y)
    own = means[y] + 0.6 * rng.normal(size=(n, d))
    x = np.hstack([own, 3 * np.where(side, 1.0, -1.0)[:, None], 3 * side[:, None] * np.eye(k)[said]])
    return Task.from_arrays(features=x, weak_logits=4.0 * np.eye(k)[said], labels=y)


def test_errors_at_random_are_not_learned_and_those_that_show_are() -> None:
    task = errors_that_show()
    shown = accuracy(task, "gt_noise(kind='weak')", epochs=10)
    assert accuracy(task, "gt_noise", epochs=10) > shown + 0.25
    assert accuracy(task, "gt_noise(kind='confusion')", epochs=10) > shown + 0.02
    assert imitability(task, seeds=2) > 0.5


@pytest.mark.parametrize("kind", ["weak", "random", "confusion"])
def test_labels_are_as_right_as_before(kind: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 5, 400)
    said = np.where(rng.random(400) < 0.4, rng.integers(0, 5, 400), np.maximum(truth, 0))
    found = exchanged(said, truth, k=5, kind=kind, rng=np.random.default_rng(1))
    known = truth >= 0
    assert (found[~known] == said[~known]).all() and ((found >= 0) & (found < 5)).all()
    assert (found[known] == truth[known]).sum() == (said[known] == truth[known]).sum()

    def confusion(labels: np.ndarray) -> np.ndarray:
        table = np.zeros((5, 5), int)
        for a, b in zip(truth[known], labels[known], strict=True):
            table[a, b] += 1
        return table

    assert (kind == "random") != (confusion(found) == confusion(said)).all()
    assert (found == said).all() == (kind == "weak")
    if kind == "random":
        wrong = found[known] != truth[known]
        assert len(set(zip(truth[known][wrong], found[known][wrong], strict=True))) == 20, "every wrong class comes up"
        assert (wrong & (said[known] == truth[known])).any()


@pytest.mark.parametrize("kind", ["weak", "random", "confusion"])
def test_only_hold_train_changes_and_rows_say_that_truth_was_read(kind: str) -> None:
    task = student_world(n=200)
    results = w2s.fit(
        task, loss="ce", head="linear", supervision=f"gt_noise(kind={kind!r})", epochs=1, references=False
    )
    found = results.fits[0]
    rest = np.setdiff1d(np.arange(200), found.split.train)
    np.testing.assert_allclose(taught_p(found)[rest], weak_p(task)[rest], atol=1e-6)
    hard = taught_p(found)[found.split.train]
    assert hard.max(1).min() > 1 - 1e-6
    truth = task.manifest.labels[found.split.train]
    weak = (weak_p(task)[found.split.train].argmax(1) == truth).mean()
    assert found.stages[0]["acc_labels"] == pytest.approx(weak) == (hard.argmax(1) == truth).mean()
    assert results.rows[0]["reads_truth"]


def test_draws_differ_by_seed_and_number_alone() -> None:
    task = student_world(n=200)
    one, again = (taught_p(student(task, "gt_noise")) for _ in range(2))
    assert (one == again).all() and (one != taught_p(student(task, "gt_noise(draw=1)"))).any()


@pytest.mark.parametrize("spec", ["simulate(scale=-1)", "gt_noise(kind='label')", "gt_noise(draw=-1)", "noise"])
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)
