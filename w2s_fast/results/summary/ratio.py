"""Means and ratios of means over runs and domains, as table cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from w2s_fast.core.intervals import Means, Resamples
from w2s_fast.core.statistics import BELOW, EQUAL, MISSING, NOISE, gap_flag
from w2s_fast.results.summary.systems import Run
from w2s_fast.results.summary.table import EMPTY, Cell

SHORT = {BELOW: "ceiling < weak", EQUAL: "no gap", NOISE: "gap ≤ 2 SE", MISSING: "n/a"}
"""Flags as cells show them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Accuracies of one system, or differences of two, per run; `means` carries the interval where there can be one."""

    runs: Mapping[Run, float]
    means: Means | None = None

    @property
    def value(self) -> float:
        """The mean over runs; NaN without any."""
        return math.fsum(self.runs.values()) / len(self.runs) if self.runs else math.nan

    def minus(self, other: Score) -> Score:
        """The difference, on the runs that both have."""
        shared = {run: value - other.runs[run] for run, value in self.runs.items() if run in other.runs}
        means = self.means - other.means if self.means is not None and other.means is not None else None
        return Score(runs=shared, means=means)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratio:
    """The parts of one domain's PGR: gain = w2s - base and gap = ceiling - base."""

    gain: Score
    gap: Score
    resamples: Resamples | None


def mean_cell(parts: Sequence[tuple[Score, Resamples | None]]) -> Cell:
    """The mean over domains of means over runs; domains share no items, so that their errors add in squares."""
    value = math.fsum(score.value for score, _ in parts) / len(parts)
    squares = 0.0
    for score, resamples in parts:
        if score.means is None or resamples is None:
            return Cell(value=value)
        squares += resamples.interval(score.means).half ** 2
    half = math.sqrt(squares) / len(parts)
    return Cell(value=value, low=value - half, high=value + half)


def ratio_cell(parts: Sequence[Ratio]) -> Cell:
    """PGR over domains: mean gain / mean gap, guarded by the gap's standard error, with the linearised interval.

    For one domain this is `Resamples.pgr`. Without kept predictions only a gap <= 0 is guarded.
    """
    if not all(part.gain.runs and part.gap.runs for part in parts):
        return EMPTY
    gain = math.fsum(part.gain.value for part in parts) / len(parts)
    gap = math.fsum(part.gap.value for part in parts) / len(parts)
    known = [(p.gain.means, p.gap.means, p.resamples) for p in parts]
    squares, gap_squares, whole = 0.0, 0.0, True
    for gain_means, gap_means, resamples in known:
        if gain_means is None or gap_means is None or resamples is None:
            whole = False
            break
        gap_squares += resamples.interval(gap_means).se ** 2
        if gap > 0:
            linear = (gain_means - gap_means * (gain / gap)) * (1 / gap)
            squares += resamples.interval(linear).half ** 2
    flag = gap_flag(gap, math.sqrt(gap_squares) / len(parts) if whole else None)
    if flag is not None:
        return Cell(note=SHORT[flag])
    value, half = gain / gap, math.sqrt(squares) / len(parts)
    return Cell(value=value, low=value - half, high=value + half) if whole else Cell(value=value)
