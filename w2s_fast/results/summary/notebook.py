"""A table as the HTML that a notebook shows: every text escaped, nothing but a table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from w2s_fast.results.summary.table import Table


def to_html(table: Table) -> str:
    """A `<table>` with a heading per group, its notes below."""
    from w2s_fast.results.summary.table import text

    head = "".join(f"<th>{_shown(column.title)}</th>" for column in table.columns)
    out = [f"<table><caption>{_shown(table.title)}</caption><thead><tr><th>system</th>{head}</tr></thead><tbody>"]
    for group in table.groups:
        if group:
            out.append(f'<tr><th colspan="{len(table.columns) + 1}">{_shown(group)}</th></tr>')
        for row in table.rows:
            if row.group == group:
                cells = zip(table.columns, row.cells, strict=True)
                numbers = "".join(f"<td>{_shown(text(cell, column.kind))}</td>" for column, cell in cells)
                out.append(f"<tr><td>{_shown(row.system)}</td>{numbers}</tr>")
    notes = "".join(f"<li>{_shown(note)}</li>" for note in table.notes)
    return "\n".join([*out, "</tbody></table>", f"<ul>{notes}</ul>" if notes else ""])


def _shown(value: str) -> str:
    return escape("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value))
