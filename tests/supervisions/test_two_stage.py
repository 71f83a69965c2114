"""Two stages: what is kept, what the first student relabels; labels that are wrong where the weak model is unsure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import accuracy, student, taught_p, unit, weak_p
from supervision_worlds import student_world

from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.tasks.task import Task


def consistency(task: Task, train: np.ndarray, by: str, k: int) -> dict[int, float]:
    """The score of each train row, by loops."""
    p, x = weak_p(task), unit(task.features.numpy().astype(np.float64))
    found: dict[int, float] = {}
    for i in train:
        label = int(p[i].argmax())
        if by == "confidence":
            found[int(i)] = p[i, label]
        elif by == "knn":
            near = sorted((j for j in train if j != i), key=lambda j: -float(x[i] @ x[j]))[:k]
            found[int(i)] = float(np.mean([p[j, label] for j in near]))
        else:
            named = sum(int(z.numpy()[i].argmax() == label) for z in task.teachers.values())
            found[int(i)] = 10 * named + p[i, label]
    return found


def with_teachers() -> Task:
    task, rng = student_world(n=200, noise=0.3), np.random.default_rng(1)
    labels = task.manifest.labels
    others = {f"t{m}": rng.normal(size=(200, 4)) + 1.0 * np.eye(4)[labels] for m in range(3)}
    weak = task.weak_logits[0].numpy() * rng.uniform(0.1, 1.5, (200, 1))  # as sure as not, whoever agrees
    return Task.from_arrays(features=task.features, weak_logits=weak, labels=labels, teachers=others, ids=task.ids)


@pytest.mark.parametrize("by", ["confidence", "knn", "agreement"])
@pytest.mark.parametrize("hard", [False, True])
def test_kept_rows_keep_their_labels_and_the_first_student_gives_the_others(
    by: str, hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from w2s_fast.supervisions.context import SharedCache

    task, said = with_teachers(), []

    def keeping(self, fit, request=None, *, selection="last"):  # type: ignore[no-untyped-def]
        said.append((fit, real(self, fit, request, selection=selection)))
        return said[-1][1]

    real = SharedCache.log_probs
    monkeypatch.setattr(SharedCache, "log_probs", keeping)
    found = student(task, f"two_stage(keep=0.3, by={by!r}, k=7, hard={hard})", loss="kd")
    train = found.split.train
    score = consistency(task, train, by, 7)
    count = math.ceil(0.3 * len(train))
    kept = sorted(score, key=lambda i: -score[i])[:count]
    [(first, p)] = said
    assert first.resolved["n_train"] == count and found.fitted.fit.resolved["n_train"] == len(train)
    wanted = weak_p(task)
    for i in train:
        if i not in kept:
            own = p[i].exp().numpy()
            wanted[i] = np.eye(4)[own.argmax()] if hard else own
    np.testing.assert_allclose(taught_p(found), wanted, atol=3e-6)
    truth = task.manifest.labels
    a, b = found.stages
    assert a["keep_rate"] == count / len(train)
    assert a["precision_kept"] == pytest.approx(np.mean([weak_p(task)[i].argmax() == truth[i] for i in kept]))
    rest = [i for i in train if i not in kept]
    assert b["acc_relabelled"] == pytest.approx(np.mean([wanted[i].argmax() == truth[i] for i in rest]))


def test_labels_that_are_wrong_where_the_weak_model_is_unsure() -> None:
    """Errors are written in features of their own, so that a student of all labels learns them."""
    rng, k, d, n = np.random.default_rng(0), 4, 12, 500
    means, y = 1.2 * rng.normal(size=(k, d)), np.arange(n) % k
    hard = rng.random(n) < 0.45
    said = np.where(hard, (y + 1) % k, y)
    x = np.hstack([means[y] + 0.4 * rng.normal(size=(n, d)), 4 * hard[:, None] * np.eye(k)[said]])
    z = np.where(hard[:, None], 1.5, 4.0) * np.eye(k)[said]
    task = Task.from_arrays(features=x, weak_logits=z, labels=y)
    assert accuracy(task, "two_stage", epochs=40) > accuracy(task, "weak", epochs=40) + 0.2


def test_lists_of_keep_share_no_first_stage_but_equal_ones_do() -> None:
    import w2s_fast as w2s

    task = student_world(n=150)
    grid = {"seeds": 1, "epochs": 1, "batch_size": 64, "references": False, "head": "linear"}
    results = w2s.fit(task, loss="kd", supervision="two_stage(keep=[0.2, 0.8], hard=[False, True])", **grid)
    kept = [row["stages"][0]["keep_rate"] for row in results.rows if row["selection"] == "last"]
    assert kept == pytest.approx([0.2, 0.2, 0.8, 0.8], abs=0.02) and len(results.fits) == 4


@pytest.mark.parametrize("spec", ["two_stage(keep=0)", "two_stage(by='vote')", "two_stage(keep=1.5)", "two_stage(k=0)"])
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


def test_agreement_needs_several_teachers() -> None:
    with pytest.raises(UsageError, match="--teachers"):
        student(student_world(n=100), "two_stage(by='agreement')")


def test_everything_kept_is_the_weak_model_alone() -> None:
    task = student_world(n=150)
    all_kept, naive = student(task, "two_stage(keep=1.0)"), student(task, "weak")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            all_kept.fitted.fit.theta["last"].values(), naive.fitted.fit.theta["last"].values(), strict=True
        )
    )
    assert all_kept.stages[1]["acc_discarded"] is None
