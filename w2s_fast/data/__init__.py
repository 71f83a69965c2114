"""Manifests, sources, safe decoding, splits, and the embedded drawn data set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from w2s_fast.core.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from w2s_fast.core.classes import ClassNames
    from w2s_fast.data.manifest import Manifest

SOURCES: dict[str, str] = {
    "imagefolder": "w2s_fast.data.folder:SOURCE",
    "list": "w2s_fast.data.listing:SOURCE",
    "wds": "w2s_fast.data.webdataset:SOURCE",
    "drawn": "w2s_fast.data.drawn_source:SOURCE",
}
"""Source name -> "module:attribute" of its `Source`; the entry-point group `w2s_fast.sources` adds others."""
CATALOGUE = "w2s_fast.data.catalogue_source:SOURCE"
"""The source of names without a prefix: the data sets of the catalogue."""
GROUP = "w2s_fast.sources"
DEFAULT_DATA = "drawn:*"
"""The data sets that are meant where none is named."""
IDENTITIES = ("content", "path")
_GLOB = re.compile(r"[*?\[]")


class Open(Protocol):
    """What opens one location of a source."""

    def __call__(
        self,
        location: str,
        *,
        root: Path | None,
        identity: str,
        class_names: ClassNames,
        cache: str | Path | None,
    ) -> Manifest: ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of manifests: how one location is opened, and which locations a glob stands for."""

    open: Open
    expand: Callable[[str], list[str]]
    on_disk: bool = False
    """Whether a location is a path, which `canonical` makes absolute."""


def sources() -> tuple[str, ...]:
    """All known source names, third-party ones last; imports none of them."""
    from w2s_fast.core import plugins  # not above: decoding processes start without it in half the time

    return plugins.names(SOURCES, GROUP)


def open_manifest(
    data: str,
    *,
    root: str | Path | None = None,
    identity: str = "content",
    class_names: str | Path | None = None,
    cache: str | Path | None = None,
) -> Manifest:
    """The manifest of `<source>:<location>`: `imagefolder:/p`, `list:/p/clipart_{train,test}.txt`, `drawn:sketch`, ...

    `root` is what the lines of a list are relative to (default: its folder). `identity` is `content` (an id is the
    sha256 prefix of the bytes, remembered under `cache` by path, size, times and inode) or `path` (relative path and
    size, for sets too large to hash). `class_names` is a file with `old<TAB>new` lines, or with one name a line in
    label order where classes are numbers. Errors: `UsageError` for a name without a known source, `DataError` for what
    is wrong in the data.
    """
    from w2s_fast.data.manifest import read_names

    if identity not in IDENTITIES:
        raise UsageError(f"identity {identity!r} is neither 'content' nor 'path'{nearest(identity, IDENTITIES)}")
    source, location = _source(data)
    names = None if class_names is None else read_names(class_names)
    folder = None if root is None else Path(root).expanduser()
    return source.open(location, root=folder, identity=identity, class_names=names, cache=cache)


def canonical(data: str) -> str:
    """The name under which a data set is remembered: a path is absolute, whatever folder it was named from."""
    source, location = _source(data)
    if catalogued(data) and ":" in data:
        name, _, location = data.partition(":")
        return f"{name}:{os.path.abspath(Path(location).expanduser())}"  # noqa: PTH100 - keeps links
    if not source.on_disk:
        return data
    return f"{data.partition(':')[0]}:{os.path.abspath(Path(location).expanduser())}"  # noqa: PTH100 - keeps links


def on_disk(data: str) -> bool:
    """Whether a data set is read from a path, so that its bytes take time to read."""
    return _source(data)[0].on_disk


def expand_data(patterns: str | Sequence[str]) -> list[str]:
    """The data names that `patterns` stand for, in order, each once: `drawn:*`, `imagefolder:/p/*`, or plain names.

    A path that exists as it is written stands for itself, whatever it contains. A pattern that matches nothing is a
    `DataError`; a name without a glob is not looked up here.
    """
    from w2s_fast.data.paths import BRACES

    found: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        source, location = _source(pattern)
        if catalogued(pattern):
            plain = ":" in pattern or not _GLOB.search(pattern)
            matches = [pattern] if plain else source.expand(pattern)
            if not matches:
                raise DataError(f"no part of the data set matches {pattern!r}; see w2s-fast data ls")
            found.update(dict.fromkeys(matches))
            continue
        prefix = pattern.partition(":")[0]
        if location and (not _GLOB.search(location) or (source.on_disk and _stands(location))):
            found[f"{prefix}:{location}"] = None
            continue
        matches = source.expand(location)
        if not matches:
            raise DataError(f"no data set matches {pattern!r}; check the spelling, and quote globs against the shell")
        found.update({f"{prefix}:{m}": None for m in matches})
    for name in found:
        if "train" in name and (other := name.replace("train", "test")) in found and name.startswith(("list:", "wds:")):
            raise UsageError(
                f"{name} and {other} are the halves of one data set, which a shell made of {BRACES}; quote it: "
                f"'{name.replace('train', BRACES)}'"
            )
    return list(found)


def catalogued(data: str) -> bool:
    """Whether `data` is `NAME`, `NAME/PART` or `NAME:ROOT` of a data set in the catalogue."""
    name = re.split(r"[:/]", data, maxsplit=1)[0]
    if not name or name in SOURCES:
        return False
    from w2s_fast.data import catalogue

    return name in catalogue.names()


def _stands(location: str) -> bool:
    from w2s_fast.data.paths import BRACES

    return Path(location.replace(BRACES, "train")).expanduser().exists()


def _source(data: str) -> tuple[Source, str]:
    from w2s_fast.core import plugins

    name, colon, location = data.partition(":")
    known = sources()
    if name in known:
        if not location and name != "drawn":
            raise UsageError(f"{data!r} names no location; write {name}:PATH")
        return plugins.load(SOURCES, GROUP, name), location
    if catalogued(data):
        return plugins.load({"catalogue": CATALOGUE}, GROUP, "catalogue"), data
    if not data.strip():
        raise UsageError(f"the name of the data set is empty ({data!r}); write imagefolder:PATH or drawn:DOMAIN")
    path = Path(data).expanduser()
    if not colon or len(name) == 1 or "/" in name or path.exists():
        prefix = "list" if path.is_file() or path.suffix in {".txt", ".lst"} else "imagefolder"
        raise UsageError(f"{data!r} has no source prefix; write {prefix}:{data}")
    raise UsageError(f"unknown data source {name!r} in {data!r}{nearest(name, known)}")
