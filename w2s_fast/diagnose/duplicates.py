"""Near duplicates, within and across the parts that must not share an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import MOST, Subject

ROUNDING = 1e-6
"""Cosine distances up to here are those of equal rows: single precision tells no more."""


@dataclass(frozen=True, kw_only=True)
class Duplicates(Diagnostic):
    """Which images are there more than once, or nearly so?

    share: two rows are near duplicates if their cosine distance is less than so many times the median distance of a row
    to its nearest neighbour, so that no scale of an encoder enters. Sets are what such pairs join; each is one row.
    """

    share: float = 0.13

    limits: ClassVar[Limits] = {"share": "(0, 1)"}
    source: ClassVar[str] = "cleanlab's Datalab: distance < 0.13 x the median nearest-neighbour distance"

    def of(self, subject: Subject) -> Diagnosis:
        pairs, least = near_pairs(subject, self.share)
        part = subject.part_of()
        found = sorted(sets_of(pairs, len(subject)), key=lambda one: (-len(one), subject.ids[one[0]]))
        rows: list[tuple[Value, ...]] = []
        for one in found:
            ids, parts = [subject.ids[i] for i in one], sorted({part[i] for i in one})
            row: tuple[Value, ...] = (len(one), " ".join(ids), ", ".join(parts))
            if subject.labels is not None:
                labels = {int(subject.labels[i]) for i in one}
                row = (*row, " | ".join(subject.classes[c] if c >= 0 else "?" for c in sorted(labels)), len(labels) > 1)
            rows.append(row)
        extra = sum(len(one) - 1 for one in found)
        return Diagnosis(
            name="duplicates",
            title=f"Near duplicates: {len(rows)} sets, {extra} rows too many",
            columns=("rows", "ids", "parts", *(() if subject.labels is None else ("labels", "labels differ"))),
            rows=tuple(rows),
            notes=(f"cosine distance below {least:.2e}, {self.share:g} x the median nearest-neighbour distance",),
            reads_truth=subject.labels is not None,
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class Leakage(Diagnostic):
    """Which near duplicates lie on two sides that must not meet: D_train and the pool, or two folds of it?

    share: as for `duplicates`. One row per pair; `parts` without folds are the named ones.
    """

    share: float = 0.13

    limits: ClassVar[Limits] = {"share": "(0, 1)"}
    source: ClassVar[str] = Duplicates.source

    def of(self, subject: Subject) -> Diagnosis:
        pairs, least = near_pairs(subject, self.share)
        part = subject.part_of()
        rows: list[tuple[Value, ...]] = [
            (subject.ids[a], part[a], subject.ids[b], part[b], distance)
            for a, b, distance in pairs
            if part[a] and part[b] and part[a] != part[b]
        ]
        rows.sort(key=lambda row: (str(row[1]), str(row[3]), str(row[0])))
        return Diagnosis(
            name="leakage",
            title=f"Near duplicates across parts: {len(rows)} pairs",
            columns=("id", "part", "other", "its part", "distance"),
            rows=tuple(rows),
            notes=(f"cosine distance below {least:.2e}, {self.share:g} x the median nearest-neighbour distance",),
            source=self.source,
        )


def near_pairs(subject: Subject, share: float) -> tuple[list[tuple[int, int, float]], float]:
    """Pairs (a, b, cosine distance), a < b, and the distance below which they lie.

    Pairs beyond a row's 50 nearest are not seen; their sets are joined through those that are.
    """
    ids, near = subject.near(MOST)
    distance = (1 - near.double()).clamp_min(0)
    first = distance[:, 0]
    apart = first[first > ROUNDING]
    least = max(share * float(apart.quantile(0.5)) if len(apart) else 0.0, ROUNDING)
    rows, places = (distance < least).nonzero().unbind(1)
    others = ids[rows, places]
    pairs = {
        (min(a, b), max(a, b)): d
        for a, b, d in zip(rows.tolist(), others.tolist(), distance[rows, places].tolist(), strict=True)
    }
    return [(a, b, d) for (a, b), d in sorted(pairs.items())], least


def sets_of(pairs: list[tuple[int, int, float]], n: int) -> Iterator[list[int]]:
    """The connected sets of two rows and more among n rows, each in order."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b, _ in pairs:
        parent[max(root(a), root(b))] = min(root(a), root(b))
    sets: dict[int, list[int]] = {}
    for i in sorted({i for a, b, _ in pairs for i in (a, b)}):
        sets.setdefault(root(i), []).append(i)
    yield from sets.values()
