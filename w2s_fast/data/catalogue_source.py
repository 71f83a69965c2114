"""`NAME[/PART]` with --root, or `NAME:ROOT[/PART]`: a data set of the catalogue, in the layouts that are about."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from w2s_fast.core.classes import ClassNames, renamed
from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import number_repeats, row_id
from w2s_fast.data import Source, arrays
from w2s_fast.data.catalogue import Entry, split_name
from w2s_fast.data.decode import pil_route
from w2s_fast.data.folder import open_folder
from w2s_fast.data.identity import identify
from w2s_fast.data.listing import open_list
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.paths import BRACES, existing_folder, inside, is_file, read_bounded

DATA = "W2S_FAST_DATA"
"""The folder that holds data sets of the catalogue, each in a folder of its name, where no root is given."""
MAX_JSON = 1 << 30


def placed(text: str, root: Path | None) -> tuple[Entry, str, Path]:
    """Entry, part and existing root of `NAME/PART` (root: --root, else $W2S_FAST_DATA/NAME) or `NAME:ROOT/PART`."""
    name, colon, location = text.partition(":")
    if colon:
        if root is not None:
            raise DataError(f"{text}: the root is given twice; write {name} --root DIR, or {name}:DIR")
        named = split_name(name)
        assert named is not None
        entry, path = named[0], Path(location).expanduser()
        part = path.name if path.name in entry.parts else ""
        return entry, part, existing_folder(str(path.parent if part else path), what=text)
    named = split_name(text)
    assert named is not None
    entry, part = named
    if root is None and DATA in os.environ:
        root = Path(os.environ[DATA]).expanduser() / entry.name
    if root is None:
        raise DataError(
            f"{text}: say where it lies with --root DIR (or ${DATA}); `w2s-fast data fetch {text} --root DIR` gets it"
        )
    return entry, part, existing_folder(str(root), what=text)


def open_named(
    location: str,
    *,
    root: Path | None,
    identity: str,
    class_names: ClassNames,
    cache: str | Path | None,
) -> Manifest:
    """The manifest of a data set of the catalogue; its labels are in the catalogue's order of classes.

    Errors (`DataError`): nothing there, a part that isn't named where there are several, another layout, another
    number of classes.
    """
    entry, part, folder = placed(location, root)
    if part not in entry.parts:
        known = ", ".join(f"{entry.name}/{p}" for p in entry.parts)
        raise DataError(f"{location} has parts; name one: {known}")
    read = {"domains": _domain, "folders": _folders, "cifar": _pixels, "idx": _pixels, "inat": _inat}[entry.layout]
    made = read(entry, part, folder, identity, cache)
    expected = len(entry.classes) or entry.parts[part].classes
    if expected and len(made.classes) != expected:
        raise DataError(
            f"{location}: {folder} has {len(made.classes)} classes, not {expected}; is it another data set?"
        )
    name = entry.name + (f"/{part}" if part else "")
    classes = renamed(made.classes, class_names, where=name)
    known_as = made.classes if classes != made.classes else ()
    return replace(made, name=name, classes=classes, known_as=known_as, defaults=dict(entry.defaults))


def lists_of(entry: Entry, part: str, root: Path) -> str | None:
    """Where the lists of a part lie below `root`: a path with `{train,test}`, or None."""
    for below in entry.lists:
        pair = root / below / f"{part}_{BRACES}.txt"
        if all(is_file(Path(str(pair).replace(BRACES, split))) for split in ("train", "test")):
            return str(pair)
    return None


def _domain(entry: Entry, part: str, root: Path, identity: str, cache: str | Path | None) -> Manifest:
    if lists := lists_of(entry, part, root):
        return open_list(lists, root=root, identity=identity, class_names=entry.classes, cache=cache)
    folders = entry.parts[part].folders or (part,)
    folder = next((root / f for f in folders if (root / f).is_dir()), None)
    if folder is None:
        where = " or ".join(
            [*(f"{root / b}/{part}_train.txt" for b in entry.lists), *(f"{root / f}/" for f in folders)]
        )
        raise DataError(
            f"{entry.name}/{part}: neither lists nor folders of it are in {root} (looked for {where}); "
            f"`w2s-fast data fetch {entry.name}/{part} --root {root}` gets it"
        )
    made = open_folder(str(folder), root=None, identity=identity, class_names=None, cache=cache)
    return _reordered(made, entry)


def _reordered(made: Manifest, entry: Entry) -> Manifest:
    """Labels in the catalogue's order of classes instead of the folders' own."""
    if unknown := next((c for c in made.classes if c not in entry.classes), None):
        raise DataError(f"{made.name}: the folder {unknown!r} is no class of {entry.name}; move or rename it")
    number = np.array([entry.classes.index(c) for c in made.classes], np.int64)
    return replace(made, classes=entry.classes, labels=number[made.labels])


def _folders(entry: Entry, part: str, root: Path, identity: str, cache: str | Path | None) -> Manifest:
    folder = root / entry.folder if entry.folder and (root / entry.folder).is_dir() else root
    return open_folder(str(folder), root=None, identity=identity, class_names=None, cache=cache)


def _pixels(entry: Entry, part: str, root: Path, identity: str, cache: str | Path | None) -> Manifest:
    uris: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    ids: list[str] = []
    for split, files in (("train", entry.train), ("test", entry.test)):
        for form, path, table, truth in _tables(entry, root, files):
            file = path.relative_to(root).as_posix()
            uris += [f"{form}:{row}:{file}" for row in range(len(table))]
            labels += truth.tolist()
            splits += [split] * len(truth)
            if identity == "path":
                ids += [row_id(f"{file}:{row}".encode()) for row in range(len(table))]
            else:
                ids += [row_id(one.tobytes()) for one in table]
    if labels and max(labels) >= len(entry.classes):
        raise DataError(f"{entry.name}: a label of {max(labels)} for {len(entry.classes)} classes; fetch it again")
    return Manifest(
        name=entry.name,
        root=root,
        classes=entry.classes,
        labels=np.array(labels, np.int64),
        ids=number_repeats(ids),
        uris=tuple(uris),
        splits=tuple(splits),
        groups=(entry.name,) * len(uris),
        decode=arrays.array_route(identity),
    )


def _tables(entry: Entry, root: Path, files: Sequence[str]) -> list[tuple[str, Path, Any, Any]]:
    """(form, path, pixels, labels) of each file of pixels."""
    paths: list[Path] = []
    for name in files:
        path = arrays.found(root, name)
        if path is None:
            raise DataError(
                f"{entry.name}: {root / name} (or .gz) does not exist; "
                f"`w2s-fast data fetch {entry.name} --root {root}` gets it"
            )
        paths.append(path)
    if entry.layout == "idx":
        table, truth = arrays.read_idx(paths[0]), arrays.read_idx(paths[1]).astype(np.int64)
        if table.ndim != 3 or truth.shape != table.shape[:1]:
            raise DataError(f"{paths[0]} holds {table.shape} and {paths[1]} {truth.shape}; fetch both again")
        return [("idx", paths[0], table, truth)]
    return [(f"cifar{entry.labels}", p, *arrays.read_cifar(p, labels=entry.labels)) for p in paths]


def _inat(entry: Entry, part: str, root: Path, identity: str, cache: str | Path | None) -> Manifest:
    """The JSON of the challenge: images, annotations, categories; names from categories.json where it lies beside."""
    uris: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    names: dict[int, str] = {}
    for split, files in (("train", entry.train), ("test", entry.test)):
        for name in files:
            record = _json(root / name)
            try:
                category = {a["image_id"]: int(a["category_id"]) for a in record["annotations"]}
                names |= {int(c["id"]): str(c["name"]) for c in record.get("categories", [])}
                for image in record["images"]:
                    path = inside(root / os.path.normpath(image["file_name"]), root, what=f"{root / name}: an image")
                    if not is_file(path):
                        raise DataError(f"{root / name}: the image {path} does not exist; unpack the archive again")
                    uris.append(path.relative_to(root).as_posix())
                    labels.append(category[image["id"]])
                    splits.append(split)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{root / name} is not of the form of iNaturalist's files ({error!r})") from None
    if is_file(root / "categories.json"):
        names |= {int(c["id"]): str(c["name"]) for c in _json(root / "categories.json")}
    number = {c: label for label, c in enumerate(sorted(set(labels)))}
    classes = tuple(names.get(c, str(c)) for c in number)
    if len(set(classes)) != len(classes):
        classes = tuple(f"{name} {c}" for name, c in zip(classes, number, strict=True))
    return Manifest(
        name=entry.name,
        root=root,
        classes=classes,
        labels=np.array([number[c] for c in labels], np.int64),
        ids=identify(root, uris, identity=identity, cache=cache),
        uris=tuple(uris),
        splits=tuple(splits),
        groups=(entry.name,) * len(uris),
        decode=pil_route(identity),
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, limit=MAX_JSON, what="the annotations"))
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON; fetch it again") from None


def expand(pattern: str) -> list[str]:
    """The parts that a glob matches, as `NAME/PART`."""
    name, _, part = pattern.partition("/")
    named = split_name(name)
    return [f"{name}/{p}" for p in named[0].parts if p and fnmatch.fnmatchcase(p, part)] if named else []


SOURCE = Source(open=open_named, expand=expand)
