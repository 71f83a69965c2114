"""A data set on disk held against what is published: missing, extra, cut, changed and misplaced files."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from w2s_fast.core.errors import DataError
from w2s_fast.data.catalogue import Entry
from w2s_fast.data.fetch import RECORDS, digest, recorded
from w2s_fast.data.paths import SUFFIXES, is_image, read_bounded

MAX_LIST = 256 << 20
_ENDS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}
_TAIL = 64
"""Bytes at the end of an image in which its end mark must stand: some writers pad."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with one path: `missing`, `extra`, `truncated`, `changed`, `misplaced` (where it is instead)."""

    kind: str
    path: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was looked at and found: published files checked, unverified ones, images, known extras, faults."""

    checked: int
    unverified: int
    images: int
    known_extras: int
    faults: tuple[Fault, ...]


def verify(entry: Entry, part: str, root: Path, *, deep: bool = True) -> Verified:
    """Hold `root` against the catalogue, for one part or ('') all that is there.

    Lists and data files are compared by checksum, images with what the lists name and, where the archives were unpacked
    here, with the sizes and (`deep`) CRC-32 recorded then; else each image must end as its format ends. Nothing is
    changed. `DataError` where nothing of the data set is there.
    """
    if not root.is_dir():
        raise DataError(f"{entry.name}: the folder {root} does not exist; correct --root, or fetch it first")
    faults: list[Fault] = []
    checked = unverified = 0
    named: dict[str, str] = {}
    known: dict[str, tuple[int, int]] = {}
    parts = [part] if part else [p for p in entry.parts if _there(entry, p, root)]
    if not parts:
        raise DataError(f"{entry.name}: nothing of it is in {root}; w2s-fast data fetch {entry.name} --root {root}")
    folder = _lists(entry, root)
    for one in entry.files:
        if one.part and one.part not in parts:
            continue
        if one.kind == "list" and folder is None:
            continue  # folders alone: the archives' record or the counts say what is missing
        path = folder / Path(one.name).name if one.kind == "list" and folder is not None else root / one.name
        known |= recorded(root, one) or {}
        if not path.exists():
            if one.kind in ("list", "data"):
                faults.append(Fault(kind="missing", path=_below(path, root), why="w2s-fast data fetch gets it"))
            continue
        if one.checksum is None:
            unverified += 1
            continue
        checked += 1
        kind, _, told = one.checksum.partition(":")
        if digest(path, kind) != told:
            faults.append(Fault(kind="changed", path=_below(path, root), why=f"its {kind} is not the published one"))
        if one.kind == "list":
            named |= dict.fromkeys(_named(path), one.part)
    on_disk = _walk(entry, parts, root)
    images = {p for p in on_disk if is_image(p)} if entry.layout not in ("idx", "cifar") else set[str]()
    told = set(named) or {p for p in known if is_image(p)}
    if told:
        misplaced = {p.rsplit("/", 1)[-1] for p in told - images}
        loose = {p for p in images - told if p.rsplit("/", 1)[-1] not in misplaced}
        extras = _known_extras(entry, parts, root, loose, set(known))
        faults += _compared(told, images, extras)
    else:
        extras = set[str]()
        faults += _counted(entry, parts, images)
    for path in sorted(images & told if told else images):
        if fault := _content(root, path, known.get(path), deep):
            faults.append(fault)
    for path in sorted(known.keys() - told - on_disk.keys()):
        if entry.layout != "domains":
            faults.append(Fault(kind="missing", path=path))
    return Verified(
        checked=checked,
        unverified=unverified,
        images=len(images & told) if told else len(images),
        known_extras=len(extras),
        faults=tuple(sorted(faults, key=lambda f: (f.path, f.kind))),
    )


def _lists(entry: Entry, root: Path) -> Path | None:
    names = [Path(f.name).name for f in entry.files if f.kind == "list"]
    return next((root / below for below in entry.lists if any((root / below / n).exists() for n in names)), None)


def _there(entry: Entry, part: str, root: Path) -> bool:
    if entry.layout != "domains":
        return any(root.iterdir())
    return any((root / f).is_dir() for f in entry.parts[part].folders or (part,)) or any(
        (root / below / f"{part}_{split}.txt").exists() for below in entry.lists for split in ("train", "test")
    )


def _named(path: Path) -> list[str]:
    """Paths that a list names; lines that are none are told by the list's checksum."""
    text = read_bounded(path, limit=MAX_LIST, what="the list").decode("utf-8", errors="replace")
    return [line.rsplit(maxsplit=1)[0] for line in text.split("\n") if len(line.split()) > 1]


def _walk(entry: Entry, parts: list[str], root: Path) -> dict[str, int]:
    """Path below the root -> bytes, of all regular files of the parts."""
    tops = [root] if entry.layout != "domains" else [root / f for p in parts for f in entry.parts[p].folders or (p,)]
    found: dict[str, int] = {}
    stack = [str(top) for top in tops if top.is_dir()]
    skip = len(str(root)) + 1
    while stack:
        with os.scandir(stack.pop()) as entries:
            for one in entries:
                if one.name.startswith(".") or one.name == RECORDS:
                    continue
                if one.is_dir(follow_symlinks=False):
                    stack.append(one.path)
                elif one.is_file():
                    found[one.path[skip:]] = one.stat().st_size
    return found


def _known_extras(entry: Entry, parts: list[str], root: Path, extra: set[str], archived: set[str]) -> set[str]:
    """Of the images that no list names, those that the archives are known to hold.

    By name where an archive was unpacked here, or the published list of them lies in the root; else all of a part that
    are named as the archives name theirs, provided that they are as many as is known.
    """
    if entry.extras and (root / entry.extras).exists():
        lines = read_bounded(root / entry.extras, limit=MAX_LIST, what="the list").decode("utf-8", errors="replace")
        return extra & {line.strip().removeprefix("./") for line in lines.split("\n")}
    out = extra & archived
    classes = set(entry.classes)
    for part in parts:
        form = re.compile(rf"{re.escape(part)}/([^/]+)/{re.escape(part)}_\d{{3}}_\d{{6}}\.(?:jpg|png)")
        mine = {p for p in extra if (m := form.fullmatch(p)) and m[1] in classes}
        if len(mine) == entry.parts[part].known_extras:
            out |= mine
    return out


def _compared(told: set[str], images: set[str], extras: set[str]) -> list[Fault]:
    missing, extra = told - images, images - told - extras
    elsewhere: dict[str, list[str]] = {}
    for path in extra:
        elsewhere.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    faults: list[Fault] = []
    moved: set[str] = set()
    for path in missing:
        at = elsewhere.get(path.rsplit("/", 1)[-1], [])
        if len(at) == 1:
            moved.add(at[0])
            faults.append(Fault(kind="misplaced", path=path, why=f"it lies at {at[0]}"))
        else:
            faults.append(Fault(kind="missing", path=path))
    return faults + [Fault(kind="extra", path=p, why="no list names it") for p in extra - moved]


def _counted(entry: Entry, parts: list[str], images: set[str]) -> list[Fault]:
    tops = Counter(p.split("/", 1)[0] for p in images)
    faults: list[Fault] = []
    for part in parts:
        expected = entry.parts[part].expected + entry.parts[part].known_extras
        folders = entry.parts[part].folders or (part,)
        have = sum(n for top, n in tops.items() if top in {f.split("/")[0] for f in folders}) if part else len(images)
        if entry.layout in ("folders", "domains", "inat") and have not in (expected, entry.parts[part].expected):
            what = f"{have} images instead of {entry.parts[part].expected}"
            faults.append(Fault(kind="missing" if have < expected else "extra", path=part or ".", why=what))
    return faults


def _content(root: Path, path: str, told: tuple[int, int] | None, deep: bool) -> Fault | None:
    file = root / path
    size = file.stat().st_size
    if told is not None:
        if size < told[0]:
            return Fault(kind="truncated", path=path, why=f"{size} of {told[0]} bytes")
        if size != told[0] or (deep and _crc(file) != told[1]):
            return Fault(kind="changed", path=path, why="not the bytes that the archive held")
        return None
    end = _ENDS.get(file.suffix.lower()) if file.suffix.lower() in SUFFIXES else None
    if size == 0:
        return Fault(kind="truncated", path=path, why="it is empty")
    if end is not None and deep:
        with file.open("rb") as opened:
            opened.seek(max(0, size - _TAIL))
            if end not in opened.read():
                return Fault(kind="truncated", path=path, why="it does not end as its format ends")
    return None


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
