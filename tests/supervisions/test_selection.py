"""Selection: which rows each rule keeps, against loops; how long students train; symmetric noise, where it must win."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import QUICK, accuracy, noisy_task, student, unit, weak_p

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.results.outcome import Outcome
from w2s_fast.supervisions.selection import foremost
from w2s_fast.tasks.task import Task

RULES = ("select_confidence", "select_small_loss", "select_knn", "select_random")


def unsure(*, n: int = 150, k: int = 4, d: int = 6, seed: int = 0) -> Task:
    """Weak logits of all sizes."""
    rng = np.random.default_rng(seed)
    means, labels = rng.normal(size=(k, d)), np.arange(n) % k
    logits = 3 * rng.random((n, 1)) * np.eye(k)[labels] + rng.normal(size=(n, k))
    return Task.from_arrays(features=means[labels] + rng.normal(size=(n, d)), weak_logits=logits, labels=labels)


def best(score: dict[int, float], keep: float) -> set[int]:
    """The rows with the largest scores."""
    order = sorted(score, key=lambda row: -score[row])
    return set(order[: math.ceil(keep * len(order) - 1e-9)])


def rows_of(scored: Outcome) -> set[int]:
    rows = scored.fitted.train
    assert rows is not None and list(rows) == [r for r in scored.split.train if r in set(rows)], "in hold-train's order"
    return set(rows.tolist())


def test_confidence_keeps_the_surest() -> None:
    task = unsure()
    p = weak_p(task)
    scored = student(task, "select_confidence(keep=0.7)")
    assert rows_of(scored) == best({int(r): p[r].max() for r in scored.split.train}, 0.7)
    scored = student(task, "select_confidence(threshold=0.6)")
    assert rows_of(scored) == {int(r) for r in scored.split.train if p[r].max() >= 0.6}
    scored = student(task, "select_confidence(keep=0.5, per_class=True)")
    wanted: set[int] = set()
    for c in range(4):
        wanted |= best({int(r): p[r].max() for r in scored.split.train if p[r].argmax() == c}, 0.5)
    assert rows_of(scored) == wanted


def test_neighbours_keep_labels_near_those_around_them() -> None:
    task = unsure()
    p, x = weak_p(task), unit(task.features.numpy().astype(np.float64))
    for k in (7, 500):
        scored = student(task, f"select_knn(keep=0.6, k={k})")
        train = [int(r) for r in scored.split.train]
        score: dict[int, float] = {}
        for r in train:
            near = sorted((o for o in train if o != r), key=lambda o: -float(x[r] @ x[o]))[:k]
            mean = sum(p[o] for o in near) / len(near)
            score[r] = -sum(abs(p[r][c] - mean[c]) for c in range(4)) / 2
        assert rows_of(scored) == best(score, 0.6)


def test_small_losses_are_those_of_a_first_student() -> None:
    """The first student as the engine alone fits it, on all rows, for a part of the epochs."""
    task = unsure()
    scored = student(task, "select_small_loss(keep=0.6, first=0.5)", epochs=4)
    first = student(task, "weak", epochs=2)
    theta = first.fitted.fit.theta["last"]
    z = 10 * unit(task.features.numpy()) @ theta["weight"].numpy().T + theta["bias"].numpy()
    z = z.astype(np.float64)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    said = weak_p(task).argmax(1)
    assert rows_of(scored) == best({int(r): logp[r, said[r]] for r in scored.split.train}, 0.6)
    assert supervisions.make("select_small_loss").stages == 2


def test_random_rows_are_as_many_and_depend_on_the_run_seed() -> None:
    task = unsure()
    spec, settings = "select_random(keep=0.5)", {**QUICK, "epochs": 1}
    once, again = (w2s.fit(task, supervision=spec, seeds=2, split="fixed", **settings).fits for _ in range(2))
    assert [rows_of(a) for a in once] == [rows_of(b) for b in again]
    assert rows_of(once[0]) != rows_of(once[1])
    assert len(rows_of(once[0])) == math.ceil(0.5 * len(once[0].split.train))


def test_shares_are_counted_exactly_and_ties_go_to_the_earlier_row() -> None:
    assert foremost(np.zeros(10), 0.7, None).tolist() == [True] * 7 + [False] * 3
    assert foremost(np.array([1.0, 3.0, 2.0]), 0.01, None).tolist() == [False, True, False]
    label = np.array([0, 0, 1, 0, 1])
    assert foremost(np.array([5.0, 4, 0, 3, 1]), 0.5, label).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("rule", RULES)
def test_students_take_as_many_steps_as_on_all_rows(rule: str) -> None:
    task = unsure()
    for keep, epochs in ((0.3, 20 // 3), (0.9, 2), (1.0, 2)):
        scored = student(task, f"{rule}(keep={keep})")
        kept, total = len(rows_of(scored)), len(scored.split.train)
        assert scored.fitted.fit.run.epochs == 2 * total // kept == pytest.approx(epochs, abs=1)
        assert scored.stages[0]["epochs"] == scored.fitted.fit.run.epochs
    assert student(task, f"{rule}(keep=0.3, equal_iterations=False)").fitted.fit.run.epochs == 2
    full = student(task, f"{rule}(keep=0.3)", solver="lbfgs")
    assert full.stages[0]["epochs"] == full.resolved["epochs"]


def test_what_is_told_of_kept_labels() -> None:
    task = unsure()
    scored = student(task, "select_confidence(keep=0.4)")
    [told] = scored.stages
    train, kept = scored.split.train, rows_of(scored)
    right = {int(r): bool(weak_p(task)[r].argmax() == task.labels[int(r)]) for r in train}
    assert told["n_kept"] == len(kept) and told["keep_rate"] == len(kept) / len(train)
    assert told["precision_kept"] == pytest.approx(sum(right[r] for r in kept) / len(kept))
    assert told["recall_kept"] == pytest.approx(sum(right[r] for r in kept) / sum(right.values()))
    assert told["acc_weak"] == pytest.approx(sum(right.values()) / len(train))


@pytest.mark.parametrize("spec", ["select_knn(keep=0.5, k=30)", "select_small_loss(keep=0.5, first=0.3)"])
def test_symmetric_noise_is_left_out(spec: str) -> None:
    """Half of the labels are wrong at random, and a probe of many dimensions would learn them by heart."""
    task = noisy_task(n=900, d=60, spread=1.0, noise=0.5)
    [told] = student(task, spec, epochs=20).stages
    assert told["precision_kept"] > told["acc_weak"] + 0.2
    found = accuracy(task, spec)
    assert found > accuracy(task, "weak") + 0.1
    assert found > accuracy(task, "select_random(keep=0.5)") + 0.1


def test_confidence_leaves_out_what_is_unsure_and_wrong() -> None:
    rng = np.random.default_rng(0)
    n, k, d = 900, 4, 60
    means, labels = rng.normal(size=(k, d)), np.arange(n) % k
    wrong = rng.random(n) < 0.5
    said = np.where(wrong, (labels + rng.integers(1, k, n)) % k, labels)
    sure = np.where(wrong, rng.uniform(1, 4, n), rng.uniform(3, 6, n))
    task = Task.from_arrays(
        features=means[labels] + rng.normal(size=(n, d)), weak_logits=sure[:, None] * np.eye(k)[said], labels=labels
    )
    spec = "select_confidence(keep=0.4)"
    assert student(task, spec).stages[0]["precision_kept"] > 0.9
    assert accuracy(task, spec) > accuracy(task, "weak") + 0.1


def test_presets_of_selection() -> None:
    task, settings = unsure(), {"epochs": 1, "references": False}
    names = [f"{rule}+lp" for rule in RULES]
    rows = w2s.fit(task, method=names, **settings).rows
    assert {r["method"] for r in rows} == set(names) and {r["status"] for r in rows} == {"ok"}
    proto: Any = w2s.fit(noisy_task(n=90, d=6, spread=1, noise=0.1), method="cpl", supervision="select_knn", **settings)
    assert proto.rows[0]["status"] == "ok", "any head and loss"


def test_parameters_out_of_range_are_told() -> None:
    for text, word in (
        ("select_knn(k=0)", "k"),
        ("select_confidence(keep=0)", "keep"),
        ("select_random(keep=1.1)", "keep"),
        ("select_small_loss(first=0)", "first"),
        ("select_confidence(threshold=2)", "threshold"),
        ("select_knn(radius=1)", "radius"),
    ):
        with pytest.raises(SpecError, match=word):
            supervisions.make(text)
    with pytest.raises(UsageError, match="keeps no row"):
        student(unsure(), "select_confidence(threshold=1.0)")


def test_nothing_of_the_test_is_seen() -> None:
    """Weak labels and features of other rows than hold-train change nothing in what is kept."""
    task = unsure()
    scored = student(task, "select_knn(keep=0.5, k=9)")
    others = np.setdiff1d(np.arange(150), scored.split.train)
    x, z = task.features.numpy().copy(), task.weak_logits[0].numpy().copy()
    x[others], z[others] = 5.0, -z[others]
    moved = Task.from_arrays(features=x, weak_logits=z, labels=task.labels.numpy(), ids=task.ids)
    assert torch.equal(task.labels, moved.labels)
    assert rows_of(student(moved, "select_knn(keep=0.5, k=9)")) == rows_of(scored)
