"""Boosted teachers: weights and votes against a loop, and a problem that no linear head solves alone."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cases import QUICK, accuracy, student, taught_p

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, TrainError, UsageError
from w2s_fast.methods.options import FitOptions
from w2s_fast.methods.plan import Plan
from w2s_fast.methods.resolve import find
from w2s_fast.supervisions.boosting import EnsemW2SLike
from w2s_fast.supervisions.context import Context, SharedCache
from w2s_fast.tasks.task import Task


def arcs(*, n: int = 1500, d_train: int = 800, seed: int = 1) -> Task:
    """Six classes with two arcs of a circle each, one of them rarer: no linear head of the weak features knows both.

    The weak model is such a head (least squares). Strong features show class and arc: its errors can be learned.
    """
    rng = np.random.default_rng(seed)
    which = rng.choice(12, n, p=[0.12] * 6 + [0.28 / 6] * 6)
    labels = which % 6
    angle = (which + rng.uniform(0.05, 0.95, n)) * np.pi / 6
    weak = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    strong = np.concatenate([2 * np.eye(6)[labels], 3 * np.eye(12)[which], 0.3 * rng.normal(size=(n, 6))], axis=1)
    design = np.concatenate([weak, np.ones((n, 1))], axis=1)
    head, *_ = np.linalg.lstsq(design[:d_train], np.eye(6)[labels[:d_train]], rcond=None)
    return Task.from_arrays(
        features=strong,
        weak_logits=4 * np.eye(6)[(design @ head).argmax(1)],
        labels=labels,
        d_train=np.arange(n) < d_train,
        encoders={"weak/0": weak},
    )


def looped(predictions: list[np.ndarray], labels: np.ndarray, k: int) -> tuple[list[np.ndarray], list[float]]:
    """Weights of the rows before each round, summing to 1, and votes: SAMME as its paper lists it."""
    n = len(labels)
    w = [1 / n] * n
    before: list[np.ndarray] = []
    votes: list[float] = []
    for said in predictions:
        before.append(np.array(w))
        error = sum(w[i] for i in range(n) if said[i] != labels[i]) / sum(w)
        a = math.log((1 - error) / error) + math.log(k - 1)
        votes.append(a)
        w = [w[i] * math.exp(a) if said[i] != labels[i] else w[i] for i in range(n)]
        w = [x / sum(w) for x in w]
    return before, votes


@pytest.mark.parametrize("vote", ["hard", "soft"])
def test_rounds_are_those_of_a_loop(vote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up members in place of fitted heads."""
    rng = np.random.default_rng(2)
    n, k, marked = 60, 3, 25
    labels = np.arange(n) % k
    task = Task.from_arrays(
        features=rng.normal(size=(n, 4)),
        weak_logits=rng.normal(size=(n, k)),
        labels=labels,
        d_train=np.arange(n) < marked,
        encoders={"weak/0": rng.normal(size=(n, 5))},
    )
    tables = [torch.from_numpy(rng.normal(size=(n, k)) + np.eye(k)[labels]).float().log_softmax(-1) for _ in range(3)]
    [trial] = Plan.of(FitOptions(loss=("kd",), head=("linear",), references=False)).trials(task)
    shared = SharedCache(task, prior=None)
    said = iter(tables)
    monkeypatch.setattr(shared, "log_probs", lambda fit, request: next(said))
    context = Context(
        task=task, split=task.splits(seed=0), shared=shared, method=trial.method.name, supervision=trial.supervision,
        settings=trial.settings, seed=trial.seed, given_weak_seed=trial.weak_seed,
    )  # fmt: skip
    rounds = EnsemW2SLike(rounds=3, vote=vote).requests(context)
    fine: Any = SimpleNamespace(status="ok")
    asked = [next(rounds)[0]] + [rounds.send([fine])[0] for _ in range(3)]
    d_train = np.asarray(context.split.weak_train)
    before, votes = looped([t.numpy().argmax(1)[d_train] for t in tables], labels[d_train], k)
    for request, weights in zip(asked[:3], before, strict=True):
        assert (request.train == d_train).all() and not request.scored
        given = request.supervision.weight
        assert given is not None
        np.testing.assert_allclose(given.numpy()[d_train], weights * len(d_train), rtol=1e-5)
        assert (request.supervision.weak.argmax(-1).numpy() == labels).all()
        assert request.features is not None and request.features.shape[1] == 5
    wanted = np.zeros((n, k))
    for table, a in zip(tables, votes, strict=True):
        for i in range(n):
            one = table[i].exp().double().numpy()
            wanted[i] += a * (np.eye(k)[one.argmax()] if vote == "hard" else one)
    wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(asked[3].supervision.weak.exp().numpy(), wanted, atol=1e-6)


def test_existing_teachers_are_taken_best_first() -> None:
    rng = np.random.default_rng(4)
    n, k = 120, 3
    labels = np.arange(n) % k
    tables = {s: 2 * np.eye(k)[np.where(rng.random(n) < s, labels, rng.integers(0, k, n))] for s in (0.2, 0.7, 0.45)}
    task = Task.from_arrays(
        features=rng.normal(size=(n, 4)),
        weak_logits={0: tables[0.2]},
        labels=labels,
        d_train=np.arange(n) < 50,
        teachers={"b": tables[0.7], "c": tables[0.45]},
    )
    scored = student(task, "ensem_w2s_like(members='teachers', rounds=2)")
    told = scored.stages
    d_train = np.asarray(scored.split.weak_train)
    left, w, order = dict(enumerate(task.teachers.items())), np.full(len(d_train), 1 / len(d_train)), []
    votes = np.zeros((n, k))
    for _ in range(2):
        wrong = {j: table.numpy().argmax(1)[d_train] != labels[d_train] for j, (_, table) in left.items()}
        best = min(wrong, key=lambda j: w[wrong[j]].sum())
        name, table = left.pop(best)
        e = w[wrong[best]].sum()
        a = np.log((1 - e) / e) + np.log(k - 1)
        order.append((name, a))
        votes += a * np.eye(k)[table.numpy().argmax(1)]
        w = w * np.where(wrong[best], np.exp(a), 1)
        w /= w.sum()
    assert [(d["member"], d["weight"]) for d in told[:-1]] == [(name, pytest.approx(a)) for name, a in order]
    assert order[0][0] == "b"
    np.testing.assert_allclose(taught_p(scored), votes / votes.sum(1, keepdims=True), atol=1e-6)


def test_boosted_linear_heads_say_what_none_of_them_can() -> None:
    task = arcs()
    spec = "ensem_w2s_like(rounds=30, teacher_steps=130, teacher_lr=0.05)"
    boosted = student(task, spec, epochs=8)
    members, vote = boosted.stages[:-1], boosted.stages[-1]
    assert len(members) > 3 and vote["acc_vote"] > max(d["acc_member"] for d in members) + 0.12
    assert _accuracy(boosted) > accuracy(task, "weak", epochs=8) + 0.12


def test_many_who_err_alike_do_not_outvote_few_who_are_right() -> None:
    """Five teachers share their errors on two thirds of the rows; two are right on three quarters, each on its own."""
    rng = np.random.default_rng(0)
    n, k = 900, 5
    labels = np.arange(n) % k
    shared = np.where(rng.random(n) < 0.35, labels, (labels + 1) % k)
    good = [np.where(rng.random(n) < 0.75, labels, (labels + rng.integers(2, k, n)) % k) for _ in range(2)]
    tables = [4 * np.eye(k)[said] for said in [shared] * 5 + good]
    task = Task.from_arrays(
        features=np.eye(k)[labels] + 0.2 * rng.normal(size=(n, k)),
        weak_logits=tables[0],
        labels=labels,
        d_train=np.arange(n) < 300,
        teachers={f"other/{i}": table for i, table in enumerate(tables[1:])},
    )
    boosted = accuracy(task, "ensem_w2s_like(members='teachers', rounds=7)", seeds=1)
    assert boosted > accuracy(task, "ensemble", seeds=1) + 0.3 and boosted > accuracy(task, "weak", seeds=1) + 0.3


def _accuracy(scored: Any) -> float:
    labels = scored.fitted.task.manifest.labels[scored.split.test]
    return float((scored.predicted["last"] == labels).mean())


def test_boosting_ends_with_a_perfect_head_and_refuses_chance() -> None:
    rng = np.random.default_rng(0)
    n = 200
    labels = np.arange(n) % 2
    apart = Task.from_arrays(
        features=rng.normal(size=(n, 4)),
        weak_logits=np.eye(2)[labels] - 0.5,
        labels=labels,
        d_train=np.arange(n) < 80,
        encoders={"weak/0": 5 * np.eye(2)[labels]},
    )
    told = student(apart, "ensem_w2s_like").stages
    assert len(told) == 2 and told[0]["acc_weighted_d_train"] == 1 and math.isfinite(told[0]["weight"])
    wrong = Task.from_arrays(
        features=rng.normal(size=(n, 4)),
        weak_logits=np.eye(2)[1 - labels] - 0.5,
        labels=labels,
        d_train=np.arange(n) < 80,
        teachers={"b": np.eye(2)[1 - labels]},
    )
    with pytest.raises(TrainError, match="better than chance.*or give others"):
        student(wrong, "ensem_w2s_like(members='teachers')")


def test_the_preset_and_what_is_told() -> None:
    preset, short = find("ensem_w2s_like+lp"), "ensem_w2s_like(teacher_steps=20)"
    assert (str(preset.supervision), str(preset.head), preset.loss_name) == ("ensem_w2s_like", "linear", "kd")
    row = w2s.fit(arcs(n=300, d_train=150), supervision=short, **{**QUICK, "loss": "kd", "epochs": 1}).rows[0]
    assert row["status"] == "ok" and row["supervision"] == short
    assert not supervisions.find("ensem_w2s_like").verified
    assert supervisions.make("ensem_w2s_like(rounds=3)").stages == 4
    for text, word in (("rounds=0", "rounds"), ("members='all'", "boosted"), ("vote='loud'", "hard"), ("e=1", "'e'")):
        with pytest.raises(SpecError, match=word):
            supervisions.make(f"ensem_w2s_like({text})")
    bare = Task.from_arrays(features=np.eye(60), weak_logits=np.eye(60)[:, :3], labels=np.arange(60) % 3)
    with pytest.raises(UsageError, match=r"D_train.*Task.from_arrays\(d_train"):
        w2s.fit(bare, supervision="ensem_w2s_like", **QUICK)
    unseen = Task.from_arrays(
        features=np.eye(60), weak_logits=np.eye(60)[:, :3], labels=np.arange(60) % 3, d_train=np.arange(60) < 30
    )
    with pytest.raises(UsageError, match="no cached features"):
        w2s.fit(unseen, supervision="ensem_w2s_like", **QUICK)
