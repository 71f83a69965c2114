"""Small made-up tasks whose truth is known."""

import numpy as np

from w2s_fast.tasks.task import Task


def gaussian_task(*, n: int = 400, k: int = 5, d: int = 16, seed: int = 0, text: bool = True) -> Task:
    """Class means with noise; a weak model that is right about 65 % of the time; text features near the means."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * 1.2
    labels = np.arange(n) % k
    x = means[labels] + rng.normal(size=(n, d))
    said = np.where(rng.random(n) < 0.65, labels, rng.integers(0, k, n))
    logits = rng.normal(size=(n, k)) + 3.0 * np.eye(k)[said]
    prompts = means + rng.normal(size=(k, d)) * 0.8 if text else None
    return Task.from_arrays(
        features=x, weak_logits=logits, labels=labels, text=prompts, ids=[f"item-{i}" for i in range(n)]
    )
