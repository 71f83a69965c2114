"""What a supervision is: it asks for fits, one round after another, and says which of them is the student."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast import heads
from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import Spec
from w2s_fast.data.splits import Split
from w2s_fast.heads import Head
from w2s_fast.losses import Supervision
from w2s_fast.methods.task import Task
from w2s_fast.train import Fit
from w2s_fast.train.solver import make_solver

if TYPE_CHECKING:
    from w2s_fast.methods.arms import Arm
    from w2s_fast.methods.presets import Method
    from w2s_fast.methods.teaching.desk import Desk

Rows = NDArray[np.int64]


def head_on_the_way(name: str, spec: str) -> Head:
    """The head of a supervision's own stage, which learns weak labels; `SpecError` where it starts from ground truth.

    name: of the supervision, for the message.
    """
    made = heads.make(spec)
    if getattr(made, "init_from", None) == "class_mean":
        raise SpecError(
            f"supervision {name!r}: head {spec!r} starts from ground truth, and what it learns are weak labels; "
            "use init='weak_mean'"
        )
    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """One fit that a supervision asks for; what is None is the arm's own, or the task's.

    supervision: tables over all N rows. train: row numbers i[n] (default: hold-train). settings: fields of
    `methods.settings.Settings` that differ, such as epochs. features f[N, e] stand for the task's, and text
    f[k, e] then for its text features; move turns raw task features [b, d] into them, so that the head can be taken out
    (None: it cannot). scored: whether hold-val and the test rows are read. Lessons of one key, by students of the same
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
class Taught:
    """The end of a supervision: the student's fit, the lesson it came from, and what is to be logged with it.

    details: one JSON record per stage, such as {"level": 2, "keep_rate": 0.8}; it enters the row as it is.
    """

    fit: Fit
    lesson: Lesson
    details: tuple[Mapping[str, Any], ...] = ()


Lessons = Generator[Sequence[Lesson], Sequence[Fit], Taught]
"""Yields the lessons of a round, is sent their fits in the same order, and returns what was taught."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pupil:
    """Whom a supervision teaches: one arm (method, settings, seed, supervisor) on one split of one task."""

    task: Task
    arm: Arm
    split: Split
    desk: Desk

    @property
    def weak(self) -> Supervision:
        """The supervision of this arm's own weak model, one object for all arms that share it."""
        return self.desk.weak(self.weak_seed)

    @property
    def weak_seed(self) -> int:
        """The number of this arm's weak model; the first that it is paired with where the arm names none."""
        given = self.arm.weak_seed
        return given if given is not None else self.task.pairs([self.arm.seed])[0][1]

    def seen(self, *, transductive: bool = False) -> Rows:
        """The unlabelled rows that methods may be fitted on, sorted: hold-train, and D'_test only if transductive."""
        parts = [self.split.train, self.split.test] if transductive else [self.split.train]
        return np.sort(np.concatenate(parts))

    def epochs(self, rows: int) -> int:
        """Epochs in which so many rows make as many steps as hold-train in E: int(E n / rows); E for full batches."""
        settings = self.arm.settings
        own = settings.epochs or 10
        if not rows or make_solver(settings.solver).full_batch:
            return own
        return own * len(self.split.train) // rows

    def kept(self, keep: NDArray[np.bool_]) -> Rows:
        """The rows of hold-train, in its order, where bool[N] `keep` is true."""
        return self.split.train[keep[self.split.train]]

    def generator(self, what: str) -> torch.Generator:
        """A stream of random numbers of its own for each purpose, from the run seed alone."""
        from w2s_fast.core.hashing import digest_json

        return torch.Generator().manual_seed(int(digest_json([what, self.arm.seed])[:15], 16))


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How a student is supervised; subclass it, write `lessons`, and give `source` and `verified`.

    `limits` is checked where specs are parsed. `stages` estimates how many fits as large as the student's it takes.
    `teachers` says how many weak models it needs at least. A supervision that may use test images has the field
    `transductive: bool = False`.
    """

    limits: ClassVar[Limits] = {}
    source: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    verified: ClassVar[bool] = False
    teachers: ClassVar[int] = 1
    truth: ClassVar[bool] = False
    """Whether students are shown ground truth of hold-train, so that `labels` losses and starts may read it."""

    @property
    def stages(self) -> int:
        return 1

    def check(self) -> None:
        """Raise `SpecError` for parameters that do not fit each other."""

    def check_method(self, method: Method) -> None:
        """Raise `UsageError` for a method whose loss or head cannot be taught in this way."""

    def lessons(self, pupil: Pupil) -> Lessons:
        """The rounds of fits; errors are `UsageError` and `DataError` with what is missing and how to give it."""
        raise NotImplementedError
