"""Paths of images: which files count, which may be opened, what a glob of locations matches."""

from __future__ import annotations

import fnmatch
import re
from difflib import get_close_matches
from glob import glob
from pathlib import Path

from w2s_fast.core.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
BRACES = "{train,test}"
"""In the name of a list: two files that give the official split."""


def is_image(name: str) -> bool:
    """Whether a file name counts as an image; hidden files (`._x.jpg` of some archivers) do not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def inside(path: Path, root: Path, *, what: str) -> Path:
    """`path` itself if it lies in `root` (resolved) once its links and dots are resolved, else a `DataError`."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise DataError(f"{what} leads to {resolved}, outside the root {root}; copy the file in or set --root")
    return path


def existing_folder(location: str, *, what: str) -> Path:
    """The resolved folder that `location` names, or a `DataError`."""
    path = Path(location).expanduser()
    if not path.exists():
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
