"""PGR of every method on every domain, as a heat map."""

from __future__ import annotations

from matplotlib.figure import Figure

from w2s_fast.core.errors import DataError
from w2s_fast.report.pictures.style import figure, heat
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table


def draw(results: Results, *, selection: str = "last", table: Table | None = None) -> Figure:
    """Methods as rows, domains (and their mean) as columns; blank where the gap does not carry a PGR."""
    shown = results.table(selection=selection) if table is None else table
    values = {
        s: [shown.cell(g, s, "pgr").value for g in shown.groups]
        for s in shown.systems
        if any(shown.cell(g, s, "pgr").value is not None for g in shown.groups)
    }
    if not values:
        raise DataError("no gap carries a PGR, so there is none to draw")
    groups = list(shown.groups)
    made, (axes,) = figure(1, width=1.6 + 0.75 * len(groups), height=1.0 + 0.3 * len(values))
    heat(
        axes,
        [[float("nan") if v is None else v for v in row] for row in values.values()],
        list(values),
        groups,
        digits=2,
    )
    axes.set_title("performance gap recovered")
    return made
