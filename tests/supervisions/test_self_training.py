"""Students of themselves: against a loop of plain fits; noisy labels of which a probe fits half."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import accuracy, noisy_task, student, taught_p, weak_p
from supervision_worlds import student_world

from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, TrainError
from w2s_fast.heads import Start
from w2s_fast.losses import Supervision
from w2s_fast.tasks.task import Task
from w2s_fast.train import Run, fit_heads


def plain(task: Task, table: np.ndarray, rows: np.ndarray, epochs: int) -> np.ndarray:
    """softmax(z / tau_s) f64[N, k] of a linear head fitted on a table of probabilities."""
    split = task.splits(seed=0)
    run = Run(head="linear", loss="kd", schedule="linear(warmup=0.1)", epochs=epochs, batch_size=64)
    [fit] = fit_heads(
        task.features,
        [run],
        splits=[type("Rows", (), {"train": rows, "val": split.val, "test": split.test})],
        supervisions=[Supervision.from_probabilities(torch.from_numpy(table).float())],
        start=Start(k=len(task.classes), d=task.width),
        truth=task.labels,
    )
    theta = fit.theta["last"]
    x = 10 * torch.nn.functional.normalize(task.features, dim=-1)
    return (x @ theta["weight"].T + theta["bias"]).double().softmax(-1).numpy()


@pytest.mark.parametrize("hard", [False, True])
def test_each_student_is_taught_by_the_one_before(hard: bool) -> None:
    task = student_world(n=300)
    train, table = task.splits(seed=0).train, weak_p(task)
    for _ in range(2):
        table = plain(task, table, train, 2)
        table = np.eye(4)[table.argmax(1)] if hard else table
    found = student(task, f"self_train(hard={hard})", loss="kd")
    np.testing.assert_allclose(taught_p(found), table, atol=2e-5)
    assert [s["stage"] for s in found.stages] == [1, 2] and supervisions.make(found.supervision).stages == 3
    truth = task.manifest.labels[train]
    assert found.stages[1]["acc_labels"] == pytest.approx((table[train].argmax(1) == truth).mean())


@pytest.mark.parametrize("equal_steps", [False, True])
def test_retraining_takes_the_most_confident_rows(equal_steps: bool) -> None:
    task = student_world(n=300)
    train = task.splits(seed=0).train
    first = plain(task, weak_p(task), train, 2)
    count = math.ceil(0.25 * len(train))
    best = sorted(train, key=lambda i: -first[i].max())[:count]
    found = student(task, f"retrain_confident_like(keep=0.25, equal_steps={equal_steps})", loss="kd")
    rows = found.fitted.train
    assert rows is not None and sorted(rows) == sorted(best) and found.fitted.fit.resolved["n_train"] == count
    assert found.fitted.fit.run.epochs == (8 if equal_steps else 2)
    np.testing.assert_allclose(taught_p(found), np.eye(4)[first.argmax(1)], atol=1e-6)
    truth = task.manifest.labels
    right = [first[i].argmax() == truth[i] for i in best]
    assert found.stages[0]["precision_kept"] == pytest.approx(np.mean(right))


def test_noise_that_a_probe_half_fits() -> None:
    """Retraining on one's own labels drops errors that were not fitted, and the confident ones hold fewer still."""
    task = noisy_task(n=600, d=80, spread=1.4, noise=0.5)
    naive = accuracy(task, "weak")
    assert accuracy(task, "self_train(hard=True, rounds=4)") > naive + 0.1
    assert accuracy(task, "retrain_confident_like(keep=0.3, rounds=3)") > naive + 0.2


def test_rounds_of_one_method_share_their_first_students() -> None:
    import w2s_fast as w2s
    from w2s_fast.methods import run

    runs: list[int] = []
    real = run.fit_heads
    run.fit_heads = lambda x, given, **rest: runs.append(len(given)) or real(x, given, **rest)  # type: ignore[assignment]
    try:
        grid = {"epochs": 1, "batch_size": 64, "references": False, "head": "linear", "loss": "kd"}
        w2s.fit(student_world(n=150), supervision=["self_train(rounds=1)", "self_train(rounds=3)"], **grid)
    finally:
        run.fit_heads = real
    assert runs[0] == 1, "the student of the weak model is one fit"


@pytest.mark.parametrize("spec", ["self_train(rounds=0)", "self_train(keep=1)", "retrain_confident_like(keep=0)"])
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


def test_a_teacher_that_diverged_is_told() -> None:
    with pytest.raises(TrainError, match="learning rate"):
        student(student_world(n=150), "self_train", lr=1e38, solver="sgd")
