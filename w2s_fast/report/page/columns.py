"""Tables as columns: a column of texts names each text once, so that ten thousand rows are small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from w2s_fast.report.page.document import visible

DIGITS = 5
"""Significant digits of a number on the page; the results file has them all."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, note: str = "") -> dict[str, Any]:
    """What the script shows as a table: `columns` with `values`, or with the `texts` that occur and `codes` into them.

    A column is one of numbers if all its values that are not None are numbers.
    """
    listed = [list(row) for row in rows]
    return {
        "title": visible(title),
        "note": visible(note),
        "rows": len(listed),
        "columns": [_column(name, [row[at] for row in listed]) for at, name in enumerate(columns)],
    }


def of_records(
    title: str, records: Sequence[Mapping[str, Any]], names: Sequence[str], *, note: str = ""
) -> dict[str, Any]:
    """The table of the columns `names` of records, without those that are None throughout."""
    used = [name for name in names if any(r.get(name) is not None for r in records)]
    return table(title, used, ([r.get(name) for name in used] for r in records), note=note)


def varying(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The names whose values differ among records, and name -> value of those that are the same in all of several."""
    out: list[str] = []
    same: dict[str, str] = {}
    for name in names:
        values = [r.get(name) for r in records]
        if len(values) > 1 and all(v == values[0] for v in values):
            if values[0] is not None:
                same[name] = str(values[0])
        else:
            out.append(name)
    return out, same


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    if known and all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return {"name": visible(name), "values": [None if v is None else _short(v) for v in values]}
    shown = ["" if v is None else visible(str(v)) for v in values]
    texts = {t: code for code, t in enumerate(dict.fromkeys(shown))}
    if len(texts) == len(shown):  # each its own: the place is the code
        return {"name": visible(name), "texts": shown, "codes": None}
    return {"name": visible(name), "texts": list(texts), "codes": [texts[t] for t in shown]}


def _short(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.{DIGITS}g}")
