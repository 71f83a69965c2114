"""Labels refined by neighbours: against dense solves and plain loops; clusters whose labels err at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import accuracy, noisy_task, student, taught_p, unit, weak_p
from supervision_worlds import student_world

from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, TrainError
from w2s_fast.supervisions import graph
from w2s_fast.supervisions.graph import smoothed


def nearest(x: np.ndarray, k: int) -> list[list[int]]:
    """The k rows of largest cosine with each row, itself left out, by a loop."""
    cos = unit(x) @ unit(x).T
    return [[int(j) for j in np.argsort(-cos[i], kind="stable") if j != i][:k] for i in range(len(x))]


def dense(x: np.ndarray, y: np.ndarray, k: int, l: float) -> np.ndarray:  # noqa: E741
    """The smoothing's equation with whole matrices."""
    cos, b = unit(x) @ unit(x).T, np.zeros((len(x), len(x)))
    for i, near in enumerate(nearest(x, k)):
        for j in near:
            b[i, j] = max(cos[i, j], 0.0)
    a = (b + b.T) / 2
    degree = a.sum(1)
    s = a / np.sqrt(np.outer(degree, degree))
    found = (1 - l) * np.linalg.solve(np.eye(len(x)) - l * s, y)
    return found / found.sum(1, keepdims=True)


@pytest.mark.parametrize(("k", "l"), [(5, 0.5), (3, 0.99), (8, 0.0)])
@pytest.mark.parametrize("transductive", [False, True])
def test_smoothing_is_the_dense_solve_on_seen_rows(k: int, l: float, transductive: bool) -> None:  # noqa: E741
    task = student_world(n=200)
    found = student(task, f"smooth(k={k}, l={l}, transductive={transductive})")
    seen = np.sort(np.concatenate([found.split.train, found.split.test] if transductive else [found.split.train]))
    wanted = weak_p(task)
    wanted[seen] = dense(task.features.numpy().astype(np.float64)[seen], wanted[seen], k, l)
    np.testing.assert_allclose(taught_p(found), wanted, atol=3e-6)
    if l == 0:
        np.testing.assert_allclose(wanted, weak_p(task), atol=1e-12)


def test_the_solver_at_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph in two parts, one row that no weight reaches, and a limit of iterations."""
    near = torch.tensor([[1], [0], [3], [2], [0]])
    similar = torch.tensor([[1.0], [1.0], [0.5], [0.5], [-0.2]])
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.25, 0.75]]).double()
    found = smoothed(y, near, similar, l=0.5)
    # of a pair: (I - S/2)^-1 / 2 = [2/3, 1/3; 1/3, 2/3]
    expected = [[2 / 3, 1 / 3], [1 / 3, 2 / 3], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0.25, 0.75]]
    assert found.numpy() == pytest.approx(np.array(expected))
    monkeypatch.setattr(graph, "MOST", 1)
    with pytest.raises(TrainError, match="smaller l"):
        smoothed(y, near, similar * torch.rand(5, 1, generator=torch.Generator().manual_seed(0)), l=0.9)


def test_relabelling_by_neighbours_is_their_mean_with_the_row_itself() -> None:
    task = student_world(n=150)
    found = student(task, "knn_relabel(k=6)")
    train, wanted = np.sort(found.split.train), weak_p(task)
    before = wanted.copy()
    for i, near in enumerate(nearest(task.features.numpy().astype(np.float64)[train], 5)):
        wanted[train[i]] = (before[train[i]] + sum(before[train[j]] for j in near)) / 6
    np.testing.assert_allclose(taught_p(found), wanted, atol=3e-6)
    np.testing.assert_allclose(taught_p(student(task, "knn_relabel(k=1)")), weak_p(task), atol=1e-6)


def test_clusters_whose_labels_err_at_random() -> None:
    """A probe with more weights than rows learns the errors; neighbours outvote them."""
    task = noisy_task(n=400, d=150, spread=0.9, noise=0.5)
    naive = accuracy(task, "weak", epochs=40)
    for supervision in ("smooth", "knn_relabel"):
        assert accuracy(task, supervision, epochs=40) > naive + 0.2, supervision


def test_rows_say_how_right_the_labels_became() -> None:
    task = noisy_task(n=200, d=60, spread=0.5, noise=0.5)
    found = student(task, "smooth")
    train = found.split.train
    truth = task.manifest.labels[train]
    [stage] = found.stages
    assert stage["acc_weak"] == pytest.approx((weak_p(task)[train].argmax(1) == truth).mean())
    assert stage["acc_refined"] == pytest.approx((taught_p(found)[train].argmax(1) == truth).mean())
    assert stage["acc_refined"] > stage["acc_weak"] + 0.3


@pytest.mark.parametrize("spec", ["smooth(l=1)", "smooth(k=0)", "smooth(gamma=1)", "knn_relabel(k=0)", "smooth(k=2.5)"])
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)
