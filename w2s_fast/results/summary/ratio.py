"""Means and ratios of means over runs and domains, as table cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from w2s_fast.core.intervals import Interval, Means
from w2s_fast.core.statistics import BELOW, EQUAL, MISSING, NOISE, gap_flag
from w2s_fast.results.summary.systems import Kept, Run
from w2s_fast.results.summary.table import EMPTY, Cell

SHORT = {BELOW: "ceiling < weak", EQUAL: "no gap", NOISE: "gap ≤ 2 SE", MISSING: "n/a"}
"""Flags as cells show them."""

Draw = Callable[[tuple[Run, ...]], Means | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Accuracies of one system, or differences of two, per run; `draw` gives the replicated means of some runs."""

    runs: Mapping[Run, float]
    kept: Kept | None = None
    draw: Draw | None = None

    @property
    def value(self) -> float:
        """The mean over runs; NaN without any."""
        return math.fsum(self.runs.values()) / len(self.runs) if self.runs else math.nan

    @property
    def means(self) -> Means | None:
        """The replicated means of its runs, or None where predictions of one are missing."""
        if self.kept is None or self.draw is None or not self.runs:
            return None
        order = self.kept.order(self.runs)
        covered = {run if run in self.runs else (run[0], None) for run in order}
        return self.draw(order) if covered == set(self.runs) else None

    def interval(self, of: Means | None = None) -> Interval | None:
        """The interval of its mean, or of another combination `of` means of the same runs."""
        means = self.means if of is None else of
        if means is None or self.kept is None:
            return None
        return self.kept.resamples(self.kept.order(self.runs)).interval(means)

    def minus(self, other: Score) -> Score:
        """The difference, on the runs that both have."""
        shared = {run: value - other.runs[run] for run, value in self.runs.items() if run in other.runs}

        def difference(runs: tuple[Run, ...]) -> Means | None:
            own = None if self.draw is None else self.draw(runs)
            others = None if other.draw is None else other.draw(runs)
            return None if own is None or others is None else own - others

        return Score(runs=shared, kept=self.kept, draw=difference)

    def only(self, runs: Iterable[Run]) -> Score:
        """The same on some of its runs."""
        wanted = set(runs)
        return replace(self, runs={run: value for run, value in self.runs.items() if run in wanted})


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratio:
    """The parts of one domain's PGR on the runs that have both: gain = w2s - base and gap = ceiling - base.

    of: how many runs there are to be had.
    """

    gain: Score
    gap: Score
    of: int

    @staticmethod
    def on_shared_runs(gain: Score, gap: Score) -> Ratio:
        """Gain and gap on the same runs, as a ratio of means over unlike ones would compare unlike things."""
        shared = [run for run in gain.runs if run in gap.runs]
        return Ratio(gain=gain.only(shared), gap=gap.only(shared), of=len(gain.runs))

    @property
    def note(self) -> str | None:
        """How many runs the ratio is of, where it is not of all."""
        return None if len(self.gain.runs) == self.of else f"{len(self.gain.runs)}/{self.of} runs"


def mean_cell(parts: Sequence[Score]) -> Cell:
    """The mean over domains of means over runs; domains share no items, so that their errors add in squares."""
    value = math.fsum(score.value for score in parts) / len(parts)
    intervals = [score.interval() for score in parts]
    if any(one is None for one in intervals):
        return Cell(value=value)
    half = math.sqrt(sum(one.half**2 for one in intervals if one is not None)) / len(parts)
    return Cell(value=value, low=value - half, high=value + half)


def ratio_cell(parts: Sequence[Ratio]) -> Cell:
    """PGR over domains: mean gain / mean gap, guarded by the gap's standard error, with the linearised interval.

    For one domain this is `Resamples.pgr`. Without kept predictions only a gap <= 0 is guarded.
    """
    if not all(part.gain.runs for part in parts):
        return EMPTY
    gain = math.fsum(part.gain.value for part in parts) / len(parts)
    gap = math.fsum(part.gap.value for part in parts) / len(parts)
    squares, gap_squares, whole = 0.0, 0.0, True
    for part in parts:
        gain_means, gap_means = part.gain.means, part.gap.means
        around = part.gap.interval()
        if gain_means is None or gap_means is None or around is None:
            whole = False
            break
        gap_squares += around.se**2
        if gap > 0:
            linear = part.gap.interval((gain_means - gap_means * (gain / gap)) * (1 / gap))
            squares += 0.0 if linear is None else linear.half**2
    flag = gap_flag(gap, math.sqrt(gap_squares) / len(parts) if whole else None)
    if flag is not None:
        return Cell(note=SHORT[flag])
    value, half = gain / gap, math.sqrt(squares) / len(parts)
    note = "; ".join(note for part in parts if (note := part.note)) or None
    return Cell(value=value, low=value - half, high=value + half, note=note) if whole else Cell(value=value, note=note)
