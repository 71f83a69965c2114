"""A table as Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from w2s_fast.report.ranking import BEST, SECOND, ranks
from w2s_fast.results.summary import Line, Table, text

_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\`*_{}[]<>|~$"})
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "≤": r"$\le$",
        "<": "$<$",
        ">": "$>$",
        "–": "--",
    }
)
_MINUS = re.compile(r"-(?=[\d.])")
_RANKED = {BEST: r"\textbf{{}}", SECOND: r"\underline{{}}"}
_LEADS = ("=", "+", "-", "@")
"""A text that begins so is a formula to a spreadsheet."""


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: one table per group under its heading, the notes as a list; ends with a newline."""
    out = [f"# {markdown_text(table.title)}", ""]
    for group in table.groups:
        if group:
            out += [f"## {markdown_text(group)}", ""]
        head = ["system", *(column.title for column in table.columns)]
        out += [_pipes(map(markdown_text, head)), "| :-- |" + " --: |" * len(table.columns)]
        out += [_pipes(map(markdown_text, _line(table, row))) for row in _of(table, group)]
        out.append("")
    out += [f"* {markdown_text(note)}" for note in table.notes]
    return "\n".join(out).rstrip() + "\n"


def to_csv(table: Table) -> str:
    r"""Tidy CSV, one line per system and group: full-precision fractions, `_low`, `_high`, `_note` beside each value.

    RFC 4180 with `\n` line ends; an empty field is not applicable. A name that a spreadsheet would take for a
    formula gets a leading apostrophe. Notes of the table are not in it.
    """
    records = table.records()
    buffer = io.StringIO()
    columns = list(records[0]) if records else ["domain", "system", "kind"]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_field(value) for value in record.values()])
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs table: a midrule and a heading per group, its best method in bold, the second underlined, notes below.

    Needs `booktabs`; text is escaped, so that it compiles whatever the systems are called.
    """
    width = len(table.columns) + 1
    out = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *(_latex(column.title) for column in table.columns)]) + r" \\",
    ]
    marks = ranks(table)
    for group in table.groups:
        out.append(r"\midrule")
        if group:
            out.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_latex(group)}}}}} \\")
        for row in _of(table, group):
            name, *numbers = (_latex(cell) for cell in _line(table, row, plus_minus=" ± "))
            numbers = [_MINUS.sub("$-$", cell) for cell in numbers]
            ranked = [_RANKED.get(marks.get((group, row.system, at), 0), "{}") for at in range(len(numbers))]
            cells = [name, *(mark.replace("{}", cell) for mark, cell in zip(ranked, numbers, strict=True))]
            out.append(" & ".join(cells) + r" \\")
    out += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        out += ["", r"\smallskip\begin{minipage}{\linewidth}\footnotesize"]
        out += [_latex(note) + (r" \\" if note is not table.notes[-1] else "") for note in table.notes]
        out.append(r"\end{minipage}")
    return "\n".join([*out, r"\end{table}"]) + "\n"


def _of(table: Table, group: str) -> list[Line]:
    return [row for row in table.rows if row.group == group]


def _line(table: Table, row: Line, *, plus_minus: str = " ±") -> list[str]:
    cells = zip(table.columns, row.cells, strict=True)
    return [row.system, *(text(cell, column.kind, plus_minus=plus_minus) for column, cell in cells)]


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown_text(value: str) -> str:
    return _plain(value).translate(_MARKDOWN)


def _latex(value: str) -> str:
    return _plain(value).translate(_LATEX)


def _field(value: object) -> object:
    if isinstance(value, str):
        shown = _plain(value)
        return "'" + shown if shown.lstrip().startswith(_LEADS) else shown
    return "" if value is None else value


def _plain(value: str) -> str:
    """The text on one line, without what no file should hold: control characters and lone surrogates."""
    return "".join(c if c.isprintable() else " " for c in value)
