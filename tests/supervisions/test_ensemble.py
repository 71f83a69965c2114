"""Several teachers: their mixtures against a loop, all of them for raven and edl, and where each must win."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import QUICK, accuracy, flipped, student, taught_p, weak_p

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.supervisions.ensemble import mixture
from w2s_fast.tasks.task import Task


def several(*, n: int = 400, k: int = 4, d: int = 8, m: int = 3, noise: float = 0.4, seed: int = 0) -> Task:
    """m teachers that err independently and at random, the last two named by --teachers."""
    rng = np.random.default_rng(seed)
    means, labels = rng.normal(size=(k, d)), np.arange(n) % k
    tables = [
        4 * np.eye(k)[flipped(labels, k, noise, rng)] + rng.normal(size=(n, k)) * rng.uniform(0.1, 2, (n, 1))
        for _ in range(m)
    ]
    return Task.from_arrays(
        features=means[labels] + rng.normal(size=(n, d)),
        weak_logits={0: tables[0]},
        labels=labels,
        text=means,
        teachers={f"other/{i}": table for i, table in enumerate(tables[1:])},
    )


def test_mixtures_are_those_of_a_loop_over_rows() -> None:
    task = several(n=60)
    p = np.stack([weak_p(task)] + [_p(table.numpy()) for table in task.more_teachers.values()])
    for mode in ("uniform", "entropy"):
        weights = np.empty((60, 3))
        mixed = np.zeros((60, 4))
        for i in range(60):
            given = [1.0] * 3
            if mode == "entropy":
                given = [1 / (-sum(q * np.log(q) for q in p[j, i]) + 1e-8) for j in range(3)]
            for j in range(3):
                weights[i, j] = given[j] / sum(given)
                mixed[i] += weights[i, j] * p[j, i]
        scored = student(task, f"ensemble(mode='{mode}')")
        np.testing.assert_allclose(taught_p(scored), mixed, atol=1e-6)
        [told] = scored.stages
        train = scored.split.train
        assert told["teachers"] == ["weak/0", "other/0", "other/1"]
        np.testing.assert_allclose(told["weights"], weights[train].mean(0), atol=1e-6)
        labels = task.labels.numpy()[train]
        np.testing.assert_allclose(told["acc_teachers"], (p[:, train].argmax(-1) == labels).mean(1))
        assert told["acc_mixture"] == pytest.approx((mixed[train].argmax(-1) == labels).mean())


def _p(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_a_loss_of_several_teachers_is_shown_all_of_them() -> None:
    task = several(n=80)
    scored = student(task, "teachers", loss="raven(agree=0, lr_v=0.5)")
    table = scored.fitted.supervision.weak
    assert [tuple(table.shape), scored.fitted.supervision.teachers] == [(80, 3, 4), 3]
    for at, one in enumerate(task.teachers.values()):
        assert (table[:, at] == one).all()
    [told] = scored.stages
    assert told["weights"] == pytest.approx(scored.fitted.fit.learned["v"].tolist()) and sum(
        told["weights"]
    ) == pytest.approx(1, abs=1e-5)
    assert len(set(told["weights"])) == 3, "each has moved"
    assert student(task, "teachers", loss="edl").stages[0]["weights"] is None


def test_independent_teachers_together_are_better_than_one() -> None:
    """Where labels of one teacher are noise that a student of many dimensions learns by heart, five outvote it."""
    task = several(n=500, d=120, m=7, noise=0.55)
    alone = accuracy(task, "weak")
    assert accuracy(task, "ensemble") > alone + 0.15
    assert accuracy(task, "teachers", loss="raven(base='ce')") > alone + 0.15
    assert accuracy(task, "teachers", loss="edl") > alone + 0.15


def test_evidence_of_several_teachers_is_better_than_that_of_one() -> None:
    """The loss being the same, what is gained is gained by the other teachers (mean over three worlds)."""
    gains = []
    for seed in range(3):
        task = several(n=500, d=120, m=7, noise=0.55, seed=seed)
        gains.append(accuracy(task, "teachers", loss="edl") - accuracy(task, "weak", loss="edl"))
    assert np.mean(gains) > 0.06


def test_the_surer_teacher_of_each_row_is_followed_by_entropy() -> None:
    """Two are unsure and wrong in one way wherever the third, another on each row, is sure and right."""
    rng = np.random.default_rng(0)
    n, k, d = 600, 4, 8
    means, labels = rng.normal(size=(k, d)) * 2, np.arange(n) % k
    sure = rng.integers(0, 3, n)
    tables = [
        np.where((sure == m)[:, None], 9 * np.eye(k)[labels], 2.5 * np.eye(k)[(labels + 1) % k]) for m in range(3)
    ]
    task = Task.from_arrays(
        features=means[labels] + rng.normal(size=(n, d)),
        weak_logits={0: tables[0]},
        labels=labels,
        teachers={"b": tables[1], "c": tables[2]},
    )
    assert accuracy(task, "ensemble(mode='entropy')") > accuracy(task, "ensemble") + 0.4
    assert accuracy(task, "ensemble(mode='entropy')") > accuracy(task, "weak") + 0.4


def test_a_bad_teacher_loses_its_weight_and_a_uniform_mixture_follows_it() -> None:
    """As in tests/losses/test_raven.py, from the task down to the row's stages."""
    rng = np.random.default_rng(1)
    n, k, d = 4500, 5, 12
    means, labels = rng.normal(size=(k, d)), np.arange(n) % k

    def right(share: float, shifts: list[int]) -> np.ndarray:
        other = (labels + rng.choice(shifts, n)) % k
        return np.where(rng.random(n) < share, labels, other)

    tables = [1.4 * np.eye(k)[right(0.7, [1, 3, 4])] for _ in range(2)]
    task = Task.from_arrays(
        features=means[labels] + 0.8 * rng.normal(size=(n, d)),
        weak_logits={0: tables[0]},
        labels=labels,
        teachers={"bad": 9 * np.eye(k)[right(0.2, [2])], "good": tables[1]},
    )
    settings = {"head": "linear", "lr": 2e-3, "epochs": 10, "batch_size": 64, "references": False}
    learned = w2s.fit(task, loss="raven(lr_v=.3, agree=.3)", supervision="teachers", **settings)
    mixed = w2s.fit(task, loss="kd", supervision="ensemble", **settings)
    row, other = learned.rows[0], mixed.rows[0]
    [stage] = row["stages"] or [{}]
    assert dict(zip(stage["teachers"], stage["weights"], strict=True))["bad"] < 1e-3
    assert row["acc_w2s"] > other["acc_w2s"] + 0.4
    assert row["acc_w2s"] > stage["acc_teachers"][1] + 0.4


def test_presets_of_several_teachers() -> None:
    task = several(n=120)
    names = ["ensemble+lp", "ensemble_entropy+lp", "raven+lp", "edl+lp"]
    rows = w2s.fit(task, method=names, epochs=1, references=False).rows
    assert {r["method"] for r in rows} == set(names) and {r["status"] for r in rows} == {"ok"}
    assert {r["supervision"] for r in rows} == {"ensemble", "ensemble(mode='entropy')", "teachers"}


def test_what_cannot_be_mixed_is_told() -> None:
    with pytest.raises(SpecError, match="'best' is none of 'uniform', 'entropy'"):
        supervisions.make("ensemble(mode='best')")
    with pytest.raises(SpecError, match="modes"):
        supervisions.make("ensemble(modes='uniform')")
    task = several(n=60)
    with pytest.raises(UsageError, match=r"loss ce takes one teacher.*--supervision ensemble.*--loss edl raven"):
        student(task, "teachers")
    lone = Task.from_arrays(features=np.eye(60), weak_logits=np.eye(60)[:, :3], labels=np.arange(60) % 3)
    for supervision, loss in (("ensemble", "kd"), ("teachers", "edl")):
        with pytest.raises(UsageError, match=r"1 weak model.*--teachers"):
            w2s.fit(lone, supervision=supervision, **{**QUICK, "loss": loss})


def test_the_weights_of_teachers_that_are_almost_certain() -> None:
    """1 / (H + 1e-8): entropies of 1e-5 and 1e-3 weigh as they are, not as if a larger guard were between them."""
    tables = [torch.tensor([[14.0, 0.0, 0.0]]), torch.tensor([[9.0, 0.0, 0.0]])]
    v = []
    for table in tables:
        p = np.exp(table.double().numpy()[0]) / np.exp(table.double().numpy()[0]).sum()
        v.append(1 / (-(p * np.log(p)).sum() + 1e-8))
    _, weights = mixture(tables, mode="entropy")
    assert weights[0].tolist() == pytest.approx([one / sum(v) for one in v], rel=1e-5)
