"""One self-contained SVG: per domain a panel, per system a dot with its 95 % interval, accuracy in percent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from w2s_fast.core.errors import DataError
from w2s_fast.report.svg import Canvas, fitted, text_width, wrapped
from w2s_fast.results.summary import BEST, Cell, Table, text
from w2s_fast.results.summary.notes import EQUAL_WEIGHT, PGR

PAPER, INK, SOFT, FAINT, STRIPE, BAND = "#ffffff", "#1f2430", "#5b6472", "#d5d9e0", "#f6f7f9", "#e6eef7"
# Okabe and Ito's vermillion and blue, and a grey: told apart by every common colour vision, and by shape as well
STYLE = {"reference": ("square", "#5b6472"), "method": ("circle", "#0072b2"), "ceiling": ("diamond", "#d55e00")}

MARGIN, LABEL_MAX, NUMBERS, RATIO, GUTTER = 24.0, 230.0, 84.0, 46.0, 30.0
PLOT = {1: 340.0, 2: 260.0, 3: 190.0}
"""Width of a plot by panels in a row."""
ROW, HEAD, FOOT, SIZE, SMALL, DOT = 21.0, 44.0, 44.0, 12.5, 11.0, 4.0
SCALE = "All panels have the same scale of points."
PGR_SHORT = "PGR: the ratio of means over runs, with the ceiling of the same head; – where the gap does not carry one."


@dataclass(frozen=True, kw_only=True)
class _Panel:
    domain: str
    x: float
    y: float
    plot: float
    low: float
    high: float

    def at(self, value: float) -> float:
        """Percent -> pixels, kept within the panel."""
        share = (value - self.low) / (self.high - self.low)
        return self.x + self.plot * min(1.0, max(0.0, share))


def to_svg(table: Table) -> str:
    """The picture of a summary table: systems as rows, domains as panels that share one scale of points.

    The shaded span of a panel runs from the weak model to the best ceiling, so that a dot's place in it is its PGR.
    Text is escaped, the sheet is opaque, nothing is loaded from elsewhere. Errors: `DataError` without an accuracy.
    """
    domains, systems = table.domains, table.systems
    ranges = {domain: _range(table, domain) for domain in domains}
    if not any(ranges.values()):
        raise DataError("there is no accuracy to draw; report on results that have finished runs")
    kinds = {row.system: row.kind for row in table.rows}
    label = min(LABEL_MAX, max(text_width(s, SIZE) for s in systems)) + 14
    columns = {1: 1, 2: 2, 4: 2}.get(len(domains), 3)
    plot = PLOT[columns]
    pitch = plot + NUMBERS + RATIO + GUTTER
    width = max(640.0, MARGIN + label + columns * pitch - GUTTER + MARGIN)
    canvas = Canvas()
    top = _header(canvas, table, width)
    height_of_row = HEAD + ROW * len(systems) + FOOT
    spans = _spans(ranges)
    lines = math.ceil(len(domains) / columns)
    for line in range(lines):
        y = top + line * height_of_row
        _labels(canvas, systems, kinds, x=MARGIN, y=y, width=label, right=width - MARGIN)
        for column, domain in enumerate(domains[line * columns : (line + 1) * columns]):
            low, high = spans[domain]
            panel = _Panel(domain=domain, x=MARGIN + label + column * pitch, y=y, plot=plot, low=low, high=high)
            _draw(canvas, table, panel, systems, kinds)
    bottom = _footer(canvas, table, width, top + lines * height_of_row)
    return canvas.document(width, bottom, title=table.title, description=_description(table), background=PAPER)


def _header(canvas: Canvas, table: Table, width: float) -> float:
    canvas.text(MARGIN, 36, fitted(table.title, 18, width - 2 * MARGIN), size=18, fill=INK, bold=True)
    x = MARGIN
    for kind, name in (("reference", "references"), ("method", "weak-to-strong methods"), ("ceiling", "ceilings")):
        shape, colour = STYLE[kind]
        canvas.line(x, 56, x + 20, 56, stroke=colour, width=2)
        for end in (x, x + 20):
            canvas.line(end, 52.5, end, 59.5, stroke=colour, width=1.5)
        canvas.mark(shape, x + 10, 56, size=DOT, fill=colour, stroke=PAPER, title=name)
        canvas.text(x + 27, 60, name, size=SMALL, fill=SOFT)
        x += 27 + text_width(name, SMALL) + 18
    canvas.rect(x, 49, 20, 14, fill=BAND)
    canvas.text(x + 27, 60, "from weak to best ceiling", size=SMALL, fill=SOFT)
    return 74.0


def _labels(
    canvas: Canvas, systems: tuple[str, ...], kinds: dict[str, str], *, x: float, y: float, width: float, right: float
) -> None:
    for n, system in enumerate(systems):
        row = y + HEAD + n * ROW
        if n % 2 == 0:
            canvas.rect(x - 8, row, right - x + 16, ROW, fill=STRIPE, radius=3)
        if n and kinds[system] != kinds[systems[n - 1]]:
            canvas.line(x - 8, row, right + 8, row, stroke=FAINT)
        shown = fitted(system, SIZE, width - 14)
        canvas.text(x, row + ROW / 2 + 4.4, shown, size=SIZE, fill=INK, bold=kinds[system] == "method")


def _draw(canvas: Canvas, table: Table, panel: _Panel, systems: tuple[str, ...], kinds: dict[str, str]) -> None:
    y0, y1 = panel.y + HEAD, panel.y + HEAD + ROW * len(systems)
    right = panel.x + panel.plot + NUMBERS + RATIO
    canvas.text(panel.x, panel.y + 32, fitted(panel.domain, 14, panel.plot), size=14, fill=INK, bold=True)
    canvas.text(panel.x + panel.plot + NUMBERS, panel.y + 32, "accuracy %", size=SMALL, fill=SOFT, anchor="end")
    canvas.text(right, panel.y + 32, "PGR", size=SMALL, fill=SOFT, anchor="end")
    weak, ceiling = (_percent(table.cell(panel.domain, s, "accuracy").value) for s in ("weak", BEST))
    if weak is not None and ceiling is not None and ceiling > weak:
        canvas.rect(panel.at(weak), y0, panel.at(ceiling) - panel.at(weak), y1 - y0, fill=BAND)
    step = _step(panel.high - panel.low)
    for n in range(math.ceil(panel.low / step - 1e-9), math.floor(panel.high / step + 1e-9) + 1):
        x = panel.at(n * step)
        canvas.line(x, y0, x, y1 + 4, stroke=FAINT)
        canvas.text(x, y1 + 17, f"{n * step:g}", size=SMALL, fill=SOFT, anchor="middle")
    canvas.line(panel.x, y1, panel.x + panel.plot, y1, stroke=SOFT)
    canvas.text(panel.x + panel.plot / 2, y1 + 32, "accuracy, %", size=SMALL, fill=SOFT, anchor="middle")
    best = _best(table, panel.domain)
    for n, system in enumerate(systems):
        y = y0 + (n + 0.5) * ROW
        cell = table.cell(panel.domain, system, "accuracy")
        if cell.value is None:
            note = fitted(cell.note or "n/a", SMALL, panel.plot - 8)
            canvas.text(panel.x + 4, y + 4, note, size=SMALL, fill=SOFT)
            continue
        _dot(canvas, panel, cell, y, kind=kinds[system], title=f"{panel.domain}, {system}: {text(cell, 'accuracy')} %")
        top = system in best
        canvas.text(
            panel.x + panel.plot + NUMBERS,
            y + 4.2,
            text(cell, "accuracy"),
            size=SMALL,
            fill=INK,
            anchor="end",
            bold=top,
        )
        ratio = table.cell(panel.domain, system, "pgr")
        shown = (
            "" if ratio.value is None and ratio.note is None else "–" if ratio.value is None else f"{ratio.value:.2f}"
        )
        canvas.text(right, y + 4.2, shown, size=SMALL, fill=INK if ratio.value is not None else SOFT, anchor="end")


def _dot(canvas: Canvas, panel: _Panel, cell: Cell, y: float, *, kind: str, title: str) -> None:
    shape, colour = STYLE[kind]
    if cell.low is not None and cell.high is not None:
        x1, x2 = panel.at(100 * cell.low), panel.at(100 * cell.high)
        canvas.line(x1, y, x2, y, stroke=colour, width=2)
        for end, x in ((100 * cell.low, x1), (100 * cell.high, x2)):
            if panel.low <= end <= panel.high:
                canvas.line(x, y - 3.5, x, y + 3.5, stroke=colour, width=1.5)
    canvas.mark(shape, panel.at(100 * (cell.value or 0.0)), y, size=DOT, fill=colour, stroke=PAPER, title=title)


def _footer(canvas: Canvas, table: Table, width: float, y: float) -> float:
    y += 16
    own = [SCALE] if len(table.domains) > 1 else []
    for note in [*own, *(PGR_SHORT if note == PGR else note for note in table.notes if note != EQUAL_WEIGHT)]:
        for line in wrapped(note, SMALL, width - 2 * MARGIN):
            canvas.text(MARGIN, y, line, size=SMALL, fill=SOFT)
            y += 15
        y += 3
    return y + 10


def _description(table: Table) -> str:
    told = [
        f"{row.group}, {row.system}: {text(row.cells[table.column('accuracy')], 'accuracy')}"
        for row in table.rows
        if row.group in table.domains
    ]
    return "Accuracy in percent with 95 % intervals. " + "; ".join(told)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _best(table: Table, domain: str) -> set[str]:
    """The methods of highest accuracy, of several."""
    at = table.column("accuracy")
    known = {row.system: row.cells[at].value for row in table.rows if row.group == domain and row.kind == "method"}
    values = [value for value in known.values() if value is not None]
    return {system for system, value in known.items() if len(values) > 1 and value == max(values)}


def _range(table: Table, domain: str) -> tuple[float, float] | None:
    """The percent that a domain's dots and intervals need, within 0 to 100."""
    at = table.column("accuracy")
    cells = [row.cells[at] for row in table.rows if row.group == domain]
    ends = [100 * end for c in cells if c.value is not None for end in (c.value, c.low, c.high) if end is not None]
    return (max(0.0, min(ends)), min(100.0, max(ends))) if ends else None


def _spans(ranges: dict[str, tuple[float, float] | None]) -> dict[str, tuple[float, float]]:
    """Equally long axes, each around its own domain's range."""
    span = min(100.0, 1.12 * max(2.0, *(r[1] - r[0] for r in ranges.values() if r)))
    out: dict[str, tuple[float, float]] = {}
    for domain, found in ranges.items():
        low, high = found or (0.0, 100.0)
        start = min(max(0.0, (low + high - span) / 2), 100.0 - span)
        out[domain] = (start, start + span)
    return out


def _step(span: float) -> float:
    """The distance between ticks, 1, 2 or 5 times a power of ten: at most seven of them."""
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
