"""Arrays mean what they are called: probabilities are no logits, a logarithm is no scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from w2s_fast.core.errors import DataError
from w2s_fast.tasks.task import Task

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(12, 4)), RNG.normal(size=(12, 3))
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
BASE: dict[str, Any] = {"features": X, "labels": np.arange(12) % 3}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"weak_logits": P}, "every row is positive and sums to 1, as probabilities do; give them as weak_probs="),
        ({"weak_logits": Z, "weak_probs": P}, "one of the two"),
        ({}, "one of the two"),
        ({"weak_probs": Z}, "weak_probs: row 0 is not a distribution"),
        ({"weak_probs": P * 100}, "weak_probs: row 0 is not a distribution"),
        ({"weak_logits": Z, "logit_scale": 4.6052}, "of a learned logarithm give its exp"),
        ({"weak_logits": Z, "logit_scale": float("nan")}, "between 1 and 1000"),
        ({"weak_logits": Z, "logit_scale": -100.0}, "between 1 and 1000"),
    ],
)
def test_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Task.from_arrays(**BASE, **given)


def test_probabilities_are_taken_as_they_are_with_zeros() -> None:
    p = P.copy()
    p[0] = [1, 0, 0]
    task = Task.from_arrays(**BASE, weak_probs={0: p, 1: P})
    torch.testing.assert_close(task.weak_logits[0].softmax(1), torch.from_numpy(p).float())
    assert task.weak_logits[0].isfinite().all()
