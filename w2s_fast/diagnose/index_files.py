"""Built indexes kept beside their bank, under its key: found by the content of the rows, checked by digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from w2s_fast.core.hashing import digest_bytes
from w2s_fast.core.paths import cache_root
from w2s_fast.store.files import nonce

CHUNK = 1 << 16
"""Rows that are digested at a time."""


def folder_of(key: str, *, cache: str | Path | None = None) -> Path:
    """Where indexes of a bank are kept: `<cache>/indexes/<key[:2]>/<key>`, outside the banks that `verify` reads."""
    return cache_root(cache) / "indexes" / key[:2] / key


def kept_index(make: Callable[[], Any], x: Tensor, *, kind: str, beside: Path | None) -> Any:
    """The index of this kind over exactly these rows f[n, d]: read from `beside` if it lies there whole, else made.

    A made index is written to a name of its own and renamed, after its description (bytes, sha256, faiss version); a
    file that does not have the digest that its description names is built anew. None keeps nothing.
    """
    if beside is None:
        return make()
    import faiss

    stem = f"{kind}-{rows_digest(x)[:32]}"
    file, about = beside / f"{stem}.faiss", beside / f"{stem}.json"
    read = _read(file, about, version=faiss.__version__)
    if read is not None:
        return read
    made = make()
    data = faiss.serialize_index(made)
    beside.mkdir(parents=True, exist_ok=True)
    record = {"bytes": int(data.nbytes), "sha256": digest_bytes(data.data), "faiss": faiss.__version__}
    _write(file, data.data)
    _write(about, (json.dumps(record) + "\n").encode())
    return made


def rows_digest(x: Tensor) -> str:
    """sha256 over shape, type and bytes of the rows."""
    digest = hashlib.sha256(f"{x.dtype} {list(x.shape)}".encode())
    for start in range(0, len(x), CHUNK):
        digest.update(x[start : start + CHUNK].detach().cpu().contiguous().view(-1).numpy().data.cast("B"))
    return digest.hexdigest()


def _read(file: Path, about: Path, *, version: str) -> Any | None:
    import faiss
    import numpy as np

    try:
        record = json.loads(about.read_text(encoding="utf-8"))
        data = file.read_bytes()
    except (OSError, ValueError):
        return None
    if record.get("faiss") != version or record.get("sha256") != digest_bytes(data):
        return None
    return faiss.deserialize_index(np.frombuffer(data, np.uint8))


def _write(target: Path, data: Any) -> None:
    own = target.with_name(f".tmp-{nonce()}")
    try:
        with own.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        own.replace(target)
    finally:
        own.unlink(missing_ok=True)
