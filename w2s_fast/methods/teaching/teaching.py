"""What a supervision is: it asks for fits, one round after another, and says which of them is the student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from w2s_fast import heads
from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.data.splits import Split
from w2s_fast.heads import Head
from w2s_fast.losses import Supervision
from w2s_fast.methods.settings import Settings
from w2s_fast.methods.task import Task
from w2s_fast.methods.teaching.desk import Desk
from w2s_fast.methods.teaching.lesson import Lesson, Lessons, Rows, Taught
from w2s_fast.train.solver import make_solver

__all__ = ["Lesson", "Lessons", "Pupil", "Rows", "Taught", "Teaching", "head_on_the_way"]


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
class Pupil:
    """Whom a supervision teaches: one run (method, settings, seed, weak model) on one split of one task.

    method, supervision: their names, for messages. given_weak_seed: None where the run names no weak model.
    """

    task: Task
    split: Split
    desk: Desk
    method: str
    supervision: str
    settings: Settings
    seed: int
    given_weak_seed: int | None

    @property
    def weak(self) -> Supervision:
        """The supervision of this run's own weak model, one object for all arms that share it."""
        return self.desk.weak(self.weak_seed)

    @property
    def weak_seed(self) -> int:
        """The number of this run's weak model; the first that it is paired with where the run names none."""
        given = self.given_weak_seed
        return given if given is not None else self.task.pairs([self.seed])[0][1]

    def seen(self, *, transductive: bool = False) -> Rows:
        """The unlabelled rows that methods may be fitted on, sorted: hold-train, and D'_test only if transductive."""
        parts = [self.split.train, self.split.test] if transductive else [self.split.train]
        return np.sort(np.concatenate(parts))

    def epochs(self, rows: int) -> int:
        """Epochs in which so many rows make as many steps as hold-train in E: int(E n / rows); E for full batches."""
        own = self.settings.epochs or 10
        if not rows or make_solver(self.settings.solver).full_batch:
            return own
        return own * len(self.split.train) // rows

    def kept(self, keep: NDArray[np.bool_]) -> Rows:
        """The rows of hold-train, in its order, where bool[N] `keep` is true."""
        return self.split.train[keep[self.split.train]]

    def generator(self, what: str) -> torch.Generator:
        """A stream of random numbers of its own for each purpose, from the run seed alone."""
        from w2s_fast.core.hashing import digest_json

        return torch.Generator().manual_seed(int(digest_json([what, self.seed])[:15], 16))


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
    several: ClassVar[bool] = False
    """Whether its tables hold all teachers side by side, for losses that read several."""
    truth: ClassVar[bool] = False
    """Whether students are shown ground truth of hold-train, so that `labels` losses and starts may read it."""

    @property
    def stages(self) -> int:
        return 1

    def check(self) -> None:
        """Raise `SpecError` for parameters that do not fit each other."""

    def lessons(self, pupil: Pupil) -> Lessons:
        """The rounds of fits; errors are `UsageError` and `DataError` with what is missing and how to give it."""
        raise NotImplementedError
