"""Adapted features: against numpy in float64; classes hidden under a nuisance, a domain's offset, noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import accuracy, flipped, noisy_task, student
from supervision_worlds import student_world

import w2s_fast as w2s
from w2s_fast import load_head, supervisions
from w2s_fast.core.errors import DataError, MissingText, SpecError, UsageError
from w2s_fast.tasks.task import Task


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(
    x: np.ndarray, seen: np.ndarray, *, center: str, whiten: float, shrink: float, smooth: float, k: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Adapted rows f64[N, d] and the whitening, from sample statistics of the rows `seen`."""
    x = unit(x)
    if center == "domain":
        assert groups is not None
        x = np.stack([row - x[[i for i in seen if groups[i] == groups[j]]].mean(0) for j, row in enumerate(x)])
    mean = x[seen].mean(0) if center == "all" else 0.0
    matrix = np.eye(x.shape[1])
    if whiten:
        covariance = np.cov(x[seen].T, bias=True)
        covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / len(covariance) * np.eye(
            len(covariance)
        )
        values, vectors = np.linalg.eigh(covariance)
        matrix = sum(v ** (-whiten / 2) * np.outer(u, u) for v, u in zip(values, vectors.T, strict=True))
    x = unit((x - mean) @ matrix)
    if not smooth:
        return x, matrix
    found = []
    for i, row in enumerate(x):
        near = sorted((j for j in seen if j != i), key=lambda j: -float(row @ x[j]))[:k]
        found.append((1 - smooth) * row + smooth * x[near].mean(0))
    return unit(np.stack(found)), matrix


DEFAULTS = {"center": "all", "whiten": 1.0, "shrink": 0.01, "smooth": 0.0, "k": 10}


@pytest.mark.parametrize("changed", [
    {}, {"whiten": 0.0}, {"center": "none", "whiten": 0.5, "shrink": 0.3}, {"smooth": 0.4, "k": 3},
    {"center": "domain"}, {"center": "none", "whiten": 0.0, "smooth": 1.0, "k": 2}, {"transductive": True},
])  # fmt: skip
def test_features_and_text_are_those_by_hand(changed: dict) -> None:  # type: ignore[type-arg]
    base = student_world(n=150)
    groups = np.array([f"d{i % 3}" for i in range(150)])
    task = Task.from_arrays(
        features=base.features + torch.from_numpy(np.array([5.0, 0, -5])[np.arange(150) % 3, None]),
        weak_logits=base.weak_logits[0],
        labels=base.labels,
        text=base.text,
        groups=list(groups),
    )
    values = {**DEFAULTS, **changed}
    found = student(task, f"adapted({', '.join(f'{name}={value!r}' for name, value in values.items())})")
    test = values.pop("transductive", False)
    seen = np.sort(np.concatenate([found.split.train, found.split.test] if test else [found.split.train]))
    expected, matrix = by_hand(task.features.double().numpy(), seen, groups=groups, **values)
    request = found.fitted
    assert request.features is not None and request.text is not None and task.text is not None
    np.testing.assert_allclose(request.features.numpy(), expected, atol=2e-4)
    text = unit(task.text.double().numpy())
    text = unit((text - (0 if values["center"] == "none" else text.mean(0))) @ matrix)
    np.testing.assert_allclose(request.text.numpy(), text, atol=2e-4)
    if values["center"] == "domain":
        assert request.move is None, "another image's domain is not known"
    else:
        assert request.move is not None
        others = torch.from_numpy(found.split.val)
        np.testing.assert_allclose(request.move(task.features[others]).numpy(), expected[found.split.val], atol=2e-4)


def test_nothing_outside_the_seen_rows_is_read() -> None:
    task = student_world(n=150)
    found = student(task, "adapted(smooth=0.5)")
    other = task.features.clone()
    rest = np.setdiff1d(np.arange(150), found.split.train)
    other[rest] += 3
    changed = Task.from_arrays(
        features=other, weak_logits=task.weak_logits[0], labels=task.labels, text=task.text, ids=task.ids
    )
    again = student(changed, "adapted(smooth=0.5)")
    for name, p in found.fitted.fit.theta["last"].items():
        assert torch.equal(p, again.fitted.fit.theta["last"][name])


@pytest.mark.parametrize("head", ["linear", "prototype", "linear(init='text')"])
def test_any_head_is_taken_out_with_its_features(head: str, tmp_path: Path) -> None:
    task = student_world(n=150)
    results = w2s.fit(
        task, loss="kd", head=head, supervision="adapted(smooth=0.3)", epochs=2, batch_size=64, references=False
    )
    best = results.best("last")
    rows = torch.from_numpy(best.split.test)
    assert (best.to_torch()(task.features[rows]).argmax(1).numpy() == best.fit.predicted["last"]).all()
    _, _, card = load_head(best.save(tmp_path / "h"))
    assert card["reads"] == "features that adapted(smooth=0.3) made" and card["supervision"] == "adapted(smooth=0.3)"
    with pytest.raises(UsageError, match="to_torch"):
        best.export(tmp_path / "c")


def test_classes_under_a_nuisance_of_large_variance() -> None:
    rng, k, d, n = np.random.default_rng(0), 4, 24, 500
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    y, loud = np.arange(n) % k, np.arange(d) < 8
    means = np.where(loud, 0.0, rng.normal(size=(k, d)))
    x = (means[y] + rng.normal(size=(n, d)) * np.where(loud, 12, 0.5)) @ turn + 20 * turn[0]
    task = Task.from_arrays(features=x, weak_logits=4.0 * np.eye(k)[flipped(y, k, 0.25, rng)], labels=y)
    assert accuracy(task, "adapted", epochs=10) > accuracy(task, "weak", epochs=10) + 0.15


def test_domains_with_offsets_of_their_own() -> None:
    rng, k, d, n = np.random.default_rng(0), 4, 16, 600
    means, y, g = 0.5 * rng.normal(size=(k, d)), np.arange(n) % k, rng.integers(0, 5, n)
    x = means[y] + 6 * rng.normal(size=(5, d))[g] + 0.2 * rng.normal(size=(n, d))
    z = 4.0 * np.eye(k)[flipped(y, k, 0.25, rng)]
    task = Task.from_arrays(features=x, weak_logits=z, labels=y, groups=[f"d{i}" for i in g])
    naive = accuracy(task, "weak", epochs=10)
    domain = accuracy(task, "adapted(center='domain', whiten=0.0)", epochs=10)
    assert domain > naive + 0.3 and domain > accuracy(task, "adapted(whiten=0.0)", epochs=10) + 0.3


def test_noise_that_neighbours_average_away() -> None:
    task = noisy_task(n=700, d=100, spread=1.6, noise=0.5)
    smooth = accuracy(task, "adapted(center='none', whiten=0.0, smooth=0.9, k=20)")
    assert smooth > accuracy(task, "weak") + 0.15


def test_a_domain_without_seen_rows_gets_the_mean_of_all() -> None:
    from w2s_fast.supervisions.adapted import without_domain_means

    x = torch.tensor([[1.0], [3.0], [7.0]])
    found = without_domain_means(x, np.array(["a", "a", "b"]), np.array([0, 1]))
    assert found.flatten().tolist() == [-1, 1, 5]


@pytest.mark.parametrize(
    "spec", ["adapted(center='class')", "adapted(whiten=2)", "adapted(center='none', whiten=0.0)", "adapted(k=0)"]
)
def test_specs_that_do_not_fit(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


def test_text_starts_without_text_say_so() -> None:
    task = student_world(n=100)
    bare = Task.from_arrays(features=task.features, weak_logits=task.weak_logits[0], labels=task.labels)
    with pytest.raises(MissingText):
        student(bare, "adapted", head="prototype")


def test_equal_features_cannot_be_whitened() -> None:
    task = student_world(n=100)
    flat = replace(task, features=torch.ones_like(task.features))
    with pytest.raises(DataError, match="cannot be whitened"):
        student(flat, "adapted")
