"""How pictures look: colours that every common colour vision tells apart, shapes beside them, text that stays text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1f2430", "#5b6472", "#d5d9e0"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6472", "#000000")
"""Okabe and Ito's palette, in an order that starts with those that differ most in lightness."""
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
HEAT = "cividis"
"""Even in lightness, and alike to all colour vision."""
_RC: Any = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT, "axes.grid": True,
    "grid.color": FAINT, "grid.linewidth": 0.6, "legend.frameon": False, "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "w2s_fast", "figure.dpi": 100, "savefig.dpi": 300, "text.parse_math": False,
}  # fmt: skip


@contextmanager
def printed() -> Iterator[None]:
    """The style inside; names are shown as they are, never as formulae."""
    with mpl.rc_context(_RC):
        yield


def figure(panels: int, *, width: float = 3.4, height: float = 2.6, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, in inches each, and its axes; drawn without a window."""
    across = min(panels, columns)
    down = -(-panels // across)
    made = Figure(figsize=(width * across, height * down), layout="constrained")
    axes = made.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in axes[panels:]:
        spare.set_axis_off()
    return made, axes[:panels]


def short(name: str, most: int = 36) -> str:
    """A name that leaves room for what it names, on one line."""
    shown = "".join(c if c.isprintable() else " " for c in name)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour and mark, in order; beyond eight both repeat, out of step."""
    return {
        name: (COLOURS[n % len(COLOURS)], MARKS[(n + n // len(COLOURS)) % len(MARKS)])
        for n, name in enumerate(dict.fromkeys(names))
    }


def heat(
    axes: Axes, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], *, digits: int
) -> None:
    """A heat map with its numbers written in, dark on light and light on dark; NaN is left blank."""
    import numpy as np

    table = np.ma.masked_invalid(np.asarray(values, float))
    axes.imshow(table, cmap=HEAT, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), [short(one, 24) for one in columns], rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), [short(row) for row in rows])
    low, high = float(table.min()), float(table.max())
    for (i, j), value in np.ndenumerate(table):
        if not np.ma.is_masked(value):
            axes.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=8,
                      color="white" if float(value) < low + 0.55 * (high - low) else "black")  # fmt: skip


def save(made: Figure, path: Path) -> None:
    """Write SVG, PDF or PNG by the ending, whole or not at all, with no date in it."""
    kind = path.suffix.lstrip(".").lower()
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    out = io.BytesIO()
    made.savefig(out, format=kind, metadata=date)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(out.getvalue())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
