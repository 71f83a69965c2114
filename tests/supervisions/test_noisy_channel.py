"""The noisy channel: EM against loops; a weak model that calls things by each other's names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import accuracy, student, taught_p, unit, weak_p
from supervision_worlds import student_world

from w2s_fast import supervisions
from w2s_fast.core.errors import MissingText, SpecError
from w2s_fast.tasks.task import Task


def em(prior: np.ndarray, said: np.ndarray, b: float, iterations: int, smoothing: float) -> np.ndarray:
    """q after so many steps from p_0, in loops over rows and classes."""
    n, k = prior.shape
    q = np.array([p**b / (p**b).sum() for p in prior])
    for _ in range(iterations):
        t = np.full((k, k), smoothing / k)
        for x in range(n):
            for y in range(k):
                t[y, said[x]] += q[x, y]
        for y in range(k):
            t[y] /= t[y].sum()
        for x in range(n):
            q[x] = [prior[x, y] ** b * t[y, said[x]] for y in range(k)]
            q[x] /= q[x].sum()
    return q


def zero_shot(task: Task) -> np.ndarray:
    assert task.text is not None
    z = task.logit_scale * unit(task.features.numpy().astype(np.float64)) @ unit(task.text.numpy().astype(np.float64)).T
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def soft_world(n: int = 120) -> Task:
    task = student_world(n=n)
    return Task.from_arrays(
        features=task.features,
        weak_logits=task.weak_logits[0],
        labels=task.labels,
        text=task.text,
        logit_scale=8,
        ids=task.ids,
    )


@pytest.mark.parametrize("transductive", [False, True])
def test_posterior_is_em_by_loops(transductive: bool) -> None:
    task = soft_world()
    found = student(task, f"channel_em(b=0.7, iterations=4, smoothing=2.0, transductive={transductive})")
    seen = np.sort(np.concatenate([found.split.train, found.split.test] if transductive else [found.split.train]))
    wanted, said = weak_p(task), weak_p(task).argmax(1)
    wanted[seen] = em(zero_shot(task)[seen], said[seen], 0.7, 4, 2.0)
    np.testing.assert_allclose(taught_p(found), wanted, atol=2e-5)


def test_in_the_second_round_the_student_stands_for_zero_shot(monkeypatch: pytest.MonkeyPatch) -> None:
    from w2s_fast.supervisions.context import SharedCache

    task, said = soft_world(), []

    def keeping(self, fit, request=None, *, selection="last"):  # type: ignore[no-untyped-def]
        said.append(real(self, fit, request, selection=selection))
        return said[-1]

    real = SharedCache.log_probs
    monkeypatch.setattr(SharedCache, "log_probs", keeping)
    found = student(task, "channel_em(rounds=2, iterations=3)")
    rows = np.sort(found.split.train)
    wanted, weak = weak_p(task), weak_p(task).argmax(1)
    [first] = said
    wanted[rows] = em(first.double().exp().numpy()[rows], weak[rows], 1.0, 3, 1.0)
    np.testing.assert_allclose(taught_p(found), wanted, atol=2e-5)
    assert [stage["stage"] for stage in found.stages] == [1, 2]


def test_a_weak_model_that_calls_things_by_each_others_names() -> None:
    """Three of four labels are exchanged between two classes, so that most weak labels are wrong."""
    rng, k, d, n = np.random.default_rng(0), 4, 16, 500
    means, y = rng.normal(size=(k, d)), np.arange(n) % k
    x = means[y] + 0.7 * rng.normal(size=(n, d))
    said = np.where(rng.random(n) < 0.75, y ^ 1, y)
    text = means + 1.2 * rng.normal(size=(k, d))
    task = Task.from_arrays(features=x, weak_logits=4.0 * np.eye(k)[said], labels=y, text=text, logit_scale=10)
    assert accuracy(task, "channel_em") > accuracy(task, "weak") + 0.3


@pytest.mark.parametrize(
    "spec", ["channel_em(b=0)", "channel_em(iterations=0)", "channel_em(rounds=0)", "channel_em(smoothing=0)"]
)
def test_specs_out_of_range(spec: str) -> None:
    with pytest.raises(SpecError):
        supervisions.make(spec)


def test_without_text_it_says_so() -> None:
    task = student_world(n=100)
    bare = Task.from_arrays(features=task.features, weak_logits=task.weak_logits[0], labels=task.labels)
    with pytest.raises(MissingText, match="text features"):
        student(bare, "channel_em")


def test_certain_priors_and_labels_stay_finite() -> None:
    from w2s_fast.supervisions.noisy_channel import em as product_em

    q, t = product_em(
        torch.tensor([[0.0, -200.0], [-200.0, 0.0]]).double(), torch.tensor([1, 1]), b=1.0, iterations=5, smoothing=1e-3
    )
    assert torch.isfinite(q).all() and torch.isfinite(t).all() and q.argmax(1).tolist() == [0, 1]
