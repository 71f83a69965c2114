"""`list:FILE`: lines of `path label`, as DomainNet ships them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from w2s_fast.core.classes import ClassNames, class_name, renamed
from w2s_fast.core.errors import DataError
from w2s_fast.data import Source
from w2s_fast.data.decode import pil_route
from w2s_fast.data.identity import identify
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.paths import BRACES, existing_folder, expand_files, inside, is_file, read_bounded

MAX_LIST = 256 << 20
"""Bytes of the largest list that is read: some four million rows."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    uri: str
    label: int
    split: str
    where: str


def open_list(
    location: str,
    *,
    root: Path | None,
    identity: str,
    class_names: ClassNames,
    cache: str | Path | None,
) -> Manifest:
    """The manifest of one list, or of two as the official split where the name holds `{train,test}`.

    A line is a path (spaces allowed) and an integer label; BOM, CRLF and blank lines are fine. Paths are relative to
    `root` (default: the list's folder) and may not leave it. Class names are `class_names`, else the images' parent
    folders if those name the labels consistently, else the numbers. Errors (`DataError`) name the file and line.
    """
    name = f"list:{location}"
    path = Path(location).expanduser()
    files = [(split, Path(str(path).replace(BRACES, split))) for split in ("train", "test")]
    files = files if BRACES in str(path) else [("", path)]
    base = existing_folder(str(path.parent if root is None else root), what=f"{name}: root")
    lines = [line for split, file in files for line in _read(file, split, base)]
    if not lines:
        raise DataError(f"{name}: the list is empty; each line is `path label`")
    first: dict[str, _Line] = {}
    for line in lines:
        if (other := first.setdefault(line.uri, line)) is not line:
            raise DataError(f"{line.where}: {line.uri!r} is already in {other.where}; list each image once")
    count = max(line.label for line in lines) + 1
    if class_names is not None and not isinstance(class_names, Mapping) and count > len(class_names):
        line = next(line for line in lines if line.label >= len(class_names))
        raise DataError(f"{line.where}: label {line.label} is out of range for {len(class_names)} class names")
    present = {line.label for line in lines}
    if missing := next((label for label in range(count) if label not in present), None):
        raise DataError(f"{name}: no line has label {missing}, though labels go up to {count - 1}; number them from 0")
    if 0 not in present:
        raise DataError(f"{name}: no line has label 0; number the labels from 0")
    uris = tuple(line.uri for line in lines)
    own = _classes(lines, count, noisy=class_names is not None)
    classes = renamed(own, class_names, where=name, by_number=True)
    return Manifest(
        name=name,
        root=base,
        classes=classes,
        known_as=own if classes != own else (),
        labels=np.array([line.label for line in lines], np.int64),
        ids=identify(base, uris, identity=identity, cache=cache),
        uris=uris,
        splits=tuple(line.split for line in lines),
        groups=tuple(_group(line.uri, path) for line in lines),
        decode=pil_route(identity),
    )


def _read(file: Path, split: str, root: Path) -> list[_Line]:
    try:
        text = read_bounded(file, limit=MAX_LIST, what="the list").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"the list {file} is not UTF-8; save it as UTF-8") from None
    out: list[_Line] = []
    # Not splitlines(): a file name may hold a form feed or a Unicode line separator.
    for number, raw in enumerate(text.split("\n"), start=1):
        line, where = raw.strip(" \t\r"), f"{file}, line {number}"
        if not line:
            continue
        uri, label = _parse(line, where)
        path = inside(
            root / os.path.normpath(uri), root, what=f"{where}: {uri!r:.200}", fix="copy the file in or set --root"
        )
        if not is_file(path):
            raise DataError(f"{where}: the image {str(path)[:300]} does not exist; fix the line, or set --root")
        out.append(_Line(uri=path.relative_to(root).as_posix(), label=label, split=split, where=where))
    return out


def _parse(line: str, where: str) -> tuple[str, int]:
    parts = line.rsplit(maxsplit=1)
    if len(parts) < 2:
        raise DataError(f"{where}: {line!r:.200} has no label; each line is `path label`")
    try:
        label = int(parts[1])
    except ValueError:
        raise DataError(f"{where}: the label {parts[1]!r:.40} is not an integer; each line is `path label`") from None
    if label < 0:
        raise DataError(f"{where}: the label {str(label)[:40]} is negative; number the labels from 0")
    return parts[0], label


def _classes(lines: list[_Line], count: int, *, noisy: bool) -> tuple[str, ...]:
    """The images' parent folders if they name the labels one to one, else the numbers.

    Most lines of a list agreeing with their folders, those that do not are a `DataError`, unless `noisy` (the classes
    are named otherwise); so are two lists that each agree with the folders, and not with each other.
    """
    folder = [class_name(PurePosixPath(line.uri).parent.name) for line in lines]
    seen: dict[str, dict[int, str]] = {}
    for split in dict.fromkeys(line.split for line in lines):
        pairs = Counter((line.label, kind) for line, kind in zip(lines, folder, strict=True) if line.split == split)
        seen[split] = _one_to_one(pairs)
    pairs = Counter((line.label, kind) for line, kind in zip(lines, folder, strict=True))
    named = _one_to_one(pairs) or next(iter(seen.values()))
    if not all(seen.values()) or not named:
        return tuple(map(str, range(count)))
    number = {kind: label for label, kind in named.items()}
    odd = [at for at, line in enumerate(lines) if named.get(line.label, folder[at]) != folder[at]
           or number.get(folder[at], line.label) != line.label]  # fmt: skip
    if odd and noisy and len({tuple(sorted(one.items())) for one in seen.values()}) == 1:
        return tuple(map(str, range(count)))
    if odd:
        line, kind = lines[odd[0]], folder[odd[0]]
        right = number.get(kind)
        told = f"{line.where}: {line.uri!r} has label {line.label}"
        if right is not None:
            other = next(one for one, k in zip(lines, folder, strict=True) if (one.label, k) == (right, kind))
            told += f", and {other.where}: {other.uri!r} of the same folder has {right}"
        else:
            told += f", whose other images lie in {named[line.label]!r}"
        raise DataError(
            f"{told}; {len(odd)} lines contradict their folders; "
            "correct them, or name the classes with --class-names FILE if these labels are meant"
        )
    if len(named) < count:
        return tuple(map(str, range(count)))
    return tuple(named[label] for label in range(count))


def _one_to_one(pairs: Counter[tuple[int, str]]) -> dict[int, str]:
    """label -> folder name where most rows of each label lie in a folder of its own; else {}."""
    best: dict[int, str] = {}
    for (label, kind), _ in pairs.most_common():
        best.setdefault(label, kind)
    agreeing = sum(pairs[label, kind] for label, kind in best.items())
    kinds = {kind for _, kind in pairs}
    whole = len(set(best.values())) == len(best) == len(kinds) and all(best.values())
    return best if whole and 2 * agreeing > sum(pairs.values()) and len(best) > 1 else {}


def _group(uri: str, file: Path) -> str:
    parts = PurePosixPath(uri).parts
    return parts[0] if len(parts) > 2 else file.stem.replace(BRACES, "").strip("_-. ") or file.stem


SOURCE = Source(open=open_list, expand=expand_files, on_disk=True)
