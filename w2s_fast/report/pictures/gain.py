"""What a student gains, against how good its supervisor is."""

from __future__ import annotations

from matplotlib.figure import Figure

from w2s_fast.core.errors import DataError
from w2s_fast.report.pictures.style import SOFT, figure, looks, short
from w2s_fast.results.results import Results


def draw(results: Results, *, selection: str = "last") -> Figure:
    """A point per run: the weak model's accuracy and the student's accuracy less that, in percent and points."""
    rows = [
        r
        for r in results.rows
        if r.get("selection") == selection and r.get("acc_w2s") is not None and r.get("acc_weak") is not None
        and r.get("role", "student") == "student" and not r.get("method", "").startswith("ceiling")
    ]  # fmt: skip
    if not rows:
        raise DataError(f"there is no finished run under the selection {selection!r} to draw")
    style = looks(r.get("method", "") for r in rows)
    made, (axes,) = figure(1, width=4.6, height=3.2)
    for name, (colour, mark) in style.items():
        of = [r for r in rows if r.get("method") == name]
        pairs = [(100 * (r.get("acc_weak") or 0), 100 * (r.get("acc_w2s") or 0)) for r in of]
        axes.plot(
            [a for a, _ in pairs],
            [b - a for a, b in pairs],
            mark,
            color=colour,
            label=short(name),
            markersize=4,
            alpha=0.8,
        )
    axes.axhline(0, color=SOFT, linewidth=1)
    axes.set_xlabel("weak accuracy, %")
    axes.set_ylabel("gain of the student, points")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return made
