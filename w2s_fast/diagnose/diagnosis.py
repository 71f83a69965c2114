"""What a diagnostic gives: a plain table that says whether it read ground truth; and what a diagnostic is."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.subject import Subject

Value = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A plain table: `rows` hold one value per column (None: not applicable); fractions, never percent.

    `notes` say what the columns are; `reads_truth` says whether ground truth entered; `source` is the paper.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    reads_truth: bool = False
    source: str = ""

    def records(self) -> list[dict[str, Value]]:
        """One flat record per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Value]:
        """The values of one column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def to_csv(self) -> str:
        """The table as CSV with a header."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()

    def __str__(self) -> str:
        lines = [self.columns, *([shown(v) for v in row] for row in self.rows)]
        width = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        body = ["  ".join(v.ljust(w) for v, w in zip(line, width, strict=True)).rstrip() for line in lines]
        truth = " (reads ground truth)" if self.reads_truth else ""
        return "\n".join([self.title + truth, *body, *self.notes])


@dataclass(frozen=True, kw_only=True)
class Diagnostic(ABC):
    """One question about a subject, found by name (`diagnose.DIAGNOSTICS`); its fields are its options.

    `needs` names what the subject must hold, of `weak`, `labels`, `text`, `heads`, `students`, `spaces`: one that needs
    `labels` cannot be asked without ground truth. Others may add columns where there are labels, and say so.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[Limits] = {}
    source: ClassVar[str] = ""

    @abstractmethod
    def of(self, subject: Subject) -> Diagnosis:
        """The table; reads nothing but the subject."""


def shown(value: Value) -> str:
    """A value in few characters: four decimals, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    return str(value)


def rounded(value: Any) -> float | None:
    """A finite number as a float, anything else as None."""
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None
