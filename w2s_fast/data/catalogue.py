"""The catalogue: published data sets by name, with where they come from and what they must hold (data_manifests/)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

from w2s_fast.core.errors import DataError, UsageError, nearest

LAYOUTS = ("domains", "folders", "cifar", "idx", "inat")
KINDS = ("archive", "list", "data", "by hand")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One file that a data set is published as.

    `kind`: an `archive` is unpacked into the root, a `list` names images and labels, `data` is read as it is, `by hand`
    is neither. `published` says where size and checksum stand; without a checksum the file is unverified. `by_hand`
    says why it isn't fetched and what to do instead. `part` is the part of the data set that needs it; '' = all.
    """

    name: str
    kind: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    published: str | None = None
    by_hand: str | None = None
    part: str = ""

    @property
    def checksum(self) -> str | None:
        """`sha256:HEX` or `md5:HEX`, the stronger one that is published; None = unverified."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part (a domain; '' = the whole) must hold, and the folders that it may lie in below the root."""

    train: int | None = None
    test: int | None = None
    images: int | None = None
    classes: int | None = None
    known_extras: int = 0
    folders: tuple[str, ...] = ()

    @property
    def expected(self) -> int:
        """Images that it must hold."""
        return self.images if self.images is not None else (self.train or 0) + (self.test or 0)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A data set of the catalogue, as its manifest file describes it."""

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    layout: str
    parts: dict[str, Part]
    files: tuple[Published, ...]
    classes: tuple[str, ...] = ()
    slips: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Folders below the root where lists may lie."""
    folder: str = ""
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    labels: int = 1
    """CIFAR: bytes before each picture, of which the last is the label."""
    extras: str | None = None
    """The file that names images which the archives hold and the cleaned lists don't."""
    extras_published: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])

    def of(self, part: str) -> list[Published]:
        """The files that a part needs."""
        return [f for f in self.files if not part or f.part in ("", part)]


def names() -> tuple[str, ...]:
    """The names of the catalogue, sorted; no file is parsed."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")))


@cache
def entry(name: str) -> Entry:
    """The entry of a name; `UsageError` for an unknown one, `DataError` for a manifest file that is none."""
    if name not in names():
        raise UsageError(f"the catalogue has no data set {name!r}{nearest(name, names())}")
    where = f"data_manifests/{name}.toml"
    try:
        raw = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where} is not TOML ({error}); restore it") from None
    parts = {key: _made(Part, value, f"{where}, part {key!r}") for key, value in raw.pop("parts", {}).items()}
    found = tuple(_made(Published, value, f"{where}, file {n}") for n, value in enumerate(raw.pop("files", []), 1))
    made = _made(Entry, {**raw, "name": name, "parts": parts, "files": found}, where)
    if made.layout not in LAYOUTS:
        raise DataError(f"{where}: unknown layout {made.layout!r}{nearest(made.layout, LAYOUTS)}")
    if odd := next((f for f in found if f.kind not in KINDS), None):
        raise DataError(f"{where}: {odd.name} is of the unknown kind {odd.kind!r}{nearest(odd.kind, KINDS)}")
    if not parts:
        raise DataError(f'{where}: it says no counts; add [parts.""]')
    return made


def split_name(text: str) -> tuple[Entry, str] | None:
    """`NAME` or `NAME/PART` as entry and part ('' = not said); None where it's no name of the catalogue."""
    name, _, part = text.partition("/")
    if name not in names():
        return None
    found = entry(name)
    if part and part not in found.parts:
        known = [p for p in found.parts if p]
        raise UsageError(f"{name} has no part {part!r}{nearest(part, known)}")
    return found, part


def _made(kind: Any, raw: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(kind)}
    if unknown := next((key for key in raw if key not in known), None):
        raise DataError(f"{where}: unknown key {unknown!r}{nearest(unknown, known)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise DataError(f"{where}: {str(error).partition(' ')[2]}") from None


def _folder() -> Any:
    return files("w2s_fast") / "data_manifests"
