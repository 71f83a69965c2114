"""Sealed JSON records: commits and completions, checked to the last byte before they are believed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from w2s_fast.core.errors import NewerFormat
from w2s_fast.core.hashing import canonical_json, digest_json
from w2s_fast.store import layout
from w2s_fast.store.layout import FORMAT, MAX_DEPTH, MAX_DIGITS, MAX_PARTS, MAX_RECORD, MAX_VALUES

_HEAD = b'{"record":'
_MID = b',"sha256":"'
_TAIL = b'"}\n'
_HEX = re.compile(r"[0-9a-f]{64}")


class Bad(ValueError):
    """Bytes that are not what they should be; callers add file, rows and the way to fix it."""


class Failure(TypedDict):
    """A row without features: its id, its number in the bank, and why."""

    id: str
    row: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What a commit promises of one file; `crc32c` is that of a chunk's data, without the trailing checksum."""

    bytes: int
    sha256: str
    crc32c: int | None = None


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One part: rows [start, stop) of bank `key` in `parts/<directory>`."""

    key: str
    part: int
    start: int
    stop: int
    directory: str
    files: dict[str, FileEntry]
    ids_digest: str
    named: dict[int, str]
    """Ids (by row within the part) that their 16 packed bytes do not spell: repetitions and foreign ids."""
    failures: tuple[Failure, ...]
    producer: dict[str, Any]

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def to_bytes(self) -> bytes:
        files = {
            name: {"bytes": f.bytes, "sha256": f.sha256} | ({} if f.crc32c is None else {"crc32c": f.crc32c})
            for name, f in self.files.items()
        }
        return seal(
            {
                "format": FORMAT,
                "kind": "commit",
                "key": self.key,
                "part": self.part,
                "rows": [self.start, self.stop],
                "directory": self.directory,
                "files": files,
                "ids": self.ids_digest,
                "named": [[row, text] for row, text in sorted(self.named.items())],
                "failures": list(self.failures),
                "producer": self.producer,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Commit:
        """Parse strictly: `Bad` for anything that this format does not allow, `NewerFormat` for a later one."""
        r = Fields(unseal(data), kind="commit")
        part = r.number("part", 0, MAX_PARTS - 1)
        bounds = r.listing("rows")
        if len(bounds) != 2 or not all(type(b) is int for b in bounds):
            raise Bad("its rows are not two numbers")
        start, stop = cast("list[int]", bounds)
        if start != part * layout.PART_ROWS or not start < stop <= start + layout.PART_ROWS:
            raise Bad(f"its rows [{start}, {stop}) are not those of part {part}")
        directory = r.text("directory")
        if not layout.is_part_name(directory, part):
            raise Bad(f"its directory {directory[:80]!r} is not a folder of part {part} inside the bank")
        named: dict[int, str] = {}
        for entry in r.listing("named"):
            if not (isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int and type(entry[1]) is str):
                raise Bad("its named ids are not pairs of a row and a text")
            named[entry[0]] = entry[1]
        if any(not 0 <= row < stop - start for row in named):
            raise Bad("it names an id outside its rows")
        return cls(
            key=r.digest("key"),
            part=part,
            start=start,
            stop=stop,
            directory=directory,
            files=_files(r.mapping("files")),
            ids_digest=r.digest("ids"),
            named=named,
            failures=_failures(r.listing("failures"), start, stop),
            producer=r.mapping("producer"),
        )


@dataclass(frozen=True, kw_only=True)
class Complete:
    """The statement that a bank is whole; `failures` are the first ones, all of them stand in the commits."""

    key: str
    rows: int
    dim: int
    rows_digest: str
    digest: str
    failed: int
    failures: tuple[Failure, ...]

    SHOWN = 1000

    def to_bytes(self) -> bytes:
        return seal(
            {
                "format": FORMAT,
                "kind": "complete",
                "key": self.key,
                "rows": self.rows,
                "dim": self.dim,
                "rows_digest": self.rows_digest,
                "digest": self.digest,
                "failed": self.failed,
                "failures": list(self.failures[: self.SHOWN]),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Complete:
        """Parse strictly, as `Commit.from_bytes` does."""
        r = Fields(unseal(data), kind="complete")
        rows = r.number("rows", 1, MAX_PARTS * layout.PART_ROWS)
        return cls(
            key=r.digest("key"),
            rows=rows,
            dim=r.number("dim", 1, 1 << 31),
            rows_digest=r.text("rows_digest"),
            digest=r.digest("digest"),
            failed=r.number("failed", 0, rows),
            failures=_failures(r.listing("failures"), 0, rows),
        )


def bank_digest(commits: Iterable[Commit]) -> str:
    """What "the same bytes" means: sha256 over the sorted (rows, ids digest, file name -> sha256) of all parts.

    File names are relative to the part's folder, so that the nonces of two runs do not matter.
    """
    return digest_json(
        sorted(
            [c.start, c.stop, c.ids_digest, [[name, f.sha256] for name, f in sorted(c.files.items())]] for c in commits
        )
    )


def seal(record: dict[str, Any]) -> bytes:
    """`{"record": <canonical JSON>, "sha256": "<of the record's bytes>"}` in one fixed spelling."""
    body = canonical_json(record).encode()
    data = _HEAD + body + _MID + hashlib.sha256(body).hexdigest().encode() + _TAIL
    if len(data) > MAX_RECORD:
        raise Bad(f"a record of {len(data)} bytes is larger than {MAX_RECORD}")
    _check_crowd(data)
    return data


def unseal(data: bytes) -> dict[str, Any]:
    """The record of a sealed file; the digest is compared before anything is parsed."""
    tail = len(_MID) + 64 + len(_TAIL)
    body = data[len(_HEAD) : -tail]
    if data != _HEAD + body + _MID + hashlib.sha256(body).hexdigest().encode() + _TAIL:
        raise Bad("its bytes do not match their own sha256")
    return parse_object(body)


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object from bytes; infinite numbers, repeated names, deep nesting, broken UTF-8, a crowd are refused."""
    _check_crowd(data)
    try:
        value = json.loads(
            data.decode(),
            parse_constant=_no_constant,
            parse_int=_short,
            parse_float=_finite,
            object_pairs_hook=_named_once,
        )
    except (ValueError, RecursionError):
        raise Bad("it is not JSON") from None
    if not isinstance(value, dict):
        raise Bad("it is not a JSON object")
    layer: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner = [v.values() if isinstance(v, dict) else v for v in layer if isinstance(v, dict | list)]
        layer = [v for values in inner for v in values]
    if layer:
        raise Bad(f"it is nested deeper than {MAX_DEPTH} levels")
    return cast("dict[str, Any]", value)


class Fields:
    """Typed access to a parsed record of one kind, in this format."""

    def __init__(self, record: dict[str, Any], *, kind: str) -> None:
        self.record = record
        check_format(record)
        if record.get("kind") != kind:
            raise Bad(f"it is not a {kind} record")

    def number(self, name: str, low: int, high: int) -> int:
        value = self.record.get(name)
        if type(value) is not int or not low <= value <= high:
            raise Bad(f"its {name} is not a number between {low} and {high}")
        return value

    def text(self, name: str) -> str:
        value = self.record.get(name)
        if type(value) is not str:
            raise Bad(f"its {name} is not text")
        return value

    def digest(self, name: str) -> str:
        value = self.text(name)
        if not _HEX.fullmatch(value):
            raise Bad(f"its {name} is not a sha256")
        return value

    def listing(self, name: str) -> list[Any]:
        value = self.record.get(name)
        if not isinstance(value, list):
            raise Bad(f"its {name} is not a list")
        return cast("list[Any]", value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.record.get(name)
        if not isinstance(value, dict):
            raise Bad(f"its {name} is not an object")
        return cast("dict[str, Any]", value)


def check_format(record: dict[str, Any]) -> None:
    """`Bad` without a format number, `NewerFormat` for a later one than this version reads."""
    value = record.get("format")
    if type(value) is not int or value < 1:
        raise Bad("it has no format number")
    if value > FORMAT:
        raise NewerFormat(
            f"written in cache format {str(value)[:20]}, and this version reads up to {FORMAT}; upgrade w2s_fast"
        )


def _files(entries: dict[str, Any]) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise Bad(f"its entry of file {name[:80]!r} is not an object")
        size, sha, crc = entry.get("bytes"), entry.get("sha256"), entry.get("crc32c")
        if type(size) is not int or size < 0 or type(sha) is not str or not _HEX.fullmatch(sha):
            raise Bad(f"its entry of file {name[:80]!r} has no size and sha256")
        if crc is not None and (type(crc) is not int or not 0 <= crc < 1 << 32):
            raise Bad(f"its entry of file {name[:80]!r} has a malformed crc32c")
        files[name] = FileEntry(bytes=size, sha256=sha, crc32c=crc)
    return files


def _failures(entries: list[Any], start: int, stop: int) -> tuple[Failure, ...]:
    out: list[Failure] = []
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"id", "row", "reason"}:
            raise Bad("a failure record has other fields than id, row and reason")
        row = entry["row"]
        if type(row) is not int or not start <= row < stop:
            raise Bad("a failure record names a row outside its part")
        if type(entry["id"]) is not str or type(entry["reason"]) is not str:
            raise Bad("a failure record's id and reason are not text")
        out.append(Failure(id=entry["id"], row=row, reason=entry["reason"]))
    return tuple(out)


def _check_crowd(data: bytes) -> None:
    # Every value but the first follows one of these bytes. Those inside texts count too: a bound that needs no parsing.
    count = data.count(b",") + data.count(b"[") + data.count(b"{")
    if count > MAX_VALUES:
        raise Bad(f"it holds {count} values, commas and brackets, more than {MAX_VALUES}")


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:  # the time to convert digits grows with their square
        raise ValueError(text)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found
