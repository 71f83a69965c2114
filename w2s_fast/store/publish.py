"""One part as a zarr v3 group on disk: written, read back, made durable, and only then given its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import CacheError
from w2s_fast.store import files, layout
from w2s_fast.store.memory import empty
from w2s_fast.store.part import CRC_BYTES, GROUP_JSON, array_json, chunk_name, crc32c
from w2s_fast.store.records import FileEntry

_BLOCK = 1 << 18


def publish_part(
    bank: Path, part: int, arrays: dict[str, NDArray[Any]], *, check: Callable[[], None] = lambda: None
) -> tuple[str, dict[str, FileEntry]]:
    """Write, make durable, read back and rename into place; nothing refers to the folder yet.

    `check` raises when the numbers must not be stored. It and the hashing run in threads of their own, while the disk
    is waited for.
    """
    mark = files.nonce()
    parts = layout.parts_dir(bank)
    tmp, final = parts / (layout.TMP + mark), parts / layout.part_name(part, mark)
    with ThreadPoolExecutor(2) as pool:
        try:
            checking = pool.submit(check)
            contents, crcs = encode_part(arrays)
            hashing = pool.submit(_entries, contents, crcs)

            def read_back() -> None:
                for name, buffers in contents.items():
                    compare(tmp / name, buffers)

            files.put_tree(tmp, contents, meanwhile=read_back)
            checking.result()
            entries = hashing.result()
            files.rename(tmp, final)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove_tree(tmp)
            raise
    files.sync_dir(parts)
    return final.name, entries


def encode_part(arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, tuple[Any, ...]], dict[str, int]]:
    """The files of a part (relative name -> buffers one after another), and the CRC-32C of each chunk's data.

    Written without zarr, so that equal numbers are equal bytes whatever zarr is installed; and every chunk is there,
    one of zeros too, which zarr leaves out unless asked.
    """
    contents: dict[str, tuple[Any, ...]] = {"zarr.json": (GROUP_JSON,)}
    crcs: dict[str, int] = {}
    for name, values in arrays.items():
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        chunk = chunk_name(name)
        crcs[chunk] = crc32c(flat)
        contents[f"{name}/zarr.json"] = (array_json(name, values.dtype, values.shape),)
        contents[chunk] = (flat, crcs[chunk].to_bytes(CRC_BYTES, "little"))
    return contents, crcs


def _entries(contents: dict[str, tuple[Any, ...]], crcs: dict[str, int]) -> dict[str, FileEntry]:
    """What the commit will promise of each file: what was meant, to which `compare` holds what is there."""
    entries: dict[str, FileEntry] = {}
    for name, buffers in contents.items():
        digest = hashlib.sha256()
        for buffer in buffers:
            digest.update(buffer)
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        entries[name] = FileEntry(bytes=size, sha256=digest.hexdigest(), crc32c=crcs.get(name))
    return entries


def compare(path: Path, buffers: tuple[Any, ...]) -> None:
    """Read a whole file back and hold each of its bytes against what was meant."""
    block = empty((_BLOCK,), np.uint8)
    with os.fdopen(files.open_regular(path), "rb", buffering=0) as file:
        same = True
        for buffer in buffers:
            meant = np.frombuffer(buffer, np.uint8)
            for start in range(0, len(meant), _BLOCK):
                wanted = meant[start : start + _BLOCK]
                there = block[: len(wanted)]
                same = same and file.readinto(memoryview(cast("bytes", there))) == len(wanted)
                kind = np.uint64 if len(wanted) == _BLOCK else np.uint8  # eight bytes at a time, where there are many
                same = same and bool((there.view(kind) == wanted.view(kind)).all())
        same = same and not file.read(1)
    if not same:
        raise CacheError(f"{path}: it does not read back as it was written; check the disk, and run the command again")
