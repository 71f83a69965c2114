"""What a supervision is: it asks for fits, one round after another, and says which of them is the student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from w2s_fast import heads
from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.heads import Head
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequests


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


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a student is supervised; subclass it, write `requests`, and give `source` and `verified`.

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

    def requests(self, context: Context) -> FitRequests:
        """The rounds of fits; errors are `UsageError` and `DataError` with what is missing and how to give it."""
        raise NotImplementedError
