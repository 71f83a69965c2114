"""What tests of supervisions share: a student with its fit request, mean accuracies, labels that err at random."""

from __future__ import annotations

from typing import Any

import numpy as np

import w2s_fast as w2s
from w2s_fast.results.outcome import Outcome
from w2s_fast.tasks.task import Task

QUICK: dict[str, Any] = {"loss": "ce", "head": "linear", "batch_size": 64, "epochs": 20, "references": False}


def student(task: Task, supervision: str, **arguments: Any) -> Outcome:
    """One student of seed 0, in a few steps."""
    return w2s.fit(task, supervision=supervision, **{**QUICK, "epochs": 2, **arguments}).fits[0]


def accuracy(task: Task, supervision: str, *, seeds: int = 2, **arguments: Any) -> float:
    """Mean accuracy on the test over seeds, under `last`."""
    results = w2s.fit(task, supervision=supervision, seeds=seeds, **{**QUICK, **arguments})
    return float(np.mean([row["acc_w2s"] for row in results.rows if row["selection"] == "last"]))


def weak_p(task: Task, seed: int = 0) -> np.ndarray:
    """softmax of the weak logits, f64[N, k]."""
    z = task.weak_logits[seed].numpy().astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def taught_p(scored: Outcome) -> np.ndarray:
    """The probabilities that supervised a student, f64[N, k]."""
    return scored.fitted.supervision.weak.double().softmax(-1).numpy()


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def flipped(labels: np.ndarray, k: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of which a share is another class at random."""
    wrong = rng.random(len(labels)) < share
    return np.where(wrong, (labels + rng.integers(1, k, len(labels))) % k, labels)


def noisy_task(*, n: int, d: int, spread: float, noise: float, k: int = 4, seed: int = 0, sure: float = 4.0) -> Task:
    """Gaussian classes; weak labels as sure as wrong, their errors at random."""
    rng = np.random.default_rng(seed)
    means, labels = rng.normal(size=(k, d)), np.arange(n) % k
    x = means[labels] + spread * rng.normal(size=(n, d))
    said = flipped(labels, k, noise, rng)
    return Task.from_arrays(features=x, weak_logits=sure * np.eye(k)[said], labels=labels, text=means)
