"""How tables that stand beside a paper's are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.results.summary import Table

FORMATS = ("rich", "md", "csv")


def check_format(format: str, known: Sequence[str] = FORMATS) -> None:
    """Refuse an unknown format."""
    from w2s_fast.core.errors import UsageError, nearest

    if format not in known:
        raise UsageError(f"unknown format {format!r}{nearest(format, known)}")


def show_tables(say: Output, tables: Sequence[Table], *, format: str = "rich") -> None:
    """Comparisons on stdout: side by side for people, one tidy record per line and column for csv."""
    from w2s_fast.report.tables import to_csv, to_markdown

    check_format(format)
    for number, table in enumerate(tables):
        if say.json:
            say.lines(table.records())
        elif format == "csv":
            print("\n" * (number > 0) + to_csv(table), end="")
        else:
            for one in _readable(table):
                if format == "md":
                    print(to_markdown(one))
                else:
                    say.table(one)


def _readable(table: Table) -> list[Table]:
    """A comparison as one wide table per kind of number, a matrix as one table per method; notes under the last."""
    from w2s_fast.report.comparison import side_by_side

    names = {column.name for column in table.columns}
    wide = [side_by_side(table, c.name) for c in table.columns if f"paper_{c.name}" in names]
    groups = [
        replace(
            table,
            title=f"{table.title}, {group}",
            rows=tuple(replace(r, group="") for r in table.rows if r.group == group),
        )
        for group in table.groups
    ]
    parts = wide or groups
    return [*(replace(one, notes=()) for one in parts[:-1]), *parts[-1:]]
