"""Correctness of the systems of one domain, checked against the rows that it claims to be of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.intervals import REPLICATES, Means, Resamples

Run = tuple[Any, Any]
"""(seed, weak seed)."""

TOLERANCE = 1e-6
"""Rows may have been rounded; one test item more or less is at least 1e-5."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Systems:
    """0/1 correctness of named systems on the same runs: everything that intervals need of one domain.

    Per run: `items` int64 [n_run], a `seeds` and a `weak_seeds` label; `correct` maps a system (`weak`, `zero-shot`,
    `fusion`, a method, a ceiling) to its bool [n_run] per run.
    """

    items: Sequence[NDArray[Any]]
    correct: Mapping[str, Sequence[NDArray[Any]]]
    seeds: Sequence[int]
    weak_seeds: Sequence[int | None]

    @property
    def runs(self) -> list[Run]:
        """(seed, weak seed) per run."""
        return list(zip(self.seeds, self.weak_seeds, strict=True))

    @property
    def one_test_set(self) -> bool:
        """Whether all runs test on the same items."""
        return all(np.array_equal(np.sort(run), np.sort(self.items[0])) for run in self.items)

    def only(self, runs: Sequence[Run]) -> Systems:
        """These runs alone, in this order; KeyError for a run that is not here."""
        place = {run: n for n, run in enumerate(self.runs)}
        at = [place[run] for run in runs]
        return Systems(
            items=[self.items[n] for n in at],
            correct={name: [c[n] for n in at] for name, c in self.correct.items() if len(c) == len(place)},
            seeds=[self.seeds[n] for n in at],
            weak_seeds=[self.weak_seeds[n] for n in at],
        )

    def resamples(self, *, replicates: int = REPLICATES, seed: int = 0) -> Resamples:
        """Bootstrap weights for these runs."""
        return Resamples(self.items, replicates=replicates, seed=seed, seeds=self.seeds, weak_seeds=self.weak_seeds)


class Kept:
    """Systems with their replicated means, each computed once, and only where its accuracies are those of the rows."""

    def __init__(self, systems: Systems, *, replicates: int = REPLICATES) -> None:
        self.systems = systems
        self.resamples = systems.resamples(replicates=replicates)
        self._accuracy = {
            name: np.array([run.mean() for run in runs]) for name, runs in systems.correct.items() if len(runs)
        }
        self._means: dict[tuple[str, ...], Means] = {}

    def find(self, names: Iterable[str], accuracy: Mapping[Run, float]) -> Means | None:
        """The first of `names` whose accuracy is that of the rows in every run, or None."""
        expected = self._expected(accuracy)
        if expected is None:
            return None
        for name in names:
            own = self._accuracy.get(name)
            if own is not None and np.abs(own - expected).max() <= TOLERANCE:
                return self._of((name,) * len(expected))
        return None

    def patchwork(self, names: Sequence[str], accuracy: Mapping[Run, float]) -> Means | None:
        """As `find`, but each run may be of another of `names`: the best ceiling is chosen anew for every seed."""
        expected = self._expected(accuracy)
        if expected is None:
            return None
        chosen: list[str] = []
        for run, value in enumerate(expected):
            fits = (n for n in names if n in self._accuracy and abs(self._accuracy[n][run] - value) <= TOLERANCE)
            name = next(fits, None)
            if name is None:
                return None
            chosen.append(name)
        return self._of(tuple(chosen))

    def _expected(self, accuracy: Mapping[Run, float]) -> NDArray[np.float64] | None:
        values = [accuracy.get(run, accuracy.get((run[0], None))) for run in self.systems.runs]
        return None if any(v is None for v in values) else np.array(values, np.float64)

    def _of(self, chosen: tuple[str, ...]) -> Means:
        if chosen not in self._means:
            runs = [self.systems.correct[name][run] for run, name in enumerate(chosen)]
            self._means[chosen] = self.resamples.means(runs)
        return self._means[chosen]
