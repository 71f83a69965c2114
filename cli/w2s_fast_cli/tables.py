"""A result table on a terminal: one domain in full, several side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from w2s_fast.results.summary import Table, text, wide

if TYPE_CHECKING:
    from w2s_fast.results.summary import Line

PADDING = 3
"""Columns that rich leaves between two cells of such a box."""
STYLES = {"reference": "dim", "method": "", "ceiling": "italic"}


def rendered(table: Table, *, width: int = 140) -> RenderableType:
    """The table for rich in `width` characters: accuracy and PGR with 95 % intervals, ruled by kind of system."""
    if len(table.groups) == 1:
        parts = _grids(table, table.title, width)
    else:
        parts = [grid for column, title in _shown(table) for grid in _grids(wide(table, column), title, width)]
    notes = [Text(f"* {note}", style="dim") for note in table.notes]
    return Group(*parts, *notes)


def _shown(table: Table) -> list[tuple[str, str]]:
    names = {column.name: column.title for column in table.columns}
    return [(name, f"{names[name]} (with 95 % intervals)") for name in ("accuracy", "pgr") if name in names]


def _grids(table: Table, title: str, width: int) -> list[RichTable]:
    """The table in as few grids one above the other as `width` asks for: a name or a number is never broken for it."""
    rows = [row for row in table.rows if any(cell.value is not None or cell.note for cell in row.cells)]
    texts = [_cells(table, row) for row in rows]
    names = max((len(row.system) for row in rows), default=0) + PADDING + 1
    out: list[RichTable] = []
    for start, stop in _blocks(table, texts, width - names):
        grid = RichTable(title=Text(title, style="bold"), title_justify="left", header_style="bold", box=SIMPLE_HEAD)
        grid.add_column("", no_wrap=names < width // 2, overflow="fold")
        for column in table.columns[start:stop]:
            grid.add_column(Text(column.title), justify="right", overflow="fold", min_width=_longest(column.title))
        kind = ""
        for row, cells in zip(rows, texts, strict=True):
            if kind and row.kind != kind:
                grid.add_section()
            kind = row.kind
            # Text, never str: rich would take the brackets of `kd+lp[lr=0.01]` for markup
            numbers = [Text(cell, no_wrap=True) for cell in cells[start:stop]]
            grid.add_row(Text(row.system), *numbers, style=STYLES.get(row.kind, ""))
        out.append(grid)
    return out


def _blocks(table: Table, texts: list[list[str]], room: int) -> list[tuple[int, int]]:
    """Ranges of columns that fit into `room` characters, at least one column each."""
    out: list[tuple[int, int]] = []
    start, used = 0, 0
    for i, column in enumerate(table.columns):
        needed = max([_longest(column.title), *(len(line[i]) for line in texts)]) + PADDING
        if i > start and used + needed > room:
            out.append((start, i))
            start, used = i, 0
        used += needed
    return [*out, (start, len(table.columns))]


def _longest(words: str) -> int:
    return max(map(len, words.split()), default=0)


def _cells(table: Table, row: Line) -> list[str]:
    return [text(cell, column.kind) for column, cell in zip(table.columns, row.cells, strict=True)]
