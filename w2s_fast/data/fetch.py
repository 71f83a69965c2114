"""Files of the catalogue downloaded: resumed by range, checked, unpacked, and recorded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from w2s_fast.core.errors import DataError
from w2s_fast.data.archives import Unpacked, unpack
from w2s_fast.data.catalogue import Entry, Published

RECORDS = ".w2s-fetched"
"""The folder below a root that says what each archive held."""
TRIES = 5
"""Connections that may break without a new byte before a download is given up."""
TIMEOUT = 60.0
_BLOCK = 1 << 20
OnProgress = Callable[[str, int, int], None]


def fetch(
    entry: Entry,
    part: str,
    root: Path,
    *,
    keep: bool = False,
    mirror: str | None = None,
    on_progress: OnProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> list[str]:
    """Get the files of a data set (a part of it) into `root`; returns what is left to place by hand.

    Files that are there and right are kept; a `.partial` file is taken up where it ends. Archives are removed once
    unpacked, unless `keep`. `mirror` replaces the folder of each url. `DataError` for a wrong size or checksum (the
    file is removed), a server that doesn't answer, too little disk, and archives that `unpack` refuses.
    """
    tell = say or (lambda text: None)
    root.mkdir(parents=True, exist_ok=True)
    wanted = entry.of(part)
    todo = [f for f in wanted if not _recorded(root, f)]
    _room(entry, root, [f for f in todo if f.url and not (root / f.name).exists()])
    left: list[str] = []
    for one in todo:
        path = root / one.name
        if not path.exists():
            if one.url is None:
                left.append(f"{one.name}: {one.by_hand or 'no public address'}; place it at {path}")
                continue
            url = one.url if mirror is None else f"{mirror.rstrip('/')}/{one.url.rsplit('/', 1)[-1]}"
            download(url, path, size=one.bytes, on_progress=on_progress)
        check(one, path)
        if one.checksum is None:
            tell(f"{one.name}: no checksum is published for it, so that it is unverified")
        if one.kind == "archive":
            tell(f"unpacking {one.name}")
            shown = None if on_progress is None else (lambda n, name=one.name: on_progress(f"unpack {name}", n, n))
            _record(root, one, unpack(path, root, on_progress=shown))
            if not keep:
                path.unlink()
    return left


def download(url: str, path: Path, *, size: int | None, on_progress: OnProgress | None = None) -> None:
    """`url` -> `path`, by way of `path.partial`, which a later call takes up where it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    tries = 0
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        if size is not None and have > size:
            partial.unlink()
            continue
        if size is not None and have == size:
            break
        try:
            if _more(url, partial, have, size, on_progress):
                break
            why = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise DataError(f"{url}: the server answers {error.code} {error.reason}; fetch it by hand") from None
            why = f"{error.code} {error.reason}"
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            why = str(getattr(error, "reason", error))
        grown = partial.exists() and partial.stat().st_size > have
        tries = 0 if grown else tries + 1
        if tries >= TRIES:
            raise DataError(f"{url}: {why}; {have} bytes are kept in {partial}: the same command goes on from there")
        time.sleep(min(8.0, 0.1 * 2**tries))
    partial.replace(path)


def _more(url: str, partial: Path, have: int, size: int | None, on_progress: OnProgress | None) -> bool:
    """Append what the server gives from byte `have` on; whether that was all."""
    request = urllib.request.Request(url, headers={"User-Agent": "w2s-fast"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        partial.unlink()  # it is longer than the file: of another version
        return False
    with answer:
        if have and (answer.status != 206 or not _from(answer.headers.get("Content-Range"), have)):
            have = 0
        told = answer.headers.get("Content-Length")
        total = size or (have + int(told) if told and told.isdecimal() else 0)
        with partial.open("ab" if have else "wb") as file:
            while block := answer.read(_BLOCK):
                have += len(block)
                if size is not None and have > size:
                    raise DataError(f"{url}: the server sends more than the published {size} bytes; nothing is kept")
                file.write(block)
                if on_progress is not None:
                    on_progress(partial.name.removesuffix(".partial"), have, total)
    return have == total if total else True


def _from(told: str | None, have: int) -> bool:
    return bool(told) and str(told).startswith(f"bytes {have}-")


def check(one: Published, path: Path) -> None:
    """`DataError` unless `path` has the published size and checksum; a file that was fetched wrong is set aside."""
    size = path.stat().st_size
    if one.bytes is not None and size != one.bytes:
        raise DataError(f"{path} has {size} bytes, not the published {one.bytes}; remove it and fetch it again")
    if one.checksum is None:
        return
    kind, _, told = one.checksum.partition(":")
    if (found := digest(path, kind)) != told:
        raise DataError(f"{path} has {kind} {found}, not the published {told}; remove it and fetch it again")


def digest(path: Path, kind: str) -> str:
    """The sha256 or md5 of a file, in hex."""
    hashed = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def record_file(root: Path, one: Published) -> Path:
    """Where the contents of an archive are recorded."""
    return root / RECORDS / f"{Path(one.name).name}.json"


def recorded(root: Path, one: Published) -> dict[str, tuple[int, int]] | None:
    """Path -> (bytes, CRC-32) of what an archive held when it was unpacked here; None if it wasn't."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(record_file(root, one).read_text(encoding="utf-8"))
        if record["checksum"] == one.checksum:
            return {path: (int(size), int(crc)) for path, size, crc in record["files"]}
    return None


def _recorded(root: Path, one: Published) -> bool:
    return one.kind == "archive" and recorded(root, one) is not None


def _record(root: Path, one: Published, found: list[Unpacked]) -> None:
    record: dict[str, Any] = {"checksum": one.checksum, "files": [[f.path, f.size, f.crc32] for f in found]}
    path = record_file(root, one)
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(record), encoding="utf-8")
    os.replace(scratch, path)  # noqa: PTH105


def _room(entry: Entry, root: Path, todo: list[Published]) -> None:
    """Refuse before the first byte: an archive needs its own size twice while it is unpacked."""
    needed = sum((f.bytes or 0) * (2 if f.kind == "archive" else 1) for f in todo)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{entry.name} needs {needed / 1e9:.1f} GB (archives and what they hold), and {root} has {free / 1e9:.1f} "
            "GB free; choose another --root, or one part (w2s-fast data info)"
        )
