"""Which methods are best and second best in a column of a table."""

from __future__ import annotations

from w2s_fast.results.summary import Table

BEST, SECOND = 1, 2


def ranks(table: Table) -> dict[tuple[str, str, int], int]:
    """(group, system, column) -> BEST or SECOND among a group's methods, per column that is not a count.

    Equal values share a rank, and no second follows a shared first. One method alone has no rank; references and
    ceilings have none, as they are not what is compared.
    """
    out: dict[tuple[str, str, int], int] = {}
    for group in table.groups:
        lines = [row for row in table.rows if row.group == group and row.kind == "method"]
        for at, column in enumerate(table.columns):
            known = [(value, row.system) for row in lines if (value := row.cells[at].value) is not None]
            if column.kind == "count" or len(known) < 2:
                continue
            falling = sorted({value for value, _ in known}, reverse=True)
            top = [system for value, system in known if value == falling[0]]
            out |= {(group, system, at): BEST for system in top}
            if len(top) == 1 and len(falling) > 1:
                out |= {(group, system, at): SECOND for value, system in known if value == falling[1]}
    return out
