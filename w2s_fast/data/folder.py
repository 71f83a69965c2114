"""`imagefolder:PATH`: one folder per class, with train/ and val|test/ above them as the official split."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from w2s_fast.core.classes import ClassNames, class_name, in_order, renamed
from w2s_fast.core.errors import DataError
from w2s_fast.data import Source
from w2s_fast.data.decode import pil_route
from w2s_fast.data.identity import identify
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.paths import SUFFIXES, existing_folder, expand_folders, inside, is_image, is_passed_over

LINKED = "copy what it leads to in its place, or name the files in a list (list:FILE --root DIR)"
TRAIN, POOL = ("train", "training"), ("val", "valid", "validation", "test", "testing")
"""Names, in any case, of the folders of an official split."""
NOT_READ = (".gif", ".tif", ".tiff", ".jfif", ".avif", ".heic", ".ppm", ".pgm", ".jp2", "")
"""Endings of pictures (or none) that are counted and told instead of read."""
MAX_DEPTH = 64
"""Folders between a class folder and an image."""


def open_folder(
    location: str,
    *,
    root: Path | None,
    identity: str,
    class_names: ClassNames,
    cache: str | Path | None,
) -> Manifest:
    """The manifest of a folder of class folders; nested folders are walked, images sorted by path.

    Classes are sorted by name, by value where all names are numbers.

    Errors (`DataError`): no such folder, a class folder without images, links or paths that leave the folder, both val/
    and test/ beside train/.
    """
    name = f"imagefolder:{location}"
    if root is not None:
        raise DataError(f"{name}: --root is for lists of paths; write imagefolder:PATH with the whole path")
    folder = existing_folder(location, what=name)
    parts = _official(folder, name)
    found: list[tuple[str, str, str]] = []
    others: Counter[str] = Counter()
    for split, part in parts:
        for kind in _subfolders(part, folder, name):
            images = sorted(_images(kind, folder, name, above=(), seen=set(), others=others))
            if not images:
                raise DataError(
                    f"{name}: the class folder {kind} holds no images ({' '.join(SUFFIXES)}); fill or remove it"
                )
            found += [(split, kind.name, uri) for uri in images]
    spelled: dict[str, str] = {}
    for _, kind, _ in found:
        if spelled.setdefault(class_name(kind), kind) != kind:
            raise DataError(
                f"{name}: the class folders {kind!r} and {spelled[class_name(kind)]!r} are one name in two "
                "spellings; merge them"
            )
    own = tuple(in_order(list(spelled)))
    if not own:
        raise DataError(
            f"{name}: {folder} has no class folders; put the images of each class into a folder of its name"
        )
    classes = renamed(own, class_names, where=name)
    number = {spelled[kind]: label for label, kind in enumerate(own)}
    uris = tuple(uri for _, _, uri in found)
    return Manifest(
        name=name,
        root=folder,
        classes=classes,
        known_as=own if classes != own else (),
        labels=np.array([number[kind] for _, kind, _ in found], np.int64),
        ids=identify(folder, uris, identity=identity, cache=cache),
        uris=uris,
        splits=tuple(split for split, _, _ in found),
        groups=(folder.name,) * len(found),
        decode=pil_route(identity),
        notes=_left_out(others),
    )


def _left_out(others: Counter[str]) -> tuple[str, ...]:
    if not others:
        return ()
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return (f"{sum(others.values())} files beside the images are not read ({kinds}); save pictures as {SUFFIXES[1]}",)


def _official(folder: Path, name: str) -> list[tuple[str, Path]]:
    present = sorted(e.name for e in _entries(folder, name) if e.is_dir() and not is_passed_over(e.name))
    trains, pools = ([p for p in present if p.lower() in known] for known in (TRAIN, POOL))
    if not trains or not pools:
        _check_tree(folder, present, name)
        return [("", folder)]
    if len(pools) > 1:
        several = "/ and ".join(sorted(pools, reverse=True))
        raise DataError(f"{name}: both {several}/ stand beside {trains[0]}/; rename the one that is not the test pool")
    if odd := [p for p in present if p not in (trains[0], pools[0])]:
        raise DataError(
            f"{name}: {odd[0]}/ stands beside {trains[0]}/ and {pools[0]}/; move it, or move the classes into them"
        )
    return [("train", folder / trains[0]), ("test", folder / pools[0])]


def _check_tree(folder: Path, present: list[str], name: str) -> None:
    """Refuse folders that hold the same class folders: domains, or halves of a split by other names."""
    inner: dict[str, set[str]] = {}
    for kind in present:
        entries = [e for e in _entries(folder / kind, name) if not is_passed_over(e.name)]
        if not any(is_image(e.name) for e in entries):
            inner[kind] = {e.name for e in entries if e.is_dir()}
    for at, (one, subs) in enumerate(inner.items()):
        for other in list(inner)[at + 1 :]:
            shared = sorted(subs & inner[other])
            if len(shared) > 1:
                raise DataError(
                    f"{name}: {one}/ and {other}/ hold no images but the same folders ({', '.join(shared[:3])}"
                    f"{', ...' if len(shared) > 3 else ''}): they are domains or halves of a split, not classes; open "
                    f"one, as in {shlex.quote(f'imagefolder:{folder / one}')}, or call the halves train/ and test/"
                )


def _subfolders(part: Path, root: Path, name: str) -> list[Path]:
    kept = sorted(part / e.name for e in _entries(part, name) if not is_passed_over(e.name))
    return [inside(p, root, what=f"{name}: the link {p}", fix=LINKED) for p in kept if p.is_dir()]


def _images(
    folder: Path, root: Path, name: str, *, above: tuple[Path, ...], seen: set[Path], others: Counter[str]
) -> Iterator[str]:
    real = folder.resolve()
    if real in above:
        raise DataError(f"{name}: the link {folder} leads back to a folder above it; remove the link")
    if real in seen:
        raise DataError(f"{name}: the link {folder} leads to {real}, whose images are listed already; remove the link")
    if len(above) >= MAX_DEPTH:
        raise DataError(f"{name}: {folder} is nested more than {MAX_DEPTH} folders deep; move its images up")
    seen.add(real)
    for entry in _entries(folder, name):
        path = Path(entry.path)
        if is_passed_over(entry.name):
            continue
        if entry.is_symlink():
            inside(path, root, what=f"{name}: the link {path}", fix=LINKED)
            if is_image(entry.name) and not path.exists():
                raise DataError(f"{name}: the link {path} leads nowhere; fix or remove it")
        if entry.is_dir():
            yield from _images(path, root, name, above=(*above, real), seen=seen, others=others)
        elif is_image(entry.name) and entry.is_file():
            yield path.relative_to(root).as_posix()
        elif path.suffix.lower() in NOT_READ and entry.is_file():
            others[path.suffix.lower() or "without a suffix"] += 1


def _entries(folder: Path, name: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"{name}: the folder {folder} cannot be read ({error.strerror}); permit it or move it"
        ) from None


SOURCE = Source(open=open_folder, expand=expand_folders, on_disk=True)
