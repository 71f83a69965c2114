"""Some rows of a bank, straight from the files: for banks that are larger than memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.store import files
from w2s_fast.store.memory import empty
from w2s_fast.store.part import ArrayMeta, chunk_name, confined, fill_chunk, within
from w2s_fast.store.records import Bad, FileEntry

KEPT = 256
"""Chunks that stay mapped, each with a descriptor of its own; the oldest goes first."""

Stamp = tuple[int, int, int, int]
"""Device, inode, size and mtime in ns of a chunk file as it was when its checksum was found right."""

Checked = tuple[Stamp, NDArray[Any]]
"""A mapped chunk, and the file that it was."""


def checked_chunk(folder: Path, meta: ArrayMeta, entry: FileEntry, checked: dict[Path, Checked]) -> NDArray[Any]:
    """A chunk as an array that is mapped, not read; `BadFile` when it is not the committed one.

    A checksum covers a whole chunk, so the first call reads it whole; later ones only look whether the file is still
    the same one, of the same size and time. `checked` remembers between calls.
    """
    name = chunk_name(meta.name)
    with within(name):
        path = folder / name
        known = checked.get(path)
        if known is not None and known[0] == _stamp(os.stat(path)):  # noqa: PTH116
            return known[1]
        with os.fdopen(files.open_regular(confined(folder, name)), "rb", buffering=0) as file:
            before = _stamp(os.fstat(file.fileno()))
            fill_chunk(file, meta, entry, empty(meta.shape, meta.dtype))
            mapped = mmap.mmap(file.fileno(), entry.bytes, prot=mmap.PROT_READ)
            if _stamp(os.fstat(file.fileno())) != before:
                raise Bad("it changed while it was read")
        chunk = np.frombuffer(mapped, meta.dtype, count=meta.data_bytes // meta.dtype.itemsize).reshape(meta.shape)
        checked.pop(path, None)
        while len(checked) >= KEPT:
            del checked[next(iter(checked))]
        checked[path] = (before, chunk)
    return chunk


def _stamp(s: os.stat_result) -> Stamp:
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns
