"""A result table as plain data: cells with intervals and reasons, grouped per domain; every format renders this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.results.summary.notebook import to_html

KINDS = ("accuracy", "printed", "ratio", "count")
DIGITS = {"accuracy": (100, 1), "printed": (100, 2), "ratio": (1, 2)}
"""By what a value is multiplied where it is shown, and its decimals."""
MEAN = "mean of {} domains"
"""The group that averages the others."""
FLAG_LENGTH = 16
"""Reasons up to so many characters (`gap ≤ 2 SE`, `ceiling < weak`) are shown in their cell."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number with its 95 % interval, or None with the reason in `note`; fractions, never percent.

    `note` beside a value is a remark on it, such as how many seeds are left out.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None

    @property
    def half(self) -> float | None:
        """Half the interval's width, or None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


EMPTY = Cell()
"""Not applicable, as a PGR of the weak model itself."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds: `kind` is `accuracy` or `printed` (a paper's) in percent, `ratio` or `count`."""

    name: str
    title: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One system in one group; `kind` is `reference`, `method` or `ceiling`."""

    group: str
    system: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Lines in the order of groups (domains), then systems; `notes` say what the numbers and intervals are."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups in order of appearance."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def domains(self) -> tuple[str, ...]:
        """The groups without their mean."""
        return tuple(g for g in self.groups if not g.startswith(MEAN.partition("{}")[0]))

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, references first, then methods, then ceilings, each in order of appearance."""
        kinds = {row.system: row.kind for row in self.rows}
        return tuple(s for kind in ("reference", "method", "ceiling") for s, k in kinds.items() if k == kind)

    def cell(self, group: str, system: str, column: str) -> Cell:
        """One cell; `EMPTY` where the group has no such system. Errors: `UsageError` for an unknown column."""
        at = self.column(column)
        return next((r.cells[at] for r in self.rows if r.group == group and r.system == system), EMPTY)

    def column(self, name: str) -> int:
        """The place of a column, or a `UsageError` with the nearest names."""
        names = [column.name for column in self.columns]
        if name not in names:
            raise UsageError(f"the table has no column {name!r}{nearest(name, names)}")
        return names.index(name)

    def records(self) -> list[dict[str, Any]]:
        """One flat record per line: domain, system, kind, and per column its value, `_low`, `_high` and `_note`."""
        out: list[dict[str, Any]] = []
        for row in self.rows:
            record: dict[str, Any] = {"domain": row.group, "system": row.system, "kind": row.kind}
            for column, cell in zip(self.columns, row.cells, strict=True):
                record[column.name] = cell.value
                if column.kind != "count":
                    record |= {f"{column.name}_low": cell.low, f"{column.name}_high": cell.high}
                    record[f"{column.name}_note"] = cell.note
            out.append(record)
        return out

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        groups = {g: [[r.system, *_texts(self, r)] for r in self.rows if r.group == g] for g in self.groups}
        return to_html(self.title, [column.title for column in self.columns], groups, self.notes)

    def __str__(self) -> str:
        header = ["", *(column.title for column in self.columns)]
        body = [[row.system, *_texts(self, row)] for row in self.rows]
        width = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        lines = [self.title, ""]
        for group in self.groups:
            lines.append(_padded([group, *header[1:]], [max(width[0], len(group)), *width[1:]]))
            lines += [
                _padded(text, [max(width[0], len(group)), *width[1:]])
                for row, text in zip(self.rows, body, strict=True)
                if row.group == group
            ]
            lines.append("")
        return "\n".join([*lines, *self.notes])


def wide(table: Table, column: str = "accuracy") -> Table:
    """The same numbers as systems x groups: one column of `table`, with the groups as columns."""
    kept = table.columns[table.column(column)]
    kinds = {row.system: row.kind for row in table.rows}
    return Table(
        title=f"{table.title}: {kept.title}",
        columns=tuple(Column(name=group, title=group, kind=kept.kind) for group in table.groups),
        rows=tuple(
            Line(
                group="",
                system=system,
                kind=kinds[system],
                cells=tuple(table.cell(group, system, column) for group in table.groups),
            )
            for system in table.systems
        ),
        notes=table.notes,
    )


def text(cell: Cell, kind: str, *, plus_minus: str = " ±", empty: str = "–") -> str:
    """A cell in words: `73.1 ±0.9` (accuracy, percent), `0.84 ±0.12` (ratio), `5` (count), or a short flag for none.

    A reason that is a sentence (`n/a: the encoder has no text tower`) is `n/a` here; it stands in the table's notes.
    """
    if cell.value is None:
        return (cell.note if len(cell.note) <= FLAG_LENGTH else "n/a") if cell.note else empty
    if kind == "count":
        shown = f"{cell.value:g}"
    else:
        scale, digits = DIGITS[kind]
        shown = f"{cell.value * scale:z.{digits}f}"
        if cell.half is not None:
            shown += f"{plus_minus}{cell.half * scale:.{digits}f}"
    return f"{shown} ({cell.note})" if cell.note else shown


def _texts(table: Table, row: Line) -> list[str]:
    return [text(cell, column.kind) for column, cell in zip(table.columns, row.cells, strict=True)]


def _padded(line: Sequence[str], width: Sequence[int]) -> str:
    first = line[0].ljust(width[0])
    return "  ".join([first, *(t.rjust(w) for t, w in zip(line[1:], width[1:], strict=True))]).rstrip()
