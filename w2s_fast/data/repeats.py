"""Copies: rows of one content. They are dealt together, never trained on in one half and tested on in the other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import contents_of
from w2s_fast.data.manifest import Manifest

SHOWN = 2
"""Pairs of images that an error names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Repeats:
    """What a manifest holds more than once: content -> its rows, of contents with two rows or more."""

    manifest: Manifest
    rows: dict[str, list[int]]

    @cached_property
    def across(self) -> list[str]:
        """Contents that D_train and the pool of an official split share."""
        of = self.manifest.splits
        return [c for c, rows in self.rows.items() if {"train", "test"} <= {of[r] for r in rows}]

    @cached_property
    def two_labels(self) -> list[str]:
        """Contents under more than one label: which is true is not known."""
        labels = self.manifest.labels
        return [c for c, rows in self.rows.items() if len({int(labels[r]) for r in rows}) > 1]

    def counts(self) -> dict[str, int]:
        """How many rows repeat an earlier one, and how many contents are in both halves or under two labels."""
        extra = sum(len(rows) - 1 for rows in self.rows.values())
        return {"repeats": extra, "in_both_halves": len(self.across), "under_two_labels": len(self.two_labels)}

    def named(self, content: str) -> str:
        """Two images of one content, by their paths: one of each half or label where they differ in it."""
        m, rows = self.manifest, self.rows[content]
        first = rows[0]
        other = next((r for r in rows if m.splits[r] != m.splits[first] or m.labels[r] != m.labels[first]), rows[1])
        return f"{m.uris[first]} = {m.uris[other]}"


def repeats(manifest: Manifest) -> Repeats:
    """The copies among the rows of a manifest, found by content (under `--identity path` there is none to compare)."""
    found: dict[str, list[int]] = defaultdict(list)
    if not any("#" in i for i in manifest.ids):
        return Repeats(manifest=manifest, rows={})
    for row, content in enumerate(contents_of(manifest.ids)):
        found[content].append(row)
    return Repeats(manifest=manifest, rows={c: rows for c, rows in found.items() if len(rows) > 1})


def refuse_across(manifest: Manifest) -> None:
    """A `DataError` where images of the pool are copies of images of D_train."""
    found = repeats(manifest)
    if found.across:
        some = "; ".join(found.named(c) for c in found.across[:SHOWN])
        raise DataError(
            f"{manifest.name}: {len(found.across)} images are in D_train and in the pool ({some}): the weak model "
            "would be tested on what it was trained on; remove them, or leave them out with --drop-repeats"
        )


def without_repeats(manifest: Manifest) -> tuple[Manifest, str | None]:
    """The manifest with one row a content, and in words what was left out (None if nothing was).

    A content of both halves stays in the pool, so that the official test set is whole; one under two labels is left
    out altogether.
    """
    found = repeats(manifest)
    if not found.rows:
        return manifest, None
    contradictory, gone = set(found.two_labels), set[int]()
    for content, rows in found.rows.items():
        kept = next((r for r in rows if manifest.splits[r] == "test"), rows[0])
        gone.update(rows if content in contradictory else (r for r in rows if r != kept))
    rows = np.array([r for r in range(len(manifest)) if r not in gone], np.int64)
    counts = found.counts()
    told = f"{len(gone)} copies were left out ({counts['in_both_halves']} images were in D_train and in the pool"
    told += f", {counts['under_two_labels']} under two labels and left out altogether)"
    parts = {part: tuple(getattr(manifest, part)[r] for r in rows) for part in ("ids", "uris", "splits", "groups")}
    notes = (*manifest.notes, told)
    return replace(manifest, labels=manifest.labels[rows], notes=notes, **parts), told
