"""Kept predictions: what every system said on the test rows of every seed, in memory and beside the results file."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_bytes, digest_ids, digest_json
from w2s_fast.results.summary import Group

IntArray = NDArray[np.int64]
Pair = tuple[int, int | None]
"""(seed, weak seed)."""
REFERENCES = ("weak", "zero-shot", "fusion")
"""What old files call the references, which did not say their role."""
CEILING_SELECTION = {"last": "last", "weak_val": "oracle", "oracle": "oracle", "test_best": "test_best"}
"""Under which selection the ceiling is read that a student's selection is measured against."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One predictor of one seed: a student's run, a ceiling's, or a reference (which has one selection, `last`).

    `run_id` says which run it is; `name` is what it is called.
    """

    name: str
    role: str
    seed: int
    weak_seed: int | None
    run_id: str
    labels: Mapping[str, IntArray]
    """selection -> argmax on that seed's test rows, i[n_test]."""

    def under(self, selection: str) -> IntArray | None:
        """The labels that stand beside students under a selection: a ceiling's are those that the protocol measures
        them against, a reference has one answer alone."""
        read = {"reference": "last", "ceiling": CEILING_SELECTION.get(selection, selection)}
        return self.labels.get(read.get(self.role, selection))


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
        """(seed, weak seed) of the students' runs, sorted."""
        return sorted({(s.seed, s.weak_seed) for s in self.systems if s.weak_seed is not None})

    def names(self) -> list[str]:
        """The systems' names in order of appearance."""
        return list(dict.fromkeys(s.name for s in self.systems))

    @property
    def domain(self) -> str:
        """The domain of the group."""
        return self.group[0]

    def answers(self, *, selection: str = "last") -> dict[str, NDArray[np.bool_]]:
        """run id -> whether it is right on the test rows of its seed, bool[n_test], under one selection."""
        out: dict[str, NDArray[np.bool_]] = {}
        for system in self.systems:
            labels = system.under(selection)
            if labels is not None and len(labels) == len(self.rows.get(system.seed, ())):
                out[system.run_id] = labels == self.truth[self.rows[system.seed]]
        return out


def save(predictions: Predictions, directory: Path, selections: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Write [runs, selections, n_test] (padded with -1) as npy with a JSON index and the test rows.

    The stem of the files, and run id -> index. int16 where the classes fit, else int32. Files: `<stem>.npy`,
    `<stem>.tests.npy` (per seed: row, label), `<stem>.json`. The stem is a digest of what they hold: no file is ever
    changed, and none is seen before it is whole.
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
            {"name": s.name, "role": s.role, "seed": s.seed, "weak_seed": s.weak_seed, "run_id": s.run_id}
            for s in predictions.systems
        ],
    }
    stem = _stem(predictions, table, tests, index)
    _write(directory / f"{stem}.tests.npy", tests)
    _write(directory / f"{stem}.json", (json.dumps(index, indent=1) + "\n").encode())
    _write(directory / f"{stem}.npy", table)
    return stem, {s.run_id: i for i, s in enumerate(predictions.systems)}


def _stem(predictions: Predictions, table: NDArray[Any], tests: NDArray[Any], index: Mapping[str, Any]) -> str:
    held = digest_json([digest_bytes(table.tobytes()), digest_bytes(tests.tobytes()), index])[:16]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in predictions.domain)[:60]
    return f"{name}-{held}"


def _write(path: Path, value: NDArray[Any] | bytes) -> None:
    """The whole file, or none: written beside its place, flushed to the disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            if isinstance(value, bytes):
                file.write(value)
            else:
                np.save(file, value, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(
            f"cannot write predictions to {path} ({error.strerror or error}); free space or change --out"
        ) from error


def find(pointer: str, results: Path) -> Path:
    """The `.npy` that a row of a results file points to: as it is written there, or by its name in a folder of
    predictions beside the file, which may have been copied or renamed since."""
    place = pointer.rpartition("#")[0] or pointer
    as_written = results.parent / place
    if as_written.is_file():
        return as_written
    own = results.with_name(f"{results.name}.preds") / Path(place).name
    others = sorted(results.parent.glob(f"*.preds/{glob.escape(Path(place).name)}"))
    return own if own.is_file() or not others else others[0]


def load(path: Path) -> Predictions:
    """Read back what `save` wrote, given the path of its `.npy`; row ids are not kept, so `ids` is empty."""
    try:
        index: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        table = np.load(path, allow_pickle=False)
        tests = np.load(path.with_suffix(".tests.npy"), allow_pickle=False)
        return _loaded(index, table, tests)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path}: the kept predictions cannot be read ({error}); train again to write them") from None


def _loaded(index: Mapping[str, Any], table: NDArray[Any], tests: NDArray[Any]) -> Predictions:
    rows = {e["seed"]: tests[i, 0, : e["n_test"]].astype(np.int64) for i, e in enumerate(index["seeds"])}
    truth = np.full(int(tests[:, 0].max(initial=0)) + 1, -1, np.int64)
    for i, entry in enumerate(index["seeds"]):
        truth[rows[entry["seed"]]] = tests[i, 1, : entry["n_test"]]
    systems = tuple(
        System(
            name=e["name"],
            role=e.get("role") or _old_role(e["name"]),
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


def _old_role(name: str) -> str:
    """What a system of an old file was; the files did not say."""
    if name in REFERENCES:
        return "reference"
    return "ceiling" if name.split("+")[0] == "ceiling" else "student"
