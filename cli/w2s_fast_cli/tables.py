"""A result table on a terminal: one domain in full, several side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from w2s_fast.core.summary import Table, text, wide

if TYPE_CHECKING:
    from w2s_fast.core.summary import Line

STYLES = {"reference": "dim", "method": "", "ceiling": "italic"}


def rendered(table: Table) -> RenderableType:
    """The table for rich: accuracy and PGR with 95 % intervals, a rule between references, methods and ceilings."""
    if len(table.groups) == 1:
        parts = [_grid(table, table.title)]
    else:
        parts = [_grid(wide(table, column), title) for column, title in _shown(table)]
    notes = [Text(f"* {note}", style="dim") for note in table.notes]
    return Group(*parts, *notes)


def _shown(table: Table) -> list[tuple[str, str]]:
    names = {column.name: column.title for column in table.columns}
    return [(name, f"{names[name]} (with 95 % intervals)") for name in ("accuracy", "pgr") if name in names]


def _grid(table: Table, title: str) -> RichTable:
    grid = RichTable(title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD)
    grid.add_column("")
    for column in table.columns:
        grid.add_column(column.title, justify="right", no_wrap=True)
    kind = ""
    rows = [row for row in table.rows if any(cell.value is not None or cell.note for cell in row.cells)]
    for row in rows:
        if kind and row.kind != kind:
            grid.add_section()
        kind = row.kind
        grid.add_row(row.system, *_cells(table, row), style=STYLES.get(row.kind, ""))
    return grid


def _cells(table: Table, row: Line) -> list[str]:
    return [text(cell, column.kind) for column, cell in zip(table.columns, row.cells, strict=True)]
