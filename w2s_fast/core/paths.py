"""Where the cache lives."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache: str | Path | None = None) -> Path:
    """The cache folder: the argument, else `$W2S_FAST_CACHE`, else `w2s_fast` under the user's cache folder."""
    if cache is not None:
        return Path(cache).expanduser()
    named = os.environ.get("W2S_FAST_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "w2s_fast"
