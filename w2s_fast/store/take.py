"""Some rows of a bank, straight from the files: for banks that are larger than memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from w2s_fast.store import files
from w2s_fast.store.part import ArrayMeta, chunk_name, confined, fill_chunk, within
from w2s_fast.store.records import Bad, FileEntry

Stamp = tuple[int, int, int, int]
"""Device, inode, size and mtime in ns of a chunk file as it was when its checksum was found right."""


def take_rows(
    folder: Path, meta: ArrayMeta, entry: FileEntry, rows: NDArray[np.int64], checked: dict[Path, Stamp]
) -> NDArray[Any]:
    """`rows` of one chunk, in its stored type; `BadFile` when the chunk is not the committed one.

    A checksum covers a whole chunk, so a chunk is read whole and checked before its first row is taken, and again
    whenever its file is another or has changed; rows of a checked chunk are then read one by one.
    """
    name = chunk_name(meta.name)
    out = np.empty((len(rows), *meta.shape[1:]), meta.dtype)
    with within(name):
        path = confined(folder, name)
        with os.fdopen(files.open_regular(path), "rb", buffering=0) as file:
            fd = file.fileno()
            before = _stamp(fd)
            if checked.get(path) != before:
                fill_chunk(file, meta, entry, np.empty(meta.shape, meta.dtype))
            width = meta.data_bytes // meta.shape[0]
            view = memoryview(cast("bytes", out.reshape(-1).view(np.uint8)))
            for i, row in enumerate(rows.tolist()):
                if os.preadv(fd, [view[i * width : (i + 1) * width]], row * width) != width:
                    raise Bad("it ends early")
            if _stamp(fd) != before:
                checked.pop(path, None)
                raise Bad("it changed while it was read")
            checked[path] = before
    return out


def _stamp(fd: int) -> Stamp:
    s = os.fstat(fd)
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns
