"""The answer as one value: what an engine hands over to be scored, whatever it trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from w2s_fast.core.hashing import digest_json
from w2s_fast.data.splits import Split

ID_DIGITS = 16
"""Hex digits of a question's digest and of a run's id."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked of one or many runs, resolved: everything that decides a fit but its seeds and weak model.

    fields: JSON values under the names that tables show. They hold content (digests of banks, of labels, of a
    function's code) and no display name, so that equal questions are equal in any company.
    """

    fields: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the fields; whole numbers count alike as 2 and 2.0."""
        return digest_json(plain(self.fields))[:ID_DIGITS]


class Fitted(Protocol):
    """What came out of a fit: a head on cached features, or a whole network, under one selection."""

    @property
    def selections(self) -> Sequence[str]:
        """The selections under which there are parameters."""
        ...

    @property
    def card(self) -> Mapping[str, Any]:
        """What it is and where it comes from, as JSON."""
        ...

    def under(self, selection: str) -> Fitted:
        """The same under another selection."""
        ...

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each of these rows of its task, i[n]."""
        ...

    def to_torch(self) -> nn.Module:
        """A module from its inputs to logits."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write it with its card."""
        ...

    def export(self, path: str | Path) -> Path:
        """Write it for another program, where one can read it."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One finished run: what was asked, and what came out.

    Asked: `domain` and `method` are display names and nothing else; head, loss and supervision are as rows write them;
    `question` is without seeds; `weak_seed` is None for a ceiling. `ceiling_key` is what a student shares with the
    ceiling that measures it. `reads_truth` and `transductive` say whether ground truth or test images took part in
    training, `verified` whether every formula of it could be checked against its source.
    Came out: `predicted` i[n_test] on `split.test` and `selected_epoch`, keyed by selection; `curves` f64[epochs + 1]
    (`agree_val`, `acc_val`, `acc_test`, ...); `seconds` by what they were spent on, and `total`; `resolved` under the
    keys of a row (optimizer, lr, epochs, tau_s, n_train, init, precision, ...). A run that diverged has another status
    than `ok` and no predictions. `fitted` is None where nothing can be taken out.
    """

    domain: str
    method: str
    head: str
    loss: str
    loss_resolved: str
    supervision: str
    question: Question
    split: Split
    seed: int
    weak_seed: int | None
    status: str
    predicted: Mapping[str, NDArray[Any]]
    selected_epoch: Mapping[str, int]
    curves: Mapping[str, NDArray[np.float64]]
    seconds: Mapping[str, float]
    resolved: Mapping[str, Any]
    ceiling: bool = False
    ceiling_key: str | None = None
    reads_truth: bool = False
    transductive: bool = False
    verified: bool = True
    notes: Sequence[str] = ()
    stages: Sequence[Mapping[str, Any]] = ()
    weak_key: str | None = None
    fitted: Fitted | None = field(default=None, repr=False)

    @property
    def epochs(self) -> int:
        """Epochs that were trained: one less than the curves have points."""
        return len(next(iter(self.curves.values()))) - 1 if self.curves else 0

    def run_id(self, *, transductive: bool = False) -> str:
        """16 hex digits over the question, seeds, split, weak model and role: a repetition of the run has the same.

        transductive: whether it is ranked among students that saw test images, as a ceiling may be in both rankings.
        """
        role = "ceiling" if self.ceiling else "student"
        fields = [self.question.digest, self.seed, self.weak_seed, self.weak_key, self.split.digest, role, transductive]
        return digest_json(fields)[:ID_DIGITS]

    def at_selection(self, selection: str, curve: str) -> float | None:
        """A curve at the selected epoch; None where there is none."""
        epoch = self.selected_epoch.get(selection)
        value = np.nan if epoch is None or curve not in self.curves else float(self.curves[curve][epoch])
        return None if np.isnan(value) else float(value)

    def rise(self, curve: str) -> float | None:
        """By how much a curve rises over the last quarter of the epochs; None for runs of fewer than four."""
        values = self.curves.get(curve)
        if values is None or self.epochs < 4:
            return None
        risen = float(values[-1] - values[len(values) - 1 - self.epochs // 4])
        return None if np.isnan(risen) else risen


def plain(value: Any) -> Any:
    """A JSON value in which equal numbers are written alike: 2.0 as 2."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
