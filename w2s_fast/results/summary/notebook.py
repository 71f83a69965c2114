"""A table of texts as the HTML that a notebook shows: every text escaped, nothing but a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def to_html(
    title: str, columns: Sequence[str], groups: Mapping[str, Iterable[Sequence[str]]], notes: Sequence[str]
) -> str:
    """A `<table>` with a heading per group that has a name, its lines (a name, then a text per column), notes below."""
    head = "".join(f"<th>{_shown(column)}</th>" for column in columns)
    out = [f"<table><caption>{_shown(title)}</caption><thead><tr><th>system</th>{head}</tr></thead><tbody>"]
    for group, lines in groups.items():
        if group:
            out.append(f'<tr><th colspan="{len(columns) + 1}">{_shown(group)}</th></tr>')
        out += ["<tr>" + "".join(f"<td>{_shown(cell)}</td>" for cell in line) + "</tr>" for line in lines]
    remarks = "".join(f"<li>{_shown(note)}</li>" for note in notes)
    return "\n".join([*out, "</tbody></table>", f"<ul>{remarks}</ul>" if remarks else ""])


def _shown(value: str) -> str:
    return escape("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value))
