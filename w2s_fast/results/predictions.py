"""Kept predictions: what every system said on the test rows of every seed, in memory and beside the results file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_ids
from w2s_fast.results.summary import Group

IntArray = NDArray[np.int64]
Pair = tuple[int, int | None]
"""(seed, weak seed)."""
REFERENCES = ("weak", "zero-shot", "fusion")
CEILING_SELECTION = {"last": "last", "weak_val": "oracle", "oracle": "oracle", "test_best": "test_best"}
"""Under which selection the ceiling is read that a student's selection is measured against."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One predictor of one seed: a method's run, a ceiling, or a reference (which has one selection, `last`)."""

    name: str
    seed: int
    weak_seed: int | None
    run_id: str
    labels: Mapping[str, IntArray]
    """selection -> argmax on that seed's test rows, i[n_test]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """All systems of one group; `rows[seed]` are the test rows of that seed, `truth` and `ids` cover all N rows."""

    group: Group
    systems: tuple[System, ...]
    rows: Mapping[int, IntArray]
    truth: IntArray
    ids: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(seed, weak seed) of the methods' runs, sorted."""
        return sorted({(s.seed, s.weak_seed) for s in self.systems if s.weak_seed is not None})

    def names(self) -> list[str]:
        """The systems' names in order of appearance."""
        return list(dict.fromkeys(s.name for s in self.systems))

    @property
    def domain(self) -> str:
        """The domain of the group."""
        return self.group[0]

    def correct(self, name: str, *, selection: str = "last") -> dict[Pair, NDArray[np.bool_]]:
        """(seed, weak seed) -> whether `name` is right on that seed's test rows, under one selection.

        A ceiling is read under the selection that the protocol measures students against, a reference under its only
        one; both repeat over weak seeds. Pairs where `name` has no such prediction are absent.
        """
        if name in REFERENCES:
            selection = "last"
        elif name.startswith("ceiling+"):
            selection = CEILING_SELECTION.get(selection, selection)
        found = {(s.seed, s.weak_seed): s for s in self.systems if s.name == name}
        out: dict[Pair, NDArray[np.bool_]] = {}
        for seed, weak_seed in self.pairs or [(s, None) for s in sorted(self.rows)]:
            system = found.get((seed, weak_seed)) or found.get((seed, None))
            if system is not None and selection in system.labels:
                rows = self.rows[seed]
                out[seed, weak_seed] = system.labels[selection] == self.truth[rows]
        return out


def save(predictions: Predictions, directory: Path, stem: str, selections: Sequence[str]) -> dict[str, int]:
    """Write [runs, selections, n_test] (padded with -1) as npy with a JSON index and the test rows; run id -> index.

    int16 where the classes fit, else int32. Files: `<stem>.npy`, `<stem>.tests.npy` (per seed: label), `<stem>.json`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    seeds = sorted(predictions.rows)
    width = max(len(predictions.rows[s]) for s in seeds)
    kind = np.int16 if int(predictions.truth.max(initial=0)) < 2**15 else np.int32
    table = np.full((len(predictions.systems), len(selections), width), -1, kind)
    for i, system in enumerate(predictions.systems):
        for j, selection in enumerate(selections):
            labels = system.labels.get(selection)
            if labels is not None:
                table[i, j, : len(labels)] = labels
    tests = np.full((len(seeds), 2, width), -1, np.int32)
    for i, seed in enumerate(seeds):
        rows = predictions.rows[seed]
        tests[i, 0, : len(rows)], tests[i, 1, : len(rows)] = rows, predictions.truth[rows]
    index = {
        "schema": 1,
        "group": list(predictions.group),
        "selections": list(selections),
        "seeds": [
            {
                "seed": s,
                "n_test": len(predictions.rows[s]),
                "ids_digest": digest_ids(predictions.ids[r] for r in predictions.rows[s]),
            }
            for s in seeds
        ],
        "systems": [
            {"name": s.name, "seed": s.seed, "weak_seed": s.weak_seed, "run_id": s.run_id} for s in predictions.systems
        ],
    }
    np.save(directory / f"{stem}.npy", table, allow_pickle=False)
    np.save(directory / f"{stem}.tests.npy", tests, allow_pickle=False)
    (directory / f"{stem}.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return {s.run_id: i for i, s in enumerate(predictions.systems)}


def load(path: Path) -> Predictions:
    """Read back what `save` wrote, given the path of its `.npy`; row ids are not kept, so `ids` is empty."""
    try:
        index: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        table = np.load(path, allow_pickle=False)
        tests = np.load(path.with_suffix(".tests.npy"), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the kept predictions cannot be read ({error}); train again to write them") from None
    rows = {e["seed"]: tests[i, 0, : e["n_test"]].astype(np.int64) for i, e in enumerate(index["seeds"])}
    truth = np.full(int(tests[:, 0].max(initial=0)) + 1, -1, np.int64)
    for i, entry in enumerate(index["seeds"]):
        truth[rows[entry["seed"]]] = tests[i, 1, : entry["n_test"]]
    systems = tuple(
        System(
            name=e["name"],
            seed=e["seed"],
            weak_seed=e["weak_seed"],
            run_id=e["run_id"],
            labels={
                selection: table[i, j, : len(rows[e["seed"]])].astype(np.int64)
                for j, selection in enumerate(index["selections"])
                if table[i, j, 0] >= 0
            },
        )
        for i, e in enumerate(index["systems"])
    )
    return Predictions(group=_group(index["group"]), systems=systems, rows=rows, truth=truth, ids=())


def _group(saved: list[Any]) -> Group:
    """The group as it was saved; files from before there were transductive students do not say that theirs are not."""
    return (*saved[:5], saved[5] if len(saved) > 5 else "inductive")  # type: ignore[return-value]
