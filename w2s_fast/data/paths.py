"""Paths of images: which files count, which may be opened, what a glob of locations matches."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import BinaryIO

from w2s_fast.core.errors import DataError, Unreadable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LEFT_BEHIND = (
    "__MACOSX",
    "__pycache__",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
)
"""Names of folders that archivers, file servers and file systems make."""
BRACES = "{train,test}"
"""In the name of a list: two files that give the official split."""


def is_image(name: str) -> bool:
    """Whether a file name counts as an image; hidden files (`._x.jpg` of some archivers) do not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_passed_over(folder: str) -> bool:
    """Whether a program left a folder behind, with no images of the user's: `.ipynb_checkpoints`, `@eaDir`."""
    return folder.startswith(".") or folder in LEFT_BEHIND


def inside(path: Path, root: Path, *, what: str, fix: str = "copy the file into it") -> Path:
    """`path` itself if it lies in `root` (resolved) once its links and dots are resolved, else a `DataError`.

    fix: what the user can do about a link that leads out.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that no file can have
        raise DataError(f"{what} leads nowhere ({_why(error)}); correct the path") from None
    if not resolved.is_relative_to(root):
        raise DataError(f"{what} leads to {str(resolved)[:300]}, outside the root {root}; {fix}")
    return path


def read_bounded(path: Path, *, limit: int, what: str) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; `DataError` for anything else, and nothing blocks.

    More than `limit` bytes of an image are `Unreadable`: a property of the content.
    """
    with opened(path, what=what) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = file.read(limit + 1) if size <= limit else b""
        except OSError as error:
            raise DataError(f"{what} {path} cannot be read ({error.strerror}); restore it or remove its row") from None
    if max(size, len(content)) > limit:
        raise Unreadable(f"{what} {path} is larger than {limit >> 20} MiB; remove it or make it smaller")
    return content


def opened(path: Path, *, what: str) -> BinaryIO:
    """A regular file open for reading; pipes and devices are refused without waiting for whoever feeds them."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise DataError(f"{what} {path} cannot be read ({_why(error)}); restore it or remove its row") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DataError(f"{what} {path} is not a regular file; remove it")
    return os.fdopen(fd, "rb")


def is_file(path: Path) -> bool:
    """Whether there is a regular file of this name; False too for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)[:200]


def existing_folder(location: str, *, what: str) -> Path:
    """The resolved folder that `location` names, or a `DataError`."""
    path = Path(location).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{what}: no folder can have this name ({_why(error)}); correct the path") from None
    if not there:
        there = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, there, n=1)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise DataError(f"{what}: the folder {path} does not exist; correct the path, or make the folder{hint}")
    if not path.is_dir():
        raise DataError(f"{what}: {path} is not a folder; a file of `path label` lines is list:{path}")
    return path.resolve()


# Path.glob cannot take an absolute pattern, hence glob() and the exemptions below.
def expand_folders(pattern: str) -> list[str]:
    """Folders that match a glob, sorted."""
    return sorted(p for p in glob(str(Path(pattern).expanduser())) if Path(p).is_dir())  # noqa: PTH207


def expand_files(pattern: str) -> list[str]:
    """Files that match a glob, sorted; `{train,test}` stays in the results, for those that have the train file."""
    text = str(Path(pattern).expanduser())
    before, braces, after = text.partition(BRACES)
    if not braces:
        return sorted(p for p in glob(text) if Path(p).is_file())  # noqa: PTH207
    shape = re.compile(f"({_regex(before)})train({_regex(after)})")
    matches = [shape.fullmatch(p) for p in glob(f"{before}train{after}") if Path(p).is_file()]  # noqa: PTH207
    return sorted(f"{m[1]}{BRACES}{m[2]}" for m in matches if m)


def _regex(pattern: str) -> str:
    # translate() wraps its regex as (?s:...)\Z (or \z): the anchor must go before something can follow.
    return re.sub(r"\\[zZ]$", "", fnmatch.translate(pattern))
