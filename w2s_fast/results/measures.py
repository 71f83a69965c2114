"""What students are measured against: weak, zero-shot, their fusion, and the ceilings that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.hashing import digest_json
from w2s_fast.data.splits import Split
from w2s_fast.results.outcome import ID_DIGITS, Outcome
from w2s_fast.results.predictions import CEILING_SELECTION, System
from w2s_fast.tasks import references
from w2s_fast.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The runs that a study asks for, whether or not they have ended.

    students: (seed, weak seed, transductive) of each. ceilings: seed -> the `ceiling_key` of each of its ceilings.
    splits: seed -> its split.
    """

    students: Sequence[tuple[int, int | None, bool]] = ()
    ceilings: Mapping[int, Sequence[str | None]] = field(default_factory=dict[int, "Sequence[str | None]"])
    splits: Mapping[int, Split] = field(default_factory=dict[int, Split])

    @staticmethod
    def by(outcomes: Sequence[Outcome]) -> Asked:
        """What finished runs show was asked, where nobody says it."""
        ceilings: dict[int, list[str | None]] = {}
        for one in outcomes:
            if one.ceiling:
                ceilings.setdefault(one.seed, []).append(one.ceiling_key)
        students = [(one.seed, one.weak_seed, one.transductive) for one in outcomes if not one.ceiling]
        return Asked(students=students, ceilings=ceilings, splits={one.seed: one.split for one in outcomes})

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.students) + sum(map(len, self.ceilings.values()))


class References:
    """Weak, zero-shot and fused predictions over all rows of a task, computed once, and their ids."""

    def __init__(self, task: Task) -> None:
        self.task = task
        found = references.with_text(task)
        self.zero_shot = None if found is None else found.zero_shot
        self.weak = {w: references.weak(task, w) for w in task.weak_logits}
        self.fused = {w: None if found is None else found.fusion[w] for w in task.weak_logits}

    def weak_seed(self, seed: int, weak_seed: int | None) -> int:
        """The weak model that a run is measured against: its own, or for a ceiling that of its seed."""
        return self.task.pairs([seed])[0][1] if weak_seed is None else weak_seed

    def accuracy(self, predicted: Tensor | None, rows: NDArray[np.int64]) -> float | None:
        """Accuracy on some rows; None without predictions."""
        if predicted is None:
            return None
        at = torch.from_numpy(np.asarray(rows))
        return references.accuracy(predicted[at], self.task.labels[at])

    def better_base(self, students: Sequence[tuple[int, int | None, bool]], splits: Mapping[int, Split]) -> str:
        """Which of weak and zero-shot is better in the mean over the runs asked for: the base of `pgr_zs`."""
        if self.zero_shot is None or not students:
            return "weak"
        weak = [self.accuracy(self.weak[self.weak_seed(s, w)], splits[s].test) or 0.0 for s, w, _ in students]
        prior = [self.accuracy(self.zero_shot, splits[s].test) or 0.0 for s, _, _ in students]
        return "zero-shot" if np.mean(prior) > np.mean(weak) else "weak"

    def ids(self, split: Split, seed: int, weak_seed: int | None) -> dict[str, str | None]:
        """The ids of the references of a run, by what they read: `weak`, `zero_shot`, `fusion`; None where none is."""
        keys, number = self.task.keys, self.weak_seed(seed, weak_seed)
        weak = (keys.get("weak") or {}).get(number) or [self.task.weak, number]
        features, text = keys.get("features") or [self.task.data, self.task.strong], keys.get("text")

        def named(*parts: object) -> str:
            return digest_json([*parts, seed, split.digest])[:ID_DIGITS]

        known = self.zero_shot is not None
        return {
            "weak": named("weak", weak),
            "zero_shot": named("zero-shot", features, text) if known else None,
            "fusion": named("fusion", features, text, weak) if known else None,
        }

    def systems(self, outcomes: Sequence[Outcome]) -> list[System]:
        """The references of these runs as systems, one per seed (and weak seed)."""
        found: dict[str, System] = {}
        for one in outcomes:
            weak_seed, rows = self.weak_seed(one.seed, one.weak_seed), np.asarray(one.split.test)
            said = {"weak": self.weak[weak_seed], "zero_shot": self.zero_shot, "fusion": self.fused[weak_seed]}
            for name, run_id in self.ids(one.split, one.seed, one.weak_seed).items():
                predicted = said[name]
                if run_id is not None and predicted is not None:
                    found[run_id] = System(
                        name=name.replace("_", "-"),
                        role="reference",
                        seed=one.seed,
                        weak_seed=None if name == "zero_shot" else weak_seed,
                        run_id=run_id,
                        labels={"last": predicted.numpy()[rows].astype(np.int64)},
                    )
        return list(found.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class Ceiling:
    """The ceiling that a row is measured against: which run, and where it is right, bool[n_test]; or why there is none.

    reason is None where none was asked for.
    """

    outcome: Outcome | None = None
    correct: NDArray[np.bool_] | None = None
    reason: str | None = None


def ceilings_of(
    one: Outcome, selection: str, ceilings: Sequence[Outcome], asked: Asked, truth: NDArray[np.int64]
) -> tuple[Ceiling, Ceiling]:
    """The ceiling of the same head, and the best one, which is chosen on hold-val, never on the test.

    The best of those that happen to have ended is no best one: where a ceiling that was asked for is missing, or
    diverged, there is none.
    """
    read = CEILING_SELECTION[selection]
    mine = [c for c in ceilings if c.seed == one.seed]
    whole = [c for c in mine if c.status == "ok" and read in c.predicted]
    keys = asked.ceilings.get(one.seed, ())
    same = next((c for c in whole if c.ceiling_key == one.ceiling_key), None)
    first = Ceiling(reason=_why(mine, read, one.seed)) if one.ceiling_key in keys else Ceiling()
    if same is not None:
        first = Ceiling(outcome=same, correct=_right(same, read, truth))
    if len(whole) < len(keys):
        missing = f"{len(keys) - len(whole)} of {len(keys)} ceilings of seed {one.seed}"
        return first, Ceiling(reason=f"no best ceiling: {missing} {_state(mine, read)}")
    best = max(whole, key=lambda c: -1.0 if (v := c.at_selection(read, "acc_val")) is None else v, default=None)
    return first, Ceiling() if best is None else Ceiling(outcome=best, correct=_right(best, read, truth))


def _right(one: Outcome, read: str, truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(one.predicted[read]) == truth[one.split.test]


def _why(mine: Sequence[Outcome], read: str, seed: int) -> str:
    return f"no ceiling of its head: that of seed {seed} {_state(mine, read)}"


def _state(mine: Sequence[Outcome], read: str) -> str:
    if any(c.status != "ok" for c in mine):
        return "diverged"
    return "did not finish" if all(read in c.predicted for c in mine) else f"have no selection {read}"
