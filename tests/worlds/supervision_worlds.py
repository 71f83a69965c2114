"""Small tasks for supervisions, and fits that are quick on them."""

from typing import Any

import numpy as np

from w2s_fast.tasks.task import Task

SHORT: dict[str, Any] = {"epochs": 6, "batch_size": 64, "references": False}


def student_world(
    *, n: int = 600, k: int = 4, d: int = 12, noise: float = 0.4, d_train: int = 0, seed: int = 0, spread: float = 1.0
) -> Task:
    """Gaussian classes; a weak model with symmetric label noise; the first `d_train` rows are D_train.

    The weak encoder's features ("weak/0") are the student's, noisier.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * 1.5
    labels = np.arange(n) % k
    x = means[labels] + spread * rng.normal(size=(n, d))
    said = np.where(rng.random(n) < noise, rng.integers(0, k, n), labels)
    logits = 3.0 * np.eye(k)[said] + 0.5 * rng.normal(size=(n, k))
    return Task.from_arrays(
        features=x,
        weak_logits=logits,
        labels=labels,
        text=means + 0.5 * rng.normal(size=(k, d)),
        ids=[f"item-{i}" for i in range(n)],
        d_train=np.arange(n) < d_train if d_train else None,
        encoders={"weak/0": x + rng.normal(size=(n, d))},
    )
