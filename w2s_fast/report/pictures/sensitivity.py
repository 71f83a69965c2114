"""Accuracy against one setting (as figure 2 of AdaptConf) or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.report.pictures.series import series
from w2s_fast.report.pictures.style import SOFT, figure, heat, looks, short
from w2s_fast.results.results import Results


def draw(results: Results, *, x: str = "tau_s", selection: str = "last", value: str = "acc_w2s") -> Figure:
    """One line per method and a panel per domain: mean and range over runs of `value` at each value of the setting `x`.

    Source: the manner of Guo et al. 2024 (arXiv 2402.03749), figure 2.
    """
    rows = _rows(results, (x,), selection=selection, value=value)
    lines = series(rows, (x,))
    style = looks(lines)
    domains = list(dict.fromkeys(r["domain"] for r in rows))
    made, panels = figure(len(domains), height=2.8)
    for axes, domain in zip(panels, domains, strict=True):
        for name, of in lines.items():
            by: dict[float, list[float]] = {}
            for r in of:
                if r["domain"] == domain:
                    by.setdefault(r[x], []).append(100 * r[value])
            at = sorted(by)
            means = [float(np.mean(by[one])) for one in at]
            below = [mean - min(by[one]) for one, mean in zip(at, means, strict=True)]
            above = [max(by[one]) - mean for one, mean in zip(at, means, strict=True)]
            colour, mark = style[name]
            axes.errorbar(at, means, yerr=[below, above], color=colour, marker=mark, markersize=4, capsize=2,
                          linewidth=1.2, label=short(name, 48))  # fmt: skip
        here = [r for r in rows if r["domain"] == domain]
        weak = [r["acc_weak"] for r in here if r.get("acc_weak") is not None]
        if weak:
            axes.axhline(100 * float(np.mean(weak)), color=SOFT, linestyle="--", linewidth=1, label="weak")
        values = by_values(here, x)
        if len(values) > 2 and values[0] > 0:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{one:g}" for one in values])
        axes.set_xticks([], minor=True)
        axes.set_title(short(domain))
        axes.set_xlabel(x)
        axes.set_ylabel("accuracy, %")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return made


def draw_map(
    results: Results, *, x: str = "tau_s", y: str = "lr", selection: str = "last", value: str = "acc_w2s"
) -> Figure:
    """A heat map per method: the mean over domains and runs of `value` at each pair of settings."""
    rows = _rows(results, (x, y), selection=selection, value=value)
    methods = series(rows, (x, y))
    made, panels = figure(len(methods))
    for axes, (method, here) in zip(panels, methods.items(), strict=True):
        across, down = by_values(here, x), by_values(here, y)
        cells: dict[tuple[float, float], list[float]] = {}
        for r in here:
            cells.setdefault((r[y], r[x]), []).append(100 * r[value])
        table = [[float(np.mean(cells[b, a])) if (b, a) in cells else float("nan") for a in across] for b in down]
        heat(axes, table, [f"{b:g}" for b in down], [f"{a:g}" for a in across], digits=1)
        axes.set_title(f"{short(method)}: accuracy, %")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return made


def by_values(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """The values of a setting, rising."""
    return sorted({r[key] for r in rows})


def _rows(results: Results, keys: tuple[str, ...], *, selection: str, value: str) -> list[dict[str, Any]]:
    """Student rows with numbers under all keys; equal runs count once."""
    students: list[Mapping[str, Any]] = [
        r
        for r in results.rows
        if r.get("selection") == selection and r.get("role", "student") == "student" and r.get(value) is not None
        and not str(r.get("method", "")).startswith("ceiling")
    ]  # fmt: skip
    if not students:
        raise DataError(f"there is no finished run with {value} under the selection {selection!r} to draw")
    for key in keys:
        if not any(isinstance(r.get(key), int | float) for r in students):
            known = sorted({k for r in students for k, v in r.items() if isinstance(v, int | float)})
            raise UsageError(f"no run has a number under {key!r}{nearest(key, known)}")
    return [dict(r) for r in students if all(isinstance(r.get(key), int | float) for key in keys)]
