"""Removing what means nothing: leftovers of writers that were killed, what repairs took out, references to no bank."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from w2s_fast.core.errors import CacheError, NewerFormat
from w2s_fast.core.paths import cache_root
from w2s_fast.store import files, layout, mirror
from w2s_fast.store.bucket import unnamed_in
from w2s_fast.store.records import Bad, Commit
from w2s_fast.store.refs import ref_files

DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or folder that nothing names, its bytes, and why it means nothing."""

    path: Path | str
    """A file or folder, or the name of a part's folder in the bucket."""
    bytes: int
    why: str


def collect_garbage(
    *, older_than: float = DAY, dry_run: bool = False, cache: str | Path | None = None
) -> Iterator[Garbage]:
    """Find and, unless `dry_run`, remove what nothing names and nobody has touched for `older_than` seconds.

    Parts that a commit names are never touched, and in a bank with a record that cannot be read (damaged, forbidden,
    of a later format) no part is: such a record may name any. Each piece is yielded after it is gone. CacheError where
    something may not be removed.
    """
    before = time.time() - older_than
    for path, why in _unnamed(layout.store_root(cache)):
        newest, size = _newest_and_size(path)
        if newest >= before:
            continue
        if not dry_run:
            try:
                if path.is_dir() and not path.is_symlink():
                    files.remove_tree(path)
                else:
                    files.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CacheError(
                    f"{error.filename or path} cannot be removed ({error.strerror or error}); permit writing, "
                    "and run gc again"
                ) from error
        yield Garbage(path=path, bytes=size, why=why)
    objects = mirror.bucket_of(cache_root(cache))
    if objects is None:
        return
    for found, why in unnamed_in(objects, before=before):
        for one in () if dry_run else found:
            objects.delete(one.name)
        folder = "/".join(found[0].name.split("/")[:5])
        yield Garbage(path=folder, bytes=sum(one.bytes for one in found), why=why)


def _unnamed(root: Path) -> Iterator[tuple[Path, str]]:
    for ref, path in ref_files(root / "refs"):
        if not layout.key_file(root / ref.key[:2] / ref.key).exists():
            yield path, f"refers to bank {ref.key[:12]}, which is gone"
    yield from _leftovers(root / "refs")
    for bank in sorted(root.glob("??/" + "[0-9a-f]" * 64)):
        yield from _leftovers(bank)
        yield from _leftovers(layout.commits_dir(bank))
        yield from _leftovers(layout.parts_dir(bank))
        named = _named_parts(bank)
        for folder in _entries(layout.parts_dir(bank)) if named is not None else ():
            if folder.name not in (named or ()) and layout.part_of(folder.name) is not None:
                yield folder, "no commit names it"


def _leftovers(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in _entries(folder):
        if path.name.startswith(layout.TMP):
            yield path, "was never finished, or was taken out as damaged"


def _named_parts(bank: Path) -> set[str] | None:
    """The part folders that the commits of a bank name; None when one of them cannot be read."""
    named: set[str] = set()
    for path in _entries(layout.commits_dir(bank)):
        if path.name.startswith(layout.TMP):
            continue
        try:
            named.add(Commit.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD)).directory)
        except (Bad, OSError, NewerFormat):
            return None
    return named


def _entries(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir())
    return []


def _newest_and_size(path: Path) -> tuple[float, int]:
    """The latest mtime in a tree, and its bytes; a tree that is changing counts as new."""
    try:
        top = os.lstat(path)
        newest, size = top.st_mtime, 0 if path.is_dir() and not path.is_symlink() else top.st_size
        for here, folders, names in os.walk(path):
            for name in folders + names:
                s = os.lstat(Path(here, name))
                newest = max(newest, s.st_mtime)
                size += s.st_size if name in names else 0
    except FileNotFoundError:
        return float("inf"), 0
    return newest, size
