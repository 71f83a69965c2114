"""Listing, repairing and clearing up what lies in a bucket, without fetching features that are sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from w2s_fast.core.errors import NewerFormat
from w2s_fast.core.hashing import digest_bytes
from w2s_fast.store import layout
from w2s_fast.store.objects import Objects, Stored
from w2s_fast.store.part import CRC_BYTES, file_names
from w2s_fast.store.records import Bad, Commit, Complete

_LARGEST = layout.PART_ROWS * layout.MAX_WIDTH * 4 + CRC_BYTES


def banks_in(objects: Objects) -> dict[str, list[Stored]]:
    """Key -> every object of its bank, in the order of keys."""
    found: dict[str, list[Stored]] = defaultdict(list)
    for one in objects.list(f"v{layout.FORMAT}"):
        parts = one.name.split("/")
        if len(parts) > 3 and layout.is_key(parts[2]) and parts[1] == parts[2][:2]:
            found[parts[2]].append(one)
    return dict(sorted(found.items()))


def commits_in(objects: Objects, bank: list[Stored]) -> Iterator[tuple[str, Commit | None]]:
    """The name of every commit of a bank and the commit, None for a damaged one; NewerFormat for a later one."""
    for one in bank:
        if "/commits/" in one.name:
            try:
                yield one.name, Commit.from_bytes(objects.get(one.name, limit=layout.MAX_RECORD))
            except (Bad, FileNotFoundError):
                yield one.name, None
            except NewerFormat as newer:
                raise NewerFormat(f"{one.name}: {newer}") from None


def complete_in(objects: Objects, key: str) -> Complete | None:
    """A bank's completion record, None without a sound one."""
    try:
        return Complete.from_bytes(objects.get(_bank(key) + "/complete.json", limit=layout.MAX_RECORD))
    except (Bad, FileNotFoundError):
        return None


def drop_damaged(objects: Objects, key: str, *, failed: bool) -> list[tuple[str, tuple[int, int], str]]:
    """Read a bank whole and delete the commits of damaged parts, after `complete.json`: (commit, rows, why) of each.

    Their other objects mean nothing then, and go with `unnamed_in`.
    """
    bad: list[tuple[str, tuple[int, int], str]] = []
    for name, commit in commits_in(objects, list(objects.list(_bank(key)))):
        part = int(PurePosixPath(name).stem)
        if commit is None or (commit.key, commit.part) != (key, part):
            start = part * layout.PART_ROWS
            bad.append((name, (start, start + layout.PART_ROWS), "the commit is damaged"))
            continue
        why = _why_bad(objects, commit)
        if why is None and failed and commit.failures:
            why = f"{len(commit.failures)} of its images were unreadable"
        if why:
            bad.append((name, (commit.start, commit.stop), why))
    if bad:
        objects.delete(_bank(key) + "/complete.json")
    for name, _, _ in bad:
        objects.delete(name)
    return bad


def unnamed_in(objects: Objects, *, before: float) -> Iterator[tuple[list[Stored], str]]:
    """The objects of every part that no commit names and that is older than `before`; deleting them is the caller's.

    A bank with a commit that cannot be read keeps all its parts.
    """
    for _, bank in banks_in(objects).items():
        try:
            commits = [commit for _, commit in commits_in(objects, bank)]
        except NewerFormat:
            continue
        if None in commits:
            continue
        named = {c.directory for c in commits if c is not None}
        folders: dict[str, list[Stored]] = defaultdict(list)
        for one in bank:
            parts = one.name.split("/")
            if parts[3] == "parts" and parts[4] not in named:
                folders[parts[4]].append(one)
        for objs in folders.values():
            if max(o.modified for o in objs) < before:
                yield objs, "no commit names it"


def _why_bad(objects: Objects, commit: Commit) -> str | None:
    if set(commit.files) not in (file_names(logits=True), file_names(logits=False)):
        return "it does not name exactly the files of a part"
    for name, entry in commit.files.items():
        full = f"{_bank(commit.key)}/parts/{commit.directory}/{name}"
        try:
            got = objects.get(full, limit=_LARGEST)
        except FileNotFoundError:
            return f"{full}: it is missing"
        if (len(got), digest_bytes(got)) != (entry.bytes, entry.sha256):
            return f"{full}: its bytes do not match the committed sha256"
    return None


def _bank(key: str) -> str:
    return f"v{layout.FORMAT}/{key[:2]}/{key}"
