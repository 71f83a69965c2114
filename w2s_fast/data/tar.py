"""Members of plain tar files, found and read in place; nothing is ever extracted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data.paths import inside, opened

BLOCK = 512
MAX_NAME = 1 << 16
"""Bytes of the longest extended header (GNU long name, pax)."""
_FILE, _FOLDER, _LONG_NAME, _PAX, _PAX_GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"x", b"g"
_SPECIAL = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file inside a tar: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar, in order; folders are passed over.

    `DataError` for what a data set has no use for: compression, links, devices, sparse files, names that are absolute
    or lead upwards, headers whose checksum or size is wrong.
    """
    with opened(path, what="the tar") as file:
        end = os.fstat(file.fileno()).st_size
        at, long_name, long_size = 0, None, None
        while (header := _header(file, at, end, path)) is not None:
            kind, where = header[156:157], f"{path}, byte {at}"
            size = _number(header[124:136], where)
            if long_size is not None and kind in _FILE:
                size = long_size
            start, at = at + BLOCK, at + BLOCK + -(-size // BLOCK) * BLOCK
            if start + size > end:
                raise DataError(f"{where}: a member of {size} bytes, though the tar ends before; fetch it again")
            if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
                if size > MAX_NAME:
                    raise DataError(f"{where}: an extended header of {size} bytes, more than {MAX_NAME}; pack it anew")
                file.seek(start)
                body = file.read(size)
                if kind == _LONG_NAME:
                    long_name = _decoded(body.split(b"\0", 1)[0])
                elif kind == _PAX:
                    found = _pax(body, where)
                    long_name, long_size = found.get("path", long_name), _pax_size(found, where)
                continue
            name = long_name if long_name is not None else _name(header)
            long_name = long_size = None
            if kind == _FOLDER:
                continue
            if kind not in _FILE:
                what = _SPECIAL.get(kind, f"of the kind {kind!r}, which is not a plain file")
                raise DataError(f"{where}: the member {name[:200]!r} is {what}; pack plain files only")
            yield Member(name=_checked(name, where), offset=start, size=size)


def uri_of(shard: str, member: Member) -> str:
    """What a manifest names a member by: `offset+size:shard/name`."""
    return f"{member.offset}+{member.size}:{shard}/{member.name}"


def read_member(root: Path, uri: str, *, limit: int) -> tuple[bytes, str]:
    """The bytes of a member named by `uri_of`, and how messages call it; only the shard is ever opened."""
    place, _, rest = uri.partition(":")
    shard, _, name = rest.partition("/")
    offset, _, size = place.partition("+")
    path = inside(root / shard, root, what=f"the tar {root / shard}")
    called = f"{path}:{name}"
    if int(size) > limit:
        raise Unreadable(f"the image {called} is larger than {limit >> 20} MiB; remove it or make it smaller")
    with opened(path, what="the tar") as file:
        file.seek(int(offset))
        content = file.read(int(size))
    if len(content) != int(size):
        raise DataError(f"the image {called} changed since the manifest was made; run w2s-fast extract again")
    return content, called


def _header(file: BinaryIO, at: int, end: int, path: Path) -> bytes | None:
    if at + BLOCK > end:  # without the empty block at its end, a tar may have been cut between two samples
        raise DataError(f"{path}, byte {at}: the tar ends before its end mark; fetch it again")
    file.seek(at)
    header = file.read(BLOCK)
    if header == bytes(BLOCK):
        return None
    plain = header[:148] + b" " * 8 + header[156:]
    told = header[148:156].strip(b" \0")
    if not told or set(told) - set(b"01234567") or int(told, 8) != sum(plain):
        raise DataError(
            f"{path}, byte {at}: no tar header is here; give plain uncompressed tars, and fetch damaged ones again"
        )
    return header


def _number(field: bytes, where: str) -> int:
    if field[0] & 0x80:  # sizes of 8 GiB and more, in base 256
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.strip(b" \0")
    if set(text) - set(b"01234567"):
        raise DataError(f"{where}: the size of a member is not a number; fetch the tar again")
    return int(text or b"0", 8)


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    old = header[257:263] != b"ustar\0"  # GNU's own magic keeps times where ustar keeps the prefix
    return _decoded(name if old or not prefix else prefix + b"/" + name)


def _pax(body: bytes, where: str) -> dict[str, str]:
    """`length key=value` lines; of repeated keys the last one counts, as the standard says."""
    found: dict[str, str] = {}
    while body:
        digits, _, _ = body.partition(b" ")
        if not digits.isdigit() or len(digits) > 6 or not len(digits) + 2 < int(digits) <= len(body):
            raise DataError(f"{where}: an extended header that is none; fetch the tar again")
        line, body = body[len(digits) + 1 : int(digits)], body[int(digits) :]
        key, _, value = line.removesuffix(b"\n").partition(b"=")
        found[_decoded(key)] = _decoded(value)
    if odd := next((k for k in found if k.startswith("GNU.sparse")), None):
        raise DataError(f"{where}: a sparse member ({odd}); pack plain files only")
    return found


def _pax_size(found: dict[str, str], where: str) -> int | None:
    size = found.get("size")
    if size is not None and not (size.isdecimal() and size.isascii() and len(size) < 20):
        raise DataError(f"{where}: the size {size[:20]!r} of a member is not a number; fetch the tar again")
    return None if size is None else int(size)


def _checked(name: str, where: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\n" in name:
        raise DataError(f"{where}: the member name {name[:200]!r} is not a path inside the tar; pack it anew")
    return str(PurePosixPath(name))


def _decoded(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
