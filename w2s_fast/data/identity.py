"""Ids of image files from their bytes, remembered by path, size, times and inode so that each file is read once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import ID_BYTES, number_repeats, row_id
from w2s_fast.core.paths import cache_root
from w2s_fast.data.paths import is_file, opened

MEMO = "identity.sqlite3"
_CHUNK = 1 << 20
_BATCH = 500
_SETTLED_NS = 2_000_000_000
"""A file touched within the last two seconds is not remembered: a second write could leave size and mtime the same."""
_SECONDS = 5.0
"""What one query of the memo may take."""
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS contents "
    "(path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode TEXT, id TEXT)"
)
"""The table `files` of older versions is left as it is: two files of one size and mtime, swapped, kept their ids."""
Stamp = tuple[int, int, int, str]
"""size, mtime in ns, ctime in ns, inode (as text: it may be larger than sqlite's integers)."""


def identify(
    root: Path, uris: Sequence[str], *, identity: str, cache: str | Path | None = None, threads: int | None = None
) -> tuple[str, ...]:
    """One id per file `root / uri`: its content's (`identity='content'`) or its relative path's and size's (`'path'`).

    Repeated contents are numbered `#2`, `#3` in the order of `uris`. Files that cannot be read are a `DataError`.
    """
    paths = [root / uri for uri in uris]
    stats = [_stat(path) for path in paths]
    if identity == "path":
        sized = zip(uris, stats, strict=True)
        return number_repeats([row_id(f"{u}\n{s.st_size}".encode(errors="surrogatepass")) for u, s in sized])
    found = remembered(
        [str(p) for p in paths], stats, lambda row: hash_content(paths[row]), cache=cache, threads=threads
    )
    return number_repeats(found)


def remembered(
    names: Sequence[str],
    stats: Sequence[os.stat_result],
    hash_row: Callable[[int], str],
    *,
    cache: str | Path | None,
    threads: int | None = None,
) -> list[str]:
    """The id of each row, from the memo where the row's name has the stamp of then, else from `hash_row`."""
    memo = Memo(cache_root(cache) / MEMO)
    known = memo.get(names)
    ids: dict[int, str] = {}
    for row, (name, now) in enumerate(zip(names, stats, strict=True)):
        stamp, found = known.get(name, (None, ""))
        if stamp == stamp_of(now):
            ids[row] = found
    todo = [row for row in range(len(names)) if row not in ids]
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        ids.update(zip(todo, pool.map(hash_row, todo), strict=True))
    settled = time.time_ns() - _SETTLED_NS
    memo.put((names[row], stamp_of(stats[row]), ids[row]) for row in todo if stats[row].st_mtime_ns < settled)
    return [ids[row] for row in range(len(names))]


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes when a file is written, replaced or renamed."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, str(found.st_ino)


def hash_content(path: Path, *, offset: int = 0, size: int | None = None) -> str:
    """The id of a file's bytes, or of `size` bytes from `offset` on."""
    digest, left = hashlib.sha256(), float("inf") if size is None else size
    try:
        with opened(path, what="the image") as file:
            file.seek(offset)
            while left and (block := file.read(int(min(_CHUNK, left)))):
                digest.update(block)
                left -= len(block)
    except OSError as error:
        raise DataError(f"the image {path} cannot be read ({error.strerror}); restore it or remove its row") from None
    return digest.hexdigest()[: 2 * ID_BYTES]


class Memo:
    """A small sqlite file of (path, stamp, id); a read-only or broken one only costs time, never an error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, paths: Sequence[str]) -> dict[str, tuple[Stamp, str]]:
        """What is remembered of `paths`: path -> (stamp, id)."""
        if not is_file(self.path):
            return {}
        out: dict[str, tuple[Stamp, str]] = {}
        try:
            with closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
                for start in range(0, len(paths), _BATCH):
                    some = {_text(p): p for p in paths[start : start + _BATCH]}
                    marks = ",".join("?" * len(some))
                    query = f"SELECT path, size, mtime_ns, ctime_ns, inode, id FROM contents WHERE path IN ({marks})"
                    _bound(db)
                    found = db.execute(query, list(some)).fetchmany(len(some))
                    out.update({some[p]: (tuple(stamp), i) for p, *stamp, i in found if p in some and _sound(i)})
        except sqlite3.Error:
            return {}
        return out

    def put(self, rows: Iterator[tuple[str, Stamp, str]]) -> None:
        """Remember rows of (path, stamp, id); a file that is not a database is replaced."""
        known = list(rows)
        if not known:
            return
        try:
            self._put(known)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                return
            try:
                self.path.unlink(missing_ok=True)
                self._put(known)
            except (OSError, sqlite3.Error):
                return

    def _put(self, rows: list[tuple[str, Stamp, str]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        if os.path.lexists(self.path) and not is_file(self.path):
            return
        with closing(sqlite3.connect(self.path, timeout=5)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute(_SCHEMA)
            _bound(db)
            values = ((_text(path), *stamp, found) for path, stamp, found in rows)
            db.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?, ?)", values)
            db.commit()


def _text(path: str) -> str:
    """The path as sqlite can hold it: a name that is not UTF-8 is spelled in hex."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"hex:{os.fsencode(path).hex()}"
    return path


def _bound(db: sqlite3.Connection) -> None:
    # A memo that somebody else wrote may call an endless view or trigger "files".
    deadline = time.monotonic() + _SECONDS
    db.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)


def _sound(text: object) -> bool:
    return isinstance(text, str) and len(text) == 2 * ID_BYTES


def _stat(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"the image {path} cannot be read ({error.strerror}); restore it or remove its row") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"the image {path} is not a regular file; remove it")
    return found
