"""Files that a bank's key was made of: what they were then, and whether they still are.

A file is what it holds. Its size, times and inode only tell when it need not be read again; a folder holds the names of
what lies in it. Links are followed to what they lead to now.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from w2s_fast.store.records import Bad

MAX_PATH = 4096
"""Characters of the longest path in a reference."""

Watched = tuple[Any, ...]
"""(path, size, mtime in ns, ctime in ns, inode, sha256); older references hold the first three only."""
_WHOLE, _OLDER = (str, int, int, int, int, str), (str, int, int)


def watched(path: str | Path) -> Watched:
    """What a file is now; OSError if it is not there."""
    name = str(Path(path).absolute())
    found = os.stat(name)  # noqa: PTH116
    times = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return (name, *times, _content(name, times))


def whole(entry: Watched) -> bool:
    """Whether the entry says what the file held, which those of older versions do not."""
    return len(entry) == len(_WHOLE)


def change(entry: Watched) -> str | None:
    """What became of a file in words, or None if it holds what it held."""
    name, size, *times = entry
    try:
        now = os.stat(name)  # noqa: PTH116
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)[: len(times) + 1] == (size, *times[:3]):
            return None
        if not whole(entry):
            return f"{name} changed"
        folder = stat.S_ISDIR(now.st_mode)
        if not folder and not stat.S_ISREG(now.st_mode):  # a pipe or device would be read for ever
            return f"{name} changed (it is not a regular file)"
        if not folder and now.st_size != size:
            return f"{name} changed ({now.st_size} bytes, before {size})"
        current = (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
        if _content(name, current) == times[3]:
            return None
        return f"{name} changed ({'files were added or removed' if folder else 'another content'})"
    except FileNotFoundError:
        return f"{name} changed (it is gone)"
    except (OSError, ValueError):  # ValueError: no file can have this name
        return f"{name} changed (it cannot be read)"


def entry_of(value: object) -> Watched:
    """An entry of a record, checked; `Bad` for anything else."""
    found: Watched = tuple(cast("list[Any]", value)) if isinstance(value, list) else ()
    if tuple(type(v) for v in found) not in (_WHOLE, _OLDER):
        raise Bad("a weight entry is not a path, a size, times, an inode and a sha256")
    if len(found[0]) > MAX_PATH:
        raise Bad(f"a weight entry names a path of more than {MAX_PATH} characters")
    return found


@lru_cache(maxsize=256)
def _content(name: str, times: tuple[int, ...]) -> str:
    """sha256 of a file, or of the sorted names in a folder; `times` make it one reading per state of the file."""
    if stat.S_ISDIR(os.stat(name).st_mode):  # noqa: PTH116
        names = sorted(n for n in os.listdir(name) if not n.startswith("."))  # noqa: PTH208
        return hashlib.sha256("\0".join(names).encode(errors="surrogatepass")).hexdigest()
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
