"""The files of one part: strict zarr v3 metadata, and chunks read straight into their place. No zarr in here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import CacheError
from w2s_fast.core.hashing import ID_BYTES
from w2s_fast.store import files
from w2s_fast.store.layout import MAX_WIDTH
from w2s_fast.store.memory import empty
from w2s_fast.store.records import Bad, Commit, FileEntry, parse_object

CRC_BYTES = 4
MAX_META = 1 << 16
_BLOCK = 1 << 18
"""Bytes that are read, then checked while the processor's cache holds them: 1.3 times as fast as all at once."""

ALLOWED: dict[str, tuple[tuple[str, ...], int]] = {
    "features": (("float16", "float32"), 2),
    "logits": (("float16", "float32"), 2),
    "norms": (("float32",), 1),
    "ids": (("uint8",), 2),
    "ok": (("bool",), 1),
}
"""Array name -> the data types it may have, its number of dimensions. `logits` may be absent, nothing else."""

_GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
GROUP_JSON = json.dumps(_GROUP, indent=2).encode()
"""A part's own `zarr.json`."""

_OPTIONAL: dict[str, tuple[Any, ...]] = {"attributes": ({},), "storage_transformers": ([],), "dimension_names": (None,)}


@dataclass(frozen=True, kw_only=True)
class ArrayMeta:
    """Shape and stored type of one array of one part."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def data_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def chunk_name(array: str) -> str:
    """The one chunk of an array, relative to the part's folder."""
    return f"{array}/c/" + "/".join("0" * ALLOWED[array][1])


def file_names(*, logits: bool) -> set[str]:
    """Every file of a part, relative to its folder."""
    arrays = [a for a in ALLOWED if logits or a != "logits"]
    return {"zarr.json"} | {f"{a}/zarr.json" for a in arrays} | {chunk_name(a) for a in arrays}


@lru_cache(64)
def array_json(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """An array's `zarr.json`, byte for byte as zarr 3.1 writes it: one chunk, codecs [bytes (little), crc32c]."""
    endian = {} if dtype.itemsize == 1 else {"configuration": {"endian": "little"}}
    meta: dict[str, Any] = {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.type(0).item(),
        "codecs": [{"name": "bytes", **endian}, {"name": "crc32c"}],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    data = json.dumps(meta, indent=2).encode()
    parse_array(name, data, shape[0])
    return data


def parse_array(name: str, data: bytes, rows: int) -> ArrayMeta:
    """An array's `zarr.json`; `Bad` for anything but what this format writes for `rows` rows."""
    meta = parse_object(data)
    dtypes, ndim = ALLOWED[name]
    dtype, shape = meta.pop("data_type", None), meta.pop("shape", None)
    if type(dtype) is not str or dtype not in dtypes:
        raise Bad(f"its data type is {str(dtype)[:40]!r}, not {' or '.join(dtypes)}")
    if not isinstance(shape, list) or len(cast("list[Any]", shape)) != ndim:
        raise Bad(f"it does not have {ndim} dimensions")
    shape = tuple(cast("list[Any]", shape))
    if not all(type(s) is int and s >= 1 for s in shape) or shape[0] != rows or shape[1:] > (MAX_WIDTH,):
        raise Bad(f"its shape {str(shape)[:60]} is not that of {rows} rows of at most {MAX_WIDTH} columns")
    if name == "ids" and shape[1] != ID_BYTES:
        raise Bad(f"its ids are not {ID_BYTES} bytes wide")
    grid = {"name": "regular", "configuration": {"chunk_shape": list(shape)}}
    expected = {
        "chunk_grid": (grid,),
        "chunk_key_encoding": ({"name": "default", "configuration": {"separator": "/"}},),
        "fill_value": (0, 0.0, False),
        "zarr_format": (3,),
        "node_type": ("array",),
    }
    codecs = meta.pop("codecs", None)
    if not _are_ours(codecs, one_byte=np.dtype(dtype).itemsize == 1):
        raise Bad(f"its codecs {str(codecs)[:80]} are not [bytes (little), crc32c]")
    for field, values in expected.items():
        if field not in meta or meta.pop(field) not in values:
            raise Bad(f"its {field} is not what this format writes")
    _only_optional(meta)
    return ArrayMeta(name=name, dtype=np.dtype(dtype).newbyteorder("<"), shape=shape)


def parse_group(data: bytes) -> None:
    """The part's own `zarr.json`; `Bad` unless it is a plain zarr v3 group."""
    meta = parse_object(data)
    if any(meta.pop(field, {}) != value for field, value in _GROUP.items()):
        raise Bad("it is not a zarr v3 group")
    if meta.pop("consolidated_metadata", None) is not None:
        raise Bad("it has consolidated metadata, which this format does not write")
    _only_optional(meta)


def read_meta(folder: Path, commit: Commit) -> dict[str, ArrayMeta]:
    """Check every file's presence and size, and every `zarr.json`; `BadFile` names the first that deviates."""
    logits = "logits/zarr.json" in commit.files
    if set(commit.files) != file_names(logits=logits):
        raise Bad("it does not name exactly the files of a part")
    metas: dict[str, ArrayMeta] = {}
    for name in sorted(commit.files):
        array, is_inner, rest = name.partition("/")
        with within(name):
            data = _checked_bytes(folder, name, commit.files[name]) if name.endswith("zarr.json") else b""
            if not is_inner:
                parse_group(data)
            elif rest == "zarr.json":
                metas[array] = parse_array(array, data, commit.rows)
    for array, meta in metas.items():
        name = chunk_name(array)
        with within(name):
            entry = commit.files[name]
            if entry.bytes != meta.data_bytes + CRC_BYTES or entry.crc32c is None:
                raise Bad(f"its committed size {entry.bytes} is not that of its shape {meta.shape}")
            _check_size(os.stat(confined(folder, name)).st_size, entry)  # noqa: PTH116
    return metas


def read_chunk(folder: Path, meta: ArrayMeta, entry: FileEntry, out: NDArray[Any]) -> None:
    """Fill `out` (C-contiguous, of the stored type and shape) with a verified chunk.

    Its crc32c must equal the trailer in the file and the commit's: the first shows damage, the second a chunk that is
    sound but another part's. `out` holds garbage after `BadFile`.
    """
    name = chunk_name(meta.name)
    with within(name), os.fdopen(files.open_regular(confined(folder, name)), "rb", buffering=0) as file:
        fill_chunk(file, meta, entry, out)


def fill_chunk(file: io.FileIO, meta: ArrayMeta, entry: FileEntry, out: NDArray[Any]) -> None:
    """`read_chunk` from an open file at its beginning; `Bad` where that raises `BadFile`."""
    flat = out.reshape(-1).view(np.uint8)
    if flat.nbytes != meta.data_bytes or not np.shares_memory(flat, out):
        raise ValueError(f"a buffer of {flat.nbytes} bytes for a chunk of {meta.data_bytes}")
    _read_blocks(file, meta, entry, (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK)))


def verify_chunk(folder: Path, meta: ArrayMeta, entry: FileEntry) -> None:
    """What `read_chunk` checks, in the memory of one block: a file may be a hole that costs its maker nothing."""
    name, size = chunk_name(meta.name), meta.data_bytes
    block = empty((min(_BLOCK, size),), np.uint8)
    with within(name), os.fdopen(files.open_regular(confined(folder, name)), "rb", buffering=0) as file:
        _read_blocks(file, meta, entry, (block[: size - start] for start in range(0, size, _BLOCK)))


def _read_blocks(file: io.FileIO, meta: ArrayMeta, entry: FileEntry, blocks: Iterator[NDArray[np.uint8]]) -> None:
    _check_size(os.fstat(file.fileno()).st_size, entry)
    crc, flag, trailer = 0, 0, bytearray(CRC_BYTES)
    for block in blocks:
        _fill(file, memoryview(cast("bytes", block)))
        crc = int(google_crc32c.extend(crc, cast("bytes", block)))
        flag = max(flag, int(block.max(initial=0))) if meta.dtype == np.bool_ else 0
    _fill(file, memoryview(trailer))
    if crc != int.from_bytes(trailer, "little"):
        raise Bad("its bytes do not match its crc32c")
    if crc != entry.crc32c:
        raise Bad("it is not the chunk that was committed (another crc32c)")
    if flag > 1:
        raise Bad("it holds flags other than 0 and 1")


def _fill(file: io.FileIO, view: memoryview) -> None:
    while view:
        got = file.readinto(view)
        if not got:
            raise Bad("it ends early")
        view = view[got:]


def open_chunk(folder: Path, array: str, entry: FileEntry) -> int:
    """A descriptor of an array's chunk, of the committed size, for `read_rows`."""
    name = chunk_name(array)
    with within(name):
        fd = files.open_regular(confined(folder, name))
        try:
            _check_size(os.fstat(fd).st_size, entry)
        except Bad:
            os.close(fd)
            raise
        return fd


def read_rows(fd: int, meta: ArrayMeta, start: int, out: NDArray[Any], crc: int) -> None:
    """Fill `out` with the rows from `start` on of a chunk that was verified before, when theirs was this crc32c."""
    flat = out.reshape(-1).view(np.uint8)
    with within(chunk_name(meta.name)):
        view, at = memoryview(cast("bytes", flat)), start * (meta.data_bytes // meta.shape[0])
        while view:
            got = os.preadv(fd, [view], at)
            if not got:
                raise Bad("it ends early")
            view, at = view[got:], at + got
        if crc32c(flat) != crc:
            raise Bad("its bytes changed since they were verified")


def spelled(packed: NDArray[np.uint8]) -> list[str]:
    """Packed ids u8[n, 16] as the hex digits that they are."""
    return packed.tobytes().hex("\n", ID_BYTES).split("\n") if len(packed) else []


def sha256_of(folder: Path, name: str, entry: FileEntry) -> None:
    """Compare a whole file with its commit; `BadFile` if one bit differs."""
    with within(name), os.fdopen(files.open_regular(confined(folder, name)), "rb") as file:
        _check_size(os.fstat(file.fileno()).st_size, entry)
        if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise Bad("its bytes do not match the committed sha256")


def crc32c(data: NDArray[np.uint8]) -> int:
    """The CRC-32C of contiguous bytes; the C implementation takes the array itself, without a copy."""
    return int(google_crc32c.value(cast("bytes", data)))


class BadFile(Bad):
    """`Bad`, with the name of the file (relative to the part's folder) that deviates."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


class within:  # noqa: N801 - reads as a statement
    """Turn `Bad` and read errors inside into `BadFile` of one file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BadFile):
            return
        if isinstance(error, Bad):
            raise BadFile(self.name, str(error)) from None
        if isinstance(error, PermissionError):
            raise CacheError(f"{error.filename or self.name} may not be read; give yourself read permission") from None
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise BadFile(self.name, "it is missing") from None
        if isinstance(error, OSError):
            raise BadFile(self.name, f"it cannot be read ({error.strerror or error})") from None


def confined(folder: Path, name: str) -> Path:
    """`folder / name`, refused when `folder` or anything on the way from it is a symbolic link."""
    here = str(folder)
    for step in ("", *name.split("/")):
        here = f"{here}/{step}" if step else here
        if stat.S_ISLNK(os.lstat(here).st_mode):
            raise Bad("it is reached through a symbolic link")
    return Path(here)


def _checked_bytes(folder: Path, name: str, entry: FileEntry) -> bytes:
    data = files.read_regular(confined(folder, name), limit=MAX_META)
    _check_size(len(data), entry)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise Bad("its bytes do not match the committed sha256")
    return data


def _check_size(size: int, entry: FileEntry) -> None:
    if size != entry.bytes:
        raise Bad(f"it holds {size} bytes instead of {entry.bytes}")


def _are_ours(codecs: Any, *, one_byte: bool) -> bool:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    plain: list[Any] = [{"name": "bytes"}, {"name": "bytes", "configuration": {}}] if one_byte else []
    checks: list[Any] = [{"name": "crc32c"}, {"name": "crc32c", "configuration": {}}]
    if not isinstance(codecs, list):
        return False
    pair = cast("list[Any]", codecs)
    return len(pair) == 2 and pair[0] in [little, *plain] and pair[1] in checks


def _only_optional(meta: dict[str, Any]) -> None:
    for field, value in meta.items():
        if field not in _OPTIONAL or value not in _OPTIONAL[field]:
            raise Bad(f"its field {field[:40]!r} is not what this format writes")
