"""A manifest: the rows of a data set by id, before any image is decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.classes import class_name, lookalikes
from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_ids, digest_json
from w2s_fast.data.paths import read_bounded

SPLITS = ("train", "test", "")
"""Names of the official split: D_train, the pool D_test, and no official split."""

MAX_NAMES = 16 << 20
"""Bytes of the largest file of class names that is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """The rows of one data set: ids, labels, where each image is, and its official split.

    All per-row fields have the same length n >= 1. `labels` is int64[n], -1 where unknown. `ids` are sha256 prefixes of
    the images' bytes (`#2` for a second occurrence), `uris` are paths relative to `root`, `groups` name the domain.
    `defaults` are `[train]` defaults that the data set carries; `decode` is what decides pixels apart from the model,
    and enters the bank key. A manifest that breaks a rule below is refused with a `DataError`.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    uris: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    decode: dict[str, Any] = field(default_factory=dict[str, Any])
    known_as: tuple[str, ...] = ()
    """The names of the classes in the data set itself, where a class-names file gave others; else empty."""
    notes: tuple[str, ...] = ()
    """What was left out of the data set on the way, in words; tables repeat it."""
    packed: bool = False
    """Whether `uris` name members of tar files instead of files."""

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rows_digest(self) -> str:
        """sha256 over the ids in order: it enters bank keys, so that relabelling or moving re-extracts nothing."""
        return digest_ids(self.ids)

    @cached_property
    def truth_digest(self) -> str:
        """sha256 over (id, label) in order and the class names: it enters result rows only."""
        pairs = [[i, int(label)] for i, label in zip(self.ids, self.labels, strict=True)]
        return digest_json({"classes": list(self.classes), "rows": pairs})


def read_names(path: str | Path) -> tuple[str, ...] | dict[str, str]:
    """Class names from a file: one a line in label order, or `old<TAB>new` lines in any order as a mapping.

    UTF-8 (a BOM is fine); blank lines at the end are dropped.
    """
    try:
        lines = read_bounded(Path(path), limit=MAX_NAMES, what="the class-names file").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"the class-names file {path} is not UTF-8; save it as UTF-8") from None
    while lines and not lines[-1].strip():
        lines.pop()
    pairs = [[class_name(part) for part in line.split("\t")] for line in lines]
    if odd := next((n for n, pair in enumerate(pairs, start=1) if len(pair) != len(pairs[0]) or len(pair) > 2), None):
        raise DataError(f"{path}, line {odd}: every line is a name, or every line is `old<TAB>new`")
    names = [pair[-1] for pair in pairs]
    olds = [pair[0] for pair in pairs] if pairs and len(pairs[0]) == 2 else []
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(f"{path}, line {number}: an empty class name; give one name a line, in label order")
    if repeated := [n for n, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: the class name {repeated[0]!r} occurs twice; class names must differ")
    if repeated := [n for n, count in Counter(olds).items() if count > 1]:
        raise DataError(f"{path}: the class {repeated[0]!r} is renamed twice; give each one line")
    return dict(zip(olds, names, strict=True)) if olds else tuple(names)


def _check(m: Manifest) -> None:
    n, k = len(m.ids), len(m.classes)
    if n == 0:
        raise DataError(f"{m.name}: no images were found in {m.root}")
    for what in ("labels", "uris", "splits", "groups"):
        if len(getattr(m, what)) != n:
            raise DataError(f"{m.name}: {len(getattr(m, what))} {what} for {n} ids; a manifest has one of each per row")
    if len(set(m.ids)) != n:
        twice = next(i for i, count in Counter(m.ids).items() if count > 1)
        first, second = [row for row, i in enumerate(m.ids) if i == twice][:2]
        raise DataError(
            f"{m.name}: rows {first} and {second} have the same id {twice}; number repetitions as {twice}#2"
        )
    if unknown := next((s for s in m.splits if s not in SPLITS), None):
        raise DataError(f"{m.name}: the split {unknown!r} is neither 'train', 'test' nor empty")
    if len(set(m.classes)) != k:
        raise DataError(f"{m.name}: two classes have the same name; class names must differ")
    if pair := lookalikes(m.classes):
        raise DataError(
            f"{m.name}: the class names {pair[0]!r} and {pair[1]!r} differ in case, spaces, underscores or Unicode's "
            "forms only; merge them, or rename one"
        )
    if odd := next((c for c in m.classes if c != class_name(c)), None):
        raise DataError(f"{m.name}: the class name {odd!r} is not in Unicode's composed form without blanks around it")
    if odd := next((c for c in m.classes if any(ord(x) < 32 or 0xD800 <= ord(x) < 0xE000 for x in c)), None):
        raise DataError(f"{m.name}: the class name {odd!r} is not plain UTF-8 text on one line; rename the class")
    if k < 2:
        what = f"only one class ({m.classes[0]!r})" if k else "no classes"
        raise DataError(f"{m.name}: {what} in {m.root}; a classification data set needs at least two")
    if bad := np.flatnonzero(m.labels < -1)[:1].tolist():
        raise DataError(f"{m.name}: row {bad[0]} ({m.uris[bad[0]]}) has the negative label {m.labels[bad[0]]}")
    if bad := np.flatnonzero(m.labels >= k)[:1].tolist():
        row = bad[0]
        raise DataError(
            f"{m.name}: row {row} ({m.uris[row]}) has label {m.labels[row]}, but the classes are 0 to {k - 1}"
        )
    if bad := np.flatnonzero(np.bincount(m.labels[m.labels >= 0], minlength=k) == 0)[:1].tolist():
        raise DataError(f"{m.name}: class {bad[0]} ({m.classes[bad[0]]!r}) has no images; add some or remove the class")
