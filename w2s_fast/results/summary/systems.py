"""Correctness of the runs of one domain, found by the ids that rows name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """0/1 correctness on the same runs: everything that intervals need of one domain.

    Per run: `items` int64 [n_run], a `seeds` and a `weak_seeds` label; `correct` maps a line of the table (`weak`,
    `zero-shot`, `fusion`, a method, a ceiling) that has all of the runs to its bool [n_run] per run; `answers` maps the
    id of a run to its bool [n_run].
    """

    items: Sequence[NDArray[Any]]
    correct: Mapping[str, Sequence[NDArray[Any]]]
    seeds: Sequence[int]
    weak_seeds: Sequence[int | None]
    answers: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, "NDArray[Any]"])

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
            answers=self.answers,
        )

    def resamples(self, *, replicates: int = REPLICATES, seed: int = 0) -> Resamples:
        """Bootstrap weights for these runs."""
        return Resamples(self.items, replicates=replicates, seed=seed, seeds=self.seeds, weak_seeds=self.weak_seeds)


class Kept:
    """Systems with their replicated means, each computed once for the runs that it is asked for."""

    def __init__(self, systems: Systems, *, replicates: int = REPLICATES) -> None:
        self.systems = systems
        self.replicates = replicates
        self._resamples: dict[tuple[Run, ...], Resamples] = {}
        self._means: dict[tuple[tuple[Run, ...], tuple[str, ...]], Means] = {}

    def order(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        """These runs as the systems have them: a ceiling's (seed, None) stands for every weak seed."""
        given = set(runs)
        return tuple(run for run in self.systems.runs if run in given or (run[0], None) in given)

    def resamples(self, runs: tuple[Run, ...]) -> Resamples:
        """The bootstrap weights of these runs."""
        if runs not in self._resamples:
            self._resamples[runs] = self.systems.only(runs).resamples(replicates=self.replicates)
        return self._resamples[runs]

    def means(
        self, ids: Mapping[Run, str | None], accuracy: Mapping[Run, float], runs: tuple[Run, ...]
    ) -> Means | None:
        """The means of the runs with these ids; None where one was not kept, or is not as accurate as its row says.

        The latter is no way to find anything, but notices a file of predictions that was replaced.
        """
        found: list[str] = []
        for run in runs:
            own = run if run in accuracy else (run[0], None)
            name = ids.get(own)
            answers = None if name is None else self.systems.answers.get(name)
            if name is None or answers is None or own not in accuracy:
                return None
            if len(answers) != len(self._items(run)) or abs(answers.mean() - accuracy[own]) > TOLERANCE:
                return None
            found.append(name)
        if not found:
            return None
        key = (runs, tuple(found))
        if key not in self._means:
            self._means[key] = self.resamples(runs).means([self.systems.answers[name] for name in found])
        return self._means[key]

    def _items(self, run: Run) -> NDArray[Any]:
        return self.systems.items[self.systems.runs.index(run)]
