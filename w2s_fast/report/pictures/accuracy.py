"""Accuracies with their 95 % intervals, a panel per domain."""

from __future__ import annotations

from matplotlib.figure import Figure

from w2s_fast.core.errors import DataError
from w2s_fast.report.pictures.style import FAINT, SOFT, figure, short
from w2s_fast.results.results import Results
from w2s_fast.results.summary import BEST, Table

LOOKS = {"reference": (SOFT, "s"), "method": ("#0072b2", "o"), "ceiling": ("#d55e00", "D")}


def draw(results: Results, *, selection: str = "last", table: Table | None = None) -> Figure:
    """Systems as rows; the shaded span reaches from the weak model to the best ceiling."""
    shown = results.table(selection=selection) if table is None else table
    systems = [s for s in shown.systems if any(shown.cell(d, s, "accuracy").value is not None for d in shown.domains)]
    if not systems:
        raise DataError("there is no accuracy to draw; report on results that have finished runs")
    kinds = {row.system: row.kind for row in shown.rows}
    made, panels = figure(len(shown.domains), height=0.7 + 0.2 * len(systems))
    for axes, domain in zip(panels, shown.domains, strict=True):
        ends = [shown.cell(domain, s, "accuracy").value for s in ("weak", BEST)]
        if ends[0] is not None and ends[1] is not None and ends[1] > ends[0]:
            axes.axvspan(100 * ends[0], 100 * ends[1], color=FAINT, alpha=0.5, linewidth=0)
        for at, system in enumerate(systems):
            cell = shown.cell(domain, system, "accuracy")
            if cell.value is None:
                continue
            colour, mark = LOOKS[kinds[system]]
            if cell.low is not None and cell.high is not None:
                axes.plot([100 * cell.low, 100 * cell.high], [at, at], color=colour, linewidth=1.5)
            axes.plot(100 * cell.value, at, mark, color=colour, markersize=4.5)
        axes.set_yticks(range(len(systems)), [short(s) for s in systems])
        axes.invert_yaxis()
        axes.set_title(short(domain))
        axes.set_xlabel("accuracy, % (95 % intervals)")
    return made
