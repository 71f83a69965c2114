"""Where the cache lives."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from w2s_fast.core.errors import UsageError

# `Path` turns the two slashes of an address into one
_BUCKET = re.compile(r"(s3|gs|az|memory):/+([^/].*?)/*")
_LONGEST_NAME = 255


def absolute_path(value: Any) -> Any:
    """A path from the root of the file system, links kept; anything else as it is."""
    if not isinstance(value, str | Path):
        return value
    return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - keeps links


def cache_root(cache: str | Path | None = None) -> Path:
    """The cache folder: the argument, else `$W2S_FAST_CACHE`, else `w2s_fast` under the user's cache folder.

    The address of a bucket (`s3://bucket/prefix`, `gs://...`, `az://...`) has a folder on this machine that mirrors it,
    under `$W2S_FAST_MIRRORS`, else under `mirrors` in the user's folder.
    """
    named = str(cache) if cache is not None else os.environ.get("W2S_FAST_CACHE")
    if not named:
        return _own()
    bucket = _BUCKET.fullmatch(named)
    if bucket is None:
        return Path(named).expanduser()
    folder = quote(f"{bucket[1]}://{bucket[2]}", safe="")
    if len(folder) > _LONGEST_NAME:
        raise UsageError(f"the cache address {named[:80]}... is too long for a folder's name; take a shorter prefix")
    return _mirrors() / folder


def mirrored(root: Path) -> str | None:
    """The address of the bucket that a cache folder mirrors, or None for a plain folder."""
    if root.parent != _mirrors():
        return None
    bucket = _BUCKET.fullmatch(unquote(root.name))
    return f"{bucket[1]}://{bucket[2]}" if bucket else None


def _mirrors() -> Path:
    named = os.environ.get("W2S_FAST_MIRRORS")
    return Path(named).expanduser() if named else _own() / "mirrors"


def _own() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "w2s_fast"
