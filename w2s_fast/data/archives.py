"""Archives unpacked safely: nothing leaves the folder, no links, no bombs, and nothing stands half-made."""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from w2s_fast.core.errors import DataError

MAX_RATIO = 200
"""Bytes that a member may unpack to, for each byte of the archive: images hardly shrink, bombs do by thousands."""
MAX_MEMBERS = 20_000_000
SLACK = 64 << 20
"""Bytes that an archive may unpack to whatever its size."""
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A file that came out of an archive: path below the root, bytes, CRC-32."""

    path: str
    size: int
    crc32: int


def unpack(archive: Path, root: Path, *, on_progress: Callable[[int], None] | None = None) -> list[Unpacked]:
    """Unpack a zip or tar (gz, bz2, xz) into `root` and return its files in order.

    All is unpacked beside first and moved when it is whole, so that a run that is stopped leaves nothing half-made.
    `DataError` for an archive that is cut or damaged, for members that are links or devices or lead out of it, for
    names that occur twice, and for more bytes than the archive's size or the disk allows.
    """
    root.mkdir(parents=True, exist_ok=True)
    scratch = root / f".unpacking-{archive.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    most = archive.stat().st_size * MAX_RATIO + SLACK
    out: list[Unpacked] = []
    seen: set[str] = set()
    try:
        for name, stream in _members(archive):
            path = _safe(name, archive)
            if path.casefold() in seen:
                raise DataError(f"{archive}: the member {name[:200]!r} occurs twice; fetch the archive again")
            seen.add(path.casefold())
            if len(out) >= MAX_MEMBERS:
                raise DataError(f"{archive} holds more than {MAX_MEMBERS} files; it is not what it should be")
            one = _write(stream, scratch / path, path, most, archive, scratch)
            most -= one.size
            out.append(one)
            if on_progress is not None:
                on_progress(len(out))
        if not out:
            raise DataError(f"{archive} is empty; fetch it again")
        _move(scratch, root)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is cut or damaged ({error}); fetch it again") from None
    except OSError as error:
        if error.filename is None and error.errno is None:  # gzip's and bz2's own complaints
            raise DataError(f"{archive} is cut or damaged ({error}); fetch it again") from None
        raise DataError(f"{archive} could not be unpacked into {root}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = info.external_attr >> 28
                if kind not in (0, 4, 8):
                    raise DataError(
                        f"{archive}: the member {info.filename[:200]!r} is a link or a device; it is refused"
                    )
                if info.flag_bits & 1:
                    raise DataError(f"{archive}: the member {info.filename[:200]!r} is encrypted; unpack it by hand")
                if not info.is_dir():
                    with file.open(info) as stream:
                        yield info.filename, stream
        return
    if not tarfile.is_tarfile(archive):
        raise DataError(f"{archive} is neither a zip nor a tar archive; fetch it again")
    with tarfile.open(archive) as file:
        for member in file:
            if member.isdir():
                continue
            if not member.isreg():
                raise DataError(f"{archive}: the member {member.name[:200]!r} is a link or a device; it is refused")
            stream = file.extractfile(member)
            assert stream is not None
            with stream:
                yield member.name, stream


def _safe(name: str, archive: Path) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    bad = path.is_absolute() or ".." in path.parts or any(ord(c) < 32 for c in name) or ":" in name[:3]
    if bad or not path.parts or path.parts[0].startswith(".unpacking"):
        raise DataError(f"{archive}: the member {name[:200]!r} leads out of the folder; the archive is refused")
    return str(path)


def _write(stream: IO[bytes], to: Path, path: str, most: int, archive: Path, scratch: Path) -> Unpacked:
    to.parent.mkdir(parents=True, exist_ok=True)
    size, crc = 0, 0
    with to.open("xb") as file:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > most:
                raise DataError(f"{archive} unpacks to far more than its size ({path[:200]!r}); the archive is refused")
            crc = zlib.crc32(block, crc)
            file.write(block)
    return Unpacked(path=path, size=size, crc32=crc)


def _move(scratch: Path, root: Path) -> None:
    """Move what was unpacked, folder by folder where a folder of that name stands already."""
    for entry in os.scandir(scratch):
        to = root / entry.name
        if entry.is_dir() and to.is_dir():
            _move(Path(entry.path), to)
        else:
            Path(entry.path).replace(to)
