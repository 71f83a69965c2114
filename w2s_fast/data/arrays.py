"""Pictures that lie as bare pixels in few files: idx (MNIST) and CIFAR's binary form, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError
from w2s_fast.data.paths import inside, is_file, read_bounded

if TYPE_CHECKING:
    from PIL.Image import Image

    from w2s_fast.data.manifest import Manifest

MAX_BYTES = 1 << 30
"""Bytes of the largest file of pixels, unpacked."""
CIFAR = (3, 32, 32)


def array_route(identity: str) -> dict[str, Any]:
    """What decides the pixels, for the bank key: they are stored, so that nothing decodes them."""
    return {"route": "array", "identity": identity}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped or not: u8 of the shape that it tells; `DataError` for any other file."""
    content = _content(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise DataError(f"{path} is not an idx file of bytes; fetch it again")
    rank = content[3]
    head = 4 + 4 * rank
    if len(content) < head:
        raise DataError(f"{path} ends within its header; fetch it again")
    shape = struct.unpack(f">{rank}I", content[4:head])
    size = 1
    for side in shape:
        size *= side
    if len(content) - head != size:
        raise DataError(f"{path} holds {len(content) - head} bytes, but its header tells {size}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def read_cifar(path: Path, *, labels: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """CIFAR's binary form: pixels u8 [n, 3, 32, 32] and int64 [n], the last of the `labels` bytes before each."""
    content, row = _content(path), labels + 3 * 32 * 32
    if not content or len(content) % row:
        raise DataError(f"{path} has {len(content)} bytes, no multiple of the {row} of a CIFAR row; fetch it again")
    table = np.frombuffer(content, np.uint8).reshape(-1, row)
    return table[:, labels:].reshape(-1, *CIFAR), table[:, labels - 1].astype(np.int64)


def pixels(root: Path, uri: str) -> tuple[bytes, NDArray[np.uint8]]:
    """The bytes of one picture, which its id is made from, and u8 [h, w] or [h, w, 3]."""
    form, row, file = uri.split(":", 2)
    path = inside(root / file, root, what=f"the file {root / file}")
    if not is_file(path):
        raise DataError(f"the file {path} does not exist; restore it")
    stat = path.stat()
    table = _table(form, str(path), stat.st_size, stat.st_mtime_ns)
    if int(row) >= len(table):
        raise DataError(f"the file {path} changed since the manifest was made; run w2s-fast extract again")
    one = table[int(row)]
    return one.tobytes(), one if one.ndim == 2 else one.transpose(1, 2, 0)


def picture(manifest: Manifest, row: int) -> Image:
    """The RGB image of one row; `DataError` where its pixels aren't those that its id was made from."""
    from PIL import Image

    from w2s_fast.core.hashing import row_id

    content, values = pixels(manifest.root, manifest.uris[row])
    if manifest.decode["identity"] == "content" and row_id(content) != manifest.ids[row].partition("#")[0]:
        where = manifest.root / manifest.uris[row].split(":", 2)[2]
        raise DataError(f"the file {where} changed since the manifest was made; run w2s-fast extract again")
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


def found(folder: Path, name: str) -> Path | None:
    """The file `name`, or its gzipped form, in a folder."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if is_file(p)), None)


@lru_cache(maxsize=8)
def _table(form: str, path: str, size: int, mtime: int) -> NDArray[np.uint8]:  # size and mtime are the memo's key
    if form == "idx":
        return read_idx(Path(path))
    return read_cifar(Path(path), labels=int(form.removeprefix("cifar")))[0]


def _content(path: Path) -> bytes:
    raw = read_bounded(path, limit=MAX_BYTES, what="the file")
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path} is a truncated or broken gzip file; fetch it again") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES >> 20} MiB; it is not what it should be")
    return content
