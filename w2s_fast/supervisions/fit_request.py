"""What a supervision asks for, and what it gives back: fits, round after round, and the student at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast.core.specs import Spec
from w2s_fast.losses import Supervision
from w2s_fast.train import Fit

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRequest:
    """One fit that a supervision asks for; what is None is the run's own, or the task's.

    supervision: tables over all N rows. train: row numbers i[n] (default: hold-train). settings: fields of
    `core.settings.Settings` that differ, such as epochs. features f[N, e] stand for the task's, and text
    f[k, e] then for its text features; move turns raw task features [b, d] into them, so that the head can be taken out
    (None: it cannot). scored: whether hold-val and the test rows are read. Requests of one key, by students of the same
    head, loss, settings and seed, are the same fit, and are fitted once for the task.
    """

    supervision: Supervision
    head: Spec | None = None
    loss: Spec | Callable[..., Any] | None = None
    train: Rows | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    features: Tensor | None = None
    text: Tensor | None = None
    move: nn.Module | None = None
    scored: bool = True
    key: Hashable | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Student:
    """The end of a supervision: the student's fit, the request it came from, and what is to be logged with it.

    details: one JSON record per stage, such as {"level": 2, "keep_rate": 0.8}; it enters the row as it is.
    """

    fit: Fit
    request: FitRequest
    details: tuple[Mapping[str, Any], ...] = ()


FitRequests = Generator[Sequence[FitRequest], Sequence[Fit], Student]
"""Yields the fit requests of a round, is sent their fits in the same order, and returns what was taught."""
