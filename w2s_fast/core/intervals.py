"""The crossed paired bootstrap: 95 % intervals for accuracies, differences and PGR over items, seeds and weak models.

One replicate draws one weight per item id, shared by every seed and every system, so that what two systems or two
seeds have in common cancels as it does in the data; the seeds' own variance is added in closed form. Resampling seeds
and then items within each seed (nested) would treat one test set as S independent ones, and covers far too little.
"""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import UsageError
from w2s_fast.core.statistics import Z975, FloatArray, as_correct, gap_flag, pgr, t_quantile

IntArray = NDArray[np.int64]
REPLICATES = 2000
_CHUNK = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval, in the unit of its estimate; `components` says what it covers: items, + seeds, + weak models."""

    estimate: float
    low: float
    high: float
    se: float
    components: str

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        bounds = f"95 % interval {self.low:.4f} to {self.high:.4f}"
        return f"{self.estimate:.4f} <small>({bounds}, over {html.escape(self.components)})</small>"


@dataclass(frozen=True, kw_only=True)
class AggregatePGR:
    """PGR over all runs: the ratio of means with its interval (None where flagged), and the median of the runs' own.

    `guarded` of the `runs` are left out of the median because their own gap does not exceed its noise.
    """

    value: float
    flag: str | None
    interval: Interval | None
    median: float
    guarded: int
    runs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """Means over test items per run, with their replicates; differences and multiples act on both at once."""

    values: tuple[FloatArray, ...]
    """Per run, one value per item [n_s]."""
    draws: FloatArray
    """Replicated means [replicates, S]."""

    @property
    def point(self) -> FloatArray:
        """The runs' means [S]."""
        return np.array([run.mean() for run in self.values])

    @property
    def mean(self) -> float:
        """The estimate: the mean over runs."""
        return float(self.point.mean())

    @property
    def paired_se(self) -> FloatArray:
        """Per run sd / sqrt(n) over its items [S]; infinite for a run of one item."""
        return np.array([run.std(ddof=1) / math.sqrt(run.size) if run.size > 1 else math.inf for run in self.values])

    def __sub__(self, other: Means) -> Means:
        values = tuple(a - b for a, b in zip(self.values, other.values, strict=True))
        return Means(values=values, draws=self.draws - other.draws)

    def __mul__(self, factor: float) -> Means:
        return Means(values=tuple(run * factor for run in self.values), draws=self.draws * factor)


class Resamples:
    """Bootstrap weights drawn once per item id, for any number of comparisons between systems on the same runs.

    `items` holds, per run, the item numbers int64 [n_s] of its test set: distinct within a run, and equal in two runs
    exactly where the item is the same. `seeds` and `weak_seeds` label the runs; by default each run is a seed of its
    own and all share one weak model. Weights are bootstrap counts over the union of the items (replicates x union
    bytes). Errors: `UsageError` for no run, a run without items, repeated items, or labels of another length.
    """

    def __init__(
        self,
        items: Sequence[NDArray[Any]],
        *,
        replicates: int = REPLICATES,
        seed: int = 0,
        seeds: Sequence[Hashable] | None = None,
        weak_seeds: Sequence[Hashable] | None = None,
    ) -> None:
        if replicates < 2:
            raise UsageError(f"{replicates} replicates give no interval; use at least 2, better {REPLICATES}")
        if len(items) == 0:
            raise UsageError("an interval needs at least one run; give the item numbers of each run's test set")
        self.replicates = replicates
        self.items = tuple(_item_numbers(run, number) for number, run in enumerate(items))
        self._factors, self.components = _factors(len(items), seeds, weak_seeds)
        self._groups, union = _columns(self.items)
        rng = np.random.default_rng(seed)
        self._weights = np.empty((replicates, union), np.uint8)
        for row in self._weights:
            # a count above 255 of one item has no probability worth naming, but must not wrap around
            row[:] = np.minimum(np.bincount(rng.integers(0, union, union), minlength=union), 255)
        self._totals = [
            _weighted_sums(self._weights, where, np.ones((self.items[runs[0]].size, 1), np.float32))
            for runs, where in self._groups
        ]

    def means(self, correct: Sequence[NDArray[Any]]) -> Means:
        """Accuracy per run, and its replicates, of one system from its 0/1 arrays [n_s] in the order of `items`."""
        given = [as_correct(run, what=f"run {number}") for number, run in enumerate(correct)]
        sizes, expected = [run.size for run in given], [run.size for run in self.items]
        if sizes != expected:
            raise UsageError(f"correctness has {sizes} items per run, but the runs' test sets have {expected}")
        draws = np.empty((self.replicates, len(given)), np.float64)
        for (runs, where), total in zip(self._groups, self._totals, strict=True):
            block = np.stack([given[run] for run in runs], 1).astype(np.float32)
            # a replicate can miss every item of a tiny fold; it then says nothing about that run
            drawn = np.broadcast_to(block.mean(0, dtype=np.float64), (self.replicates, len(runs))).copy()
            sums = _weighted_sums(self._weights, where, block)
            draws[:, runs] = np.divide(sums, total, out=drawn, where=total > 0)
        return Means(values=tuple(run.astype(np.float64) for run in given), draws=draws)

    def interval(self, delta: Means, *, estimate: float | None = None) -> Interval:
        """The interval of the mean over runs of `means(a)`, of `means(a) - means(b)`, or of another such combination.

        It is centred on `estimate` where that is given. se^2 = item + sum of e_f: the variance of the replicates
        (items) plus, per factor f (seeds, weak models) of g groups, e = max(0, b - null), b being the variance between
        groups over g, and null the mean over replicates of that of (delta^b - delta), what items alone would give.
        The quantile is Student's at Satterthwaite's degrees of freedom, se^4 / (item^2 / (items - 1) + sum of
        e b / (g - 1)): a smooth function of the components, so that another bootstrap seed moves the width by little.
        With e^2 in place of e b it covers too little, with b^2 too much: results/summary/INTERVALS.md has the coverage.
        """
        point = delta.point
        item = float(delta.draws.mean(1).var(ddof=1))
        variance, spread = item, item**2 / max(self._weights.shape[1] - 1, 1)
        for factor in self._factors:
            groups = factor.shape[1]
            between = float((point @ factor).var(ddof=1)) / groups
            null = float(((delta.draws - point) @ factor).var(axis=1, ddof=1).mean()) / groups
            excess = max(0.0, between - null)
            variance += excess
            spread += excess * between / (groups - 1)
        q = t_quantile(max(variance**2 / spread, 1.0)) if spread > 0 else Z975
        se = math.sqrt(variance)
        centre = float(point.mean()) if estimate is None else estimate
        return Interval(estimate=centre, low=centre - q * se, high=centre + q * se, se=se, components=self.components)

    def pgr(self, weak: Means, w2s: Means, ceiling: Means) -> AggregatePGR:
        """PGR over all runs: mean(w2s - weak) / mean(ceiling - weak), guarded by the crossed interval of the gap.

        Its interval is that of the linearised ratio ((w2s - weak) - PGR (ceiling - weak)) / gap, from the same
        replicates. The median is over the runs whose own gap exceeds two paired standard errors, sd(d) / sqrt(n).
        """
        gain, gap = w2s - weak, ceiling - weak
        single = [
            pgr(float(b), float(a), float(c), gap_se=float(se))
            for b, a, c, se in zip(weak.point, w2s.point, ceiling.point, gap.paired_se, strict=True)
        ]
        defined = [one.value for one in single if one.flag is None]
        flag = gap_flag(gap.mean, self.interval(gap).se)
        value, interval = math.nan, None
        if flag is None:
            value = gain.mean / gap.mean
            interval = self.interval((gain - gap * value) * (1 / gap.mean), estimate=value)
        return AggregatePGR(
            value=value,
            flag=flag,
            interval=interval,
            median=float(np.median(defined)) if defined else math.nan,
            guarded=len(single) - len(defined),
            runs=len(single),
        )


def _item_numbers(run: NDArray[Any], number: int) -> IntArray:
    array = np.asarray(run)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"run {number}: items are whole numbers of shape [n], not {array.dtype} {list(array.shape)}")
    if array.size == 0:
        raise UsageError(f"run {number} has no test item; leave it out or give it a test set")
    if np.unique(array).size != array.size:
        raise UsageError(f"run {number} names an item twice; number the items of a test set once each")
    return array.astype(np.int64)


def _factors(
    runs: int, seeds: Sequence[Hashable] | None, weak_seeds: Sequence[Hashable] | None
) -> tuple[list[FloatArray], str]:
    """Averaging matrices [S, groups], one per way of grouping the runs that varies, and the name of what varies."""
    seeds = range(runs) if seeds is None else seeds
    weak_seeds = [None] * runs if weak_seeds is None else weak_seeds
    components = ["items"]
    kept: dict[tuple[int, ...], FloatArray] = {}
    for name, labels in (("seeds", seeds), ("weak models", weak_seeds)):
        if len(labels) != runs:
            raise UsageError(f"{len(labels)} labels of {name} for {runs} runs; give one per run")
        place = {label: n for n, label in enumerate(dict.fromkeys(labels))}
        if len(place) < 2:
            continue
        components.append(name)
        group = np.array([place[label] for label in labels])
        member = (group[:, None] == np.arange(len(place))).astype(np.float64)
        # a weak model per seed is one factor, counted once: it cannot be told from the seed
        kept[tuple(group.tolist())] = member / member.sum(0)
    return list(kept.values()), " + ".join(components)


def _columns(items: Sequence[IntArray]) -> tuple[list[tuple[list[int], slice | IntArray]], int]:
    """Runs grouped by equal test sets, each with its columns among the weights (a slice if dense), and their number."""
    runs_of: dict[bytes, list[int]] = {}
    for run, numbers in enumerate(items):
        runs_of.setdefault(numbers.tobytes(), []).append(run)
    place: dict[int, int] = {}
    groups: list[tuple[list[int], slice | IntArray]] = []
    for runs in runs_of.values():
        numbers = items[runs[0]].tolist()
        where = np.array([place.setdefault(item, len(place)) for item in numbers], np.int64)
        dense = bool(np.all(np.diff(where) == 1))
        groups.append((runs, slice(int(where[0]), int(where[-1]) + 1) if dense else where))
    return groups, len(place)


def _weighted_sums(weights: NDArray[np.uint8], where: slice | IntArray, block: NDArray[np.float32]) -> FloatArray:
    """weights[:, where] @ block in float64, [replicates, columns of block].

    The products run in float32 and are exact: sums of 0/1 times counts are whole numbers, at most the draws per
    replicate, and a test set of 2^24 images is not in sight.
    """
    out = np.empty((weights.shape[0], block.shape[1]), np.float64)
    step = max(1, _CHUNK // block.shape[0])
    for start in range(0, weights.shape[0], step):
        out[start : start + step] = weights[start : start + step, where].astype(np.float32) @ block
    return out
