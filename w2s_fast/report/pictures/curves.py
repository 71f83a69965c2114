"""Accuracy by epoch, as figure 2 of CPL: do students overfit the weak labels?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.report.pictures.style import SOFT, figure, looks, short
from w2s_fast.results.results import Results


def draw(results: Results, *, curve: str = "acc_test") -> Figure:
    """One line per method, the mean over its runs with their range; the weak accuracy is dashed.

    Source: Cao et al., class prototypical learning, figure 2. Raises `DataError` for results read from a file, as
    curves are kept in the process that fitted, and `UsageError` for a curve that no run has.
    """
    if not results.fits:
        raise DataError("there are no curves: they live in the process that fitted; draw from what w2s.fit returned")
    by: dict[str, dict[str, list[np.ndarray]]] = {}
    for one in results.fits:
        if not one.ceiling:
            if curve not in one.curves:
                raise UsageError(f"{one.method} has no curve {curve!r}; it has {', '.join(one.curves)}")
            by.setdefault(one.domain, {}).setdefault(one.method, []).append(np.asarray(one.curves[curve], float))
    style = looks(name for of in by.values() for name in of)
    made, panels = figure(len(by))
    for axes, (domain, methods) in zip(panels, by.items(), strict=True):
        for name, runs in methods.items():
            length = min(map(len, runs))
            values = 100 * np.stack([run[:length] for run in runs])
            axes.plot(values.mean(0), color=style[name][0], label=short(name), marker=style[name][1], markersize=3,
                      markevery=max(1, length // 6), linewidth=1.4)  # fmt: skip
            if len(runs) > 1:
                axes.fill_between(range(length), values.min(0), values.max(0), color=style[name][0], alpha=0.15, lw=0)
        weak = [w for r in results.rows if r.get("domain") == domain and (w := r.get("acc_weak")) is not None]
        if weak:
            axes.axhline(100 * float(np.mean(weak)), color=SOFT, linestyle="--", linewidth=1, label="weak")
        axes.set_title(short(domain))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{curve}, %")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return made
