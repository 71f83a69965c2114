"""Overlap density: change points and kept rows against loops, and the paper's own kind of world."""

from __future__ import annotations

import numpy as np
import pytest
from cases import accuracy, student, unit, weak_p

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.diagnose.change_points import change_point
from w2s_fast.tasks.task import Task


def patterns(*, n: int = 1200, d: int = 40, seed: int = 0) -> tuple[Task, np.ndarray]:
    """Two classes with an easy and a hard pattern each: 0 easy only, 1 hard only, 2 both; the weak model sees the easy.

    Where there is none it is unsure, and its label is random.
    """
    rng = np.random.default_rng(seed)
    labels, kind = rng.integers(0, 2, n), rng.choice(3, n, p=[0.3, 0.4, 0.3])
    easy, hard = rng.normal(size=(2, 2, d))
    x = 0.5 * rng.normal(size=(n, 2 * d))
    x[:, :d] += np.where((kind != 1)[:, None], easy[labels], 0)
    x[:, d:] += np.where((kind != 0)[:, None], hard[labels], 0)
    said = np.where(kind == 1, rng.integers(0, 2, n), labels)
    sure = np.where(kind == 1, rng.uniform(0, 0.5, n), rng.uniform(3, 4, n))
    task = Task.from_arrays(features=x, weak_logits=sure[:, None] * np.eye(2)[said], labels=labels)
    return task, kind


def cut(values: np.ndarray) -> float:
    """Every cut in turn."""
    x = sorted(values.tolist())
    costs = {
        c: sum((v - np.mean(x[:c])) ** 2 for v in x[:c]) + sum((v - np.mean(x[c:])) ** 2 for v in x[c:])
        for c in range(2, len(x) - 1)
    }
    return x[min(costs, key=lambda c: costs[c])]


def test_change_points_are_those_of_every_cut() -> None:
    rng = np.random.default_rng(0)
    for n in (4, 5, 30, 61):
        values = np.concatenate([rng.normal(size=n // 2), 2 + rng.normal(size=n - n // 2)])
        assert change_point(values) == cut(values)
    assert change_point(1e6 + np.array([0.0, 0.1, 0.2, 5.0, 5.1])) == 1e6 + 5.0
    assert change_point(np.array([0.0, 0.1, 0.2, 0.3, 9.0])) == 0.3, "no part of one value"
    assert change_point(np.array([-9.0, 0.1, 0.2, 0.3, 0.4])) == 0.2
    with pytest.raises(UsageError, match="at least 4"):
        change_point(np.zeros(3))


def test_kept_rows_are_those_of_a_loop() -> None:
    task, _ = patterns(n=150, d=6)
    p, x = weak_p(task), unit(task.features.numpy().astype(np.float64))
    for keep in (None, 0.25):
        scored = student(task, "select_overlap" if keep is None else f"select_overlap(keep={keep})")
        train = [int(r) for r in scored.split.train]
        least = cut(np.array([p[r].max() for r in train]))
        hard = [r for r in train if p[r].max() < least]
        score = {r: max(float(x[r] @ x[h]) for h in hard) for r in train if r not in hard}
        if keep is None:
            second = cut(np.array(list(score.values())))
            wanted = {r for r, value in score.items() if value >= second - 1e-6}
        else:
            wanted = set(sorted(score, key=lambda r: -score[r])[: int(np.ceil(keep * len(train)))])
        rows = scored.fitted.train
        assert rows is not None and set(rows.tolist()) == wanted
        [told] = scored.stages
        assert told["n_hard"] == len(hard) and told["n_kept"] == len(wanted)


def test_rows_with_both_patterns_teach_the_hard_one() -> None:
    task, kind = patterns()
    scored = student(task, "select_overlap", epochs=20)
    rows = scored.fitted.train
    assert rows is not None and (kind[rows] == 2).mean() > 0.9
    assert scored.stages[0]["precision_kept"] > 0.97
    found = accuracy(task, "select_overlap")
    assert found > accuracy(task, "weak") + 0.1
    assert found > accuracy(task, "select_random(keep=0.3)") + 0.1


def test_the_preset_and_what_is_refused() -> None:
    [row] = w2s.fit(patterns(n=150, d=6)[0], method="select_overlap+lp", epochs=1, references=False).rows[:1]
    assert row["status"] == "ok"
    with pytest.raises(SpecError, match="keep"):
        supervisions.make("select_overlap(keep=0)")
    flat = Task.from_arrays(features=np.eye(60), weak_logits=np.eye(60)[:, :3] * 0, labels=np.arange(60) % 3)
    with pytest.raises(UsageError, match=r"equally sure.*select_knn"):
        student(flat, "select_overlap")
