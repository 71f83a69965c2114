"""Which systems and columns of a table are shown, in which order, and systems x domains."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.results.summary import Table, wide

LAYOUTS = ("blocks", "wide")


def arranged(table: Table, *, systems: Sequence[str] = (), columns: Sequence[str] = ()) -> Table:
    """The table of these systems and columns alone, in this order; globs are taken, nothing given keeps all.

    Raises `UsageError` for a name or glob that nothing meets.
    """
    if columns:
        kept = _chosen(columns, [c.name for c in table.columns], "column")
        at = [table.column(name) for name in kept]
        table = replace(
            table,
            columns=tuple(table.columns[i] for i in at),
            rows=tuple(replace(row, cells=tuple(row.cells[i] for i in at)) for row in table.rows),
        )
    if systems:
        order = {name: n for n, name in enumerate(_chosen(systems, list(table.systems), "system"))}
        rows = [row for row in table.rows if row.system in order]
        groups = {group: n for n, group in enumerate(table.groups)}
        table = replace(table, rows=tuple(sorted(rows, key=lambda row: (groups[row.group], order[row.system]))))
    return table


def pages(table: Table, *, layout: str) -> list[Table]:
    """The table in blocks, one per domain; or `wide`: a table of systems x domains per column, notes under the last.

    Lines without a number are left out of wide tables. A single domain has blocks alone.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}{nearest(layout, LAYOUTS)}")
    if layout == "blocks" or len(table.groups) < 2:
        return [table]
    out: list[Table] = []
    for column in table.columns:
        one = wide(table, column.name)
        rows = {row.system: row for row in one.rows if any(c.value is not None or c.note for c in row.cells)}
        order = dict.fromkeys(row.system for row in table.rows)
        out.append(replace(one, rows=tuple(rows[s] for s in order if s in rows), notes=()))
    return [*out[:-1], replace(out[-1], notes=table.notes)]


def _chosen(patterns: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    out: dict[str, None] = {}
    for pattern in patterns:
        # a name may hold brackets of its own, which a glob would take for a set
        met = [pattern] if pattern in known else [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not met:
            raise UsageError(f"the table has no {what} {pattern!r}{nearest(pattern, known)}")
        out |= dict.fromkeys(met)
    return list(out)
