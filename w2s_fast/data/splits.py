"""The fold assignment: which rows train the supervisor and the student, and which are tested on (methods/README.md).

D_train and the pool are fixed per data set. The pool is dealt into five stratified folds; one fold is the test, the
other four are D_hold, of which a fifth is hold-val. Nothing depends on the order of the manifest's rows: parts are
sorted by id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.core.hashing import contents_of, digest_ids, digest_json
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.repeats import refuse_across

FOLDS = 5
MODES = ("rotate", "fixed", "paper")
PARTS = ("weak_train", "train", "val", "test")
FORMAT = 1
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Row numbers of one manifest, int64, each part sorted by id.

    `weak_train` is D_train; `train`, `val` and `test` are hold-train, hold-val and D'_test. `official` says whether
    D_train and the pool are the data set's own or stratified halves. `digest` is sha256 over the ids of each part.
    """

    weak_train: Rows
    train: Rows
    val: Rows
    test: Rows
    digest: str
    official: bool
    mode: str
    seed: int
    split_seed: int

    @cached_property
    def pool(self) -> Rows:
        """All of D_test: what `mode='paper'` also evaluates on."""
        return np.concatenate([self.train, self.val, self.test])


def split(manifest: Manifest, *, mode: str = "rotate", seed: int) -> Split:
    """The split of a run seed: `rotate` tests on fold seed mod 5 of assignment seed // 5, the others on fold 0
    of assignment 0.

    Errors: `UsageError` for an unknown mode or a negative seed; `DataError` for unknown labels, a half-marked official
    split, or too few items for every part to hold one.
    """
    if mode not in MODES:
        raise UsageError(f"unknown split mode {mode!r}{nearest(mode, MODES)}")
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative; run seeds start at 0")
    if (unknown := np.flatnonzero(manifest.labels < 0)).size:
        row = int(unknown[0])
        raise DataError(
            f"{manifest.name}: row {row} ({manifest.uris[row]}) has no label, so it cannot be dealt by class"
        )
    weak_train, pool, official = halves(manifest)
    split_seed, turn = divmod(seed, FOLDS) if mode == "rotate" else (0, 0)
    position = fold_positions(manifest, pool, key=str(split_seed))
    held = pool[position % FOLDS != turn]
    val_key = f"{split_seed}:{seed}" if mode == "rotate" else "0:0"
    in_val = fold_positions(manifest, held, key=val_key) % FOLDS == 0
    parts = {
        "weak_train": weak_train,
        "train": held[~in_val],
        "val": held[in_val],
        "test": pool[position % FOLDS == turn],
    }
    return _make(manifest, parts, official=official, mode=mode, seed=seed, split_seed=split_seed)


_HALVES: WeakKeyDictionary[Manifest, tuple[Rows, Rows, bool]] = WeakKeyDictionary()
"""Halves of manifests in use: a pure function of an immutable manifest, asked for once per supervisor and seed."""


def halves(manifest: Manifest) -> tuple[Rows, Rows, bool]:
    """Rows of D_train, rows of the pool, and whether that is the official split or stratified halves.

    Where every row is marked `test`, all are the pool and D_train is elsewhere (empty here).
    """
    if manifest not in _HALVES:
        train, pool, official = _halves(manifest)
        train.flags.writeable = pool.flags.writeable = False
        _HALVES[manifest] = (train, pool, official)
    return _HALVES[manifest]


def hold_train_rows(manifest: Manifest) -> int:
    """About how many rows a student trains on, the same for every seed: four fifths of four fifths of the pool."""
    return len(halves(manifest)[1]) * (FOLDS - 1) ** 2 // FOLDS**2


def _halves(manifest: Manifest) -> tuple[Rows, Rows, bool]:
    marked = np.array(manifest.splits)
    train, test = (np.flatnonzero(marked == part).astype(np.int64) for part in ("train", "test"))
    if not train.size and not test.size:
        rows = np.arange(len(manifest), dtype=np.int64)
        even = fold_positions(manifest, rows, key="0") % 2 == 0
        return rows[even], rows[~even], False
    if not test.size:
        raise DataError(f"{manifest.name}: the official split has no test images; add them, or give no split")
    if (loose := np.flatnonzero(marked == "")).size:
        raise DataError(f"{manifest.name}: row {int(loose[0])} is in neither half of the official split")
    if train.size:
        refuse_across(manifest)
    return train, test, True


def fold_positions(manifest: Manifest, rows: Rows, *, key: str) -> Rows:
    """The position int64[m] of each of `rows` [m] in the assignment of that key; its fold is position mod 5.

    Classes follow each other in label order; within a class, items are sorted by the sha256 of utf-8 `key:id`. Copies
    of one image share the position of the first, whatever their labels.
    """
    content = contents_of(manifest.ids) if _repeated(manifest) else manifest.ids
    first: dict[str, int] = {}
    for row in rows.tolist():
        known = first.setdefault(content[row], row)
        if (manifest.labels[row], row) < (manifest.labels[known], known):
            first[content[row]] = row
    hashed = {i: hashlib.sha256(f"{key}:{i}".encode()).digest() for i in first}
    order = sorted(first, key=lambda i: (int(manifest.labels[first[i]]), hashed[i], i))
    position = {i: at for at, i in enumerate(order)}
    return np.array([position[content[row]] for row in rows.tolist()], np.int64)


def _repeated(manifest: Manifest) -> bool:
    return any("#" in i for i in manifest.ids)


def export_split(given: Split, manifest: Manifest, path: str | Path) -> None:
    """Write a split as JSON, by ids, so that another copy of the data set can use it."""
    record = {
        "format": FORMAT,
        "data": manifest.name,
        "mode": given.mode,
        "seed": given.seed,
        "split_seed": given.split_seed,
        "official": given.official,
        "digest": given.digest,
        "parts": {part: [manifest.ids[row] for row in getattr(given, part)] for part in PARTS},
    }
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def import_split(path: str | Path, manifest: Manifest) -> Split:
    """Read what `export_split` wrote; ids that the manifest lacks, or that two parts share, are a `DataError`."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = {part: [str(i) for i in record["parts"][part]] for part in PARTS}
        facts = {"mode": str(record["mode"]), "seed": int(record["seed"]), "split_seed": int(record["split_seed"])}
        version, official, digest = record["format"], bool(record["official"]), record["digest"]
    except OSError as error:
        raise DataError(f"the split file {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is not a split file; make one with: w2s-fast data split --export {path}") from None
    if version != FORMAT:
        raise DataError(f"{path} has split format {version}, and this version reads {FORMAT}; update w2s-fast")
    row_of = {i: row for row, i in enumerate(manifest.ids)}
    owner: dict[str, str] = {}
    for part, ids in parts.items():
        for i in ids:
            if i not in row_of:
                raise DataError(
                    f"{path}: the {part} id {i} is not in {manifest.name}; the split is of another data set"
                )
            if i in owner:
                raise DataError(f"{path}: the id {i} is in both {owner[i]} and {part}; each image has one part")
            owner[i] = part
    rows = {part: np.array([row_of[i] for i in ids], np.int64) for part, ids in parts.items()}
    made = _make(manifest, rows, official=official, **facts)
    if made.digest != digest:
        raise DataError(f"{path}: its ids do not have the digest that it records; export it again")
    return made


def _make(manifest: Manifest, parts: dict[str, Rows], *, official: bool, **facts: Any) -> Split:
    for part, rows in parts.items():
        if not rows.size and part != "weak_train":
            raise DataError(
                f"{manifest.name}: too few images: {part} is empty, and the pool needs at least {FOLDS + 2}; add some"
            )
    by_id: Callable[[int], str] = lambda row: manifest.ids[row]  # noqa: E731
    ordered = {part: np.array(sorted(rows.tolist(), key=by_id), np.int64) for part, rows in parts.items()}
    ids = {part: digest_ids(manifest.ids[row] for row in rows) for part, rows in ordered.items()}
    return Split(**ordered, digest=digest_json({"official": official, **ids}), official=official, **facts)
