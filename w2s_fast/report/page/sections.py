"""Sections of a page as HTML: static tables, pictures, folded tables that the script draws, texts to copy."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from w2s_fast.report.page.document import text
from w2s_fast.report.ranking import BEST, ranks
from w2s_fast.results.summary import Table
from w2s_fast.results.summary import text as cell_text

MARKS = {BEST: "number best", 2: "number second"}


def section(key: str, title: str, *inside: str) -> str:
    """A section under a heading that can be linked to."""
    return f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{text(title)}</h2>\n' + (
        "\n".join(inside) + "\n</section>"
    )


def summary_table(table: Table) -> str:
    """A table of systems as rows; the best method of a column is marked, the second underlined."""
    marks = ranks(table)
    head = "".join(f'<th scope="col" class="number">{text(c.title)}</th>' for c in table.columns)
    lines: list[str] = []
    for group in table.groups:
        for row in (r for r in table.rows if r.group == group and any(c.value is not None or c.note for c in r.cells)):
            cells = "".join(
                f'<td class="{MARKS.get(marks.get((group, row.system, at), 0), "number")}">'
                f"{text(cell_text(cell, column.kind))}</td>"
                for at, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True))
            )
            name = row.system if not group else f"{group}: {row.system}"
            lines.append(f'<tr class="{row.kind}"><th scope="row">{text(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(table.title)}"><table>'
        f"<caption>{text(table.title)}</caption>"
        f'<thead><tr><th scope="col">system</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def notes(lines: Sequence[str]) -> str:
    """Remarks as a list."""
    return '<ul class="notes">' + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>" if lines else ""


def facts(pairs: Mapping[str, str]) -> str:
    """Names and values."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items()) + "</dl>"


def svg_figure(svg: str, alt: str, caption: str) -> str:
    """A picture as one element; nothing in it can run or load. Its numbers stand in a table of the page."""
    address = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    image = f'<img src="{address}" alt="{text(alt)}">'
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{text(alt)}, the picture">{image}</div>'
    return f"<figure>{frame}<figcaption>{text(caption)}</figcaption></figure>"


def drawn_table(key: str, *, data: str) -> str:
    """Where the script draws the table of the JSON block `data`."""
    return f'<div id="{key}" data-table="{data}"></div>'


def folded(title: str, *inside: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{text(title)}</summary>" + "\n".join(inside) + "</details>"


def to_copy(key: str, title: str, content: str) -> str:
    """A text with a button that copies it."""
    return folded(
        title,
        f'<button type="button" class="action" data-from="{key}">Copy</button>'
        f'<pre id="{key}" tabindex="0">{text_lines(content)}</pre>',
    )


def text_lines(content: str) -> str:
    """Escaped text that keeps its lines."""
    return "\n".join(text(line) for line in content.split("\n"))
