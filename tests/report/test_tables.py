"""Markdown, CSV and LaTeX read back as the numbers of the table, whatever the systems are called."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_worlds import world

from w2s_fast.report.picture import to_svg
from w2s_fast.report.tables import to_csv, to_latex, to_markdown
from w2s_fast.results.summary import EMPTY, Cell, Column, Line, Table, summarise, text, wide

COLUMNS = (
    Column(name="accuracy", title="accuracy %", kind="accuracy"),
    Column(name="pgr", title="PGR", kind="ratio"),
    Column(name="runs", title="runs", kind="count"),
)


def small(system: str = "kd_lp", group: str = "clip|art") -> Table:
    cells = (Cell(value=0.5, low=0.4, high=0.6), Cell(note="gap ≤ 2 SE"), Cell(value=5))
    other = (Cell(value=0.75), Cell(value=-0.25), Cell(value=5))
    return Table(
        title="Results & more",
        columns=COLUMNS,
        rows=(
            Line(group=group, system=system, kind="method", cells=cells),
            Line(group=group, system="other", kind="method", cells=other),
        ),
        notes=("50 % of $5 & #1",),
    )


def test_markdown_by_hand() -> None:
    assert to_markdown(small()) == (
        "# Results & more\n\n## clip\\|art\n\n"
        "| system | accuracy % | PGR | runs |\n"
        "| :-- | --: | --: | --: |\n"
        "| kd\\_lp | 50.0 ±10.0 | gap ≤ 2 SE | 5 |\n"
        "| other | 75.0 | -0.25 | 5 |\n\n"
        "* 50 % of \\$5 & #1\n"
    )


def test_latex_by_hand() -> None:
    lines = to_latex(small()).splitlines()
    assert r"\caption{Results \& more}" in lines
    assert r"kd\_lp & \underline{50.0 $\pm$ 10.0} & gap $\le$ 2 SE & 5 \\" in lines
    assert r"other & \textbf{75.0} & $-$0.25 & 5 \\" in lines
    assert r"50 \% of \$5 \& \#1" in lines
    assert lines.count(r"\midrule") == 1


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_markdown_keeps_its_columns(system: str, group: str) -> None:
    rows = [line for line in to_markdown(small(system, group)).split("\n") if line.startswith("| ")]
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 5 for row in rows)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_latex_is_balanced_and_escaped(system: str, group: str) -> None:
    source = to_latex(small(system, group))
    bare = re.sub(r"\\[\\{}&%$#_]", "", source.replace(r" \\" + "\n", "\n"))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set("#~^_") & set(bare)
    body = [line for line in source.split("\n") if line.endswith(r" \\") and not line.startswith(r"\multicolumn")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 3 for line in body)
    assert [line for line in bare.split("\n") if "%" in line] == [line for line in bare.split("\n") if line[:1] == "%"]


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_csv_reads_back(system: str, group: str) -> None:
    table = small(system, group)
    first = next(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    for name, written in (("system", system), ("domain", group)):
        shown = "".join(c if c.isprintable() else " " for c in written)
        assert first[name] == ("'" + shown if shown.lstrip().startswith(("=", "+", "-", "@")) else shown)
    assert (float(first["accuracy"]), float(first["accuracy_low"])) == (0.5, 0.4)
    assert (first["pgr"], first["pgr_note"]) == ("", "gap ≤ 2 SE")


def test_csv_has_every_number_in_full() -> None:
    rows, systems = world(("clipart", "sketch"))
    table = summarise(rows, systems)
    read = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(read) == len(table.rows)
    for record, line in zip(read, table.rows, strict=True):
        for column, cell in zip(table.columns, line.cells, strict=True):
            assert record[column.name] == ("" if cell.value is None else str(cell.value))


def test_a_formula_is_not_given_to_a_spreadsheet() -> None:
    assert "'=1+1" in to_csv(small("=1+1"))
    assert "'  @x" in to_csv(small("\t\r@x"))
    assert "\n-0.25" not in to_csv(small())
    assert ",-0.25," in to_csv(small())


def test_markdown_has_every_cell() -> None:
    rows, systems = world(("clipart", "sketch"))
    table = summarise(rows, systems)
    written = to_markdown(table)
    for line in table.rows:
        assert all(text(cell, c.kind) in written for c, cell in zip(table.columns, line.cells, strict=True))
    assert all(f"* {note.split('.')[0][:20]}" in written.replace("\\", "") for note in table.notes)
    assert to_markdown(wide(table)).count("| cpl |") == 1


def test_the_best_is_bold_among_methods_alone() -> None:
    rows, systems = world()
    source = to_latex(summarise(rows, systems))
    assert re.search(r"^cpl & \\textbf", source, re.M)
    assert not re.search(r"^(best ceiling|fusion|kd\+lp) & \\textbf", source, re.M)


@pytest.mark.parametrize("write", [to_markdown, to_csv, to_latex, to_svg])
def test_every_format_is_a_function_of_a_table(write: Callable[[Table], str]) -> None:
    written = write(small())
    assert isinstance(written, str)
    assert written.endswith("\n")


def test_an_empty_table_is_still_a_table() -> None:
    table = Table(title="none", columns=COLUMNS, rows=())
    assert to_csv(table) == "domain,system,kind\n"
    assert to_markdown(table) == "# none\n"
    assert r"\bottomrule" in to_latex(table)
    assert EMPTY.half is None
