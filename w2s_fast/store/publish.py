"""One part as a zarr v3 group on disk: written, read back, made durable. The only file that imports zarr."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import CacheError
from w2s_fast.core.hashing import digest_bytes
from w2s_fast.store import files, layout
from w2s_fast.store.part import CRC_BYTES, crc32c, file_names, parse_array, parse_group
from w2s_fast.store.records import Bad, FileEntry


def publish_part(bank: Path, part: int, arrays: dict[str, NDArray[Any]]) -> tuple[str, dict[str, FileEntry]]:
    """Write, read back, make durable and rename into place; nothing refers to the folder yet."""
    mark = files.nonce()
    parts = layout.parts_dir(bank)
    tmp, final = parts / (layout.TMP + mark), parts / layout.part_name(part, mark)
    try:
        _write_zarr(tmp, arrays)
        entries = _read_back(tmp, arrays)
        files.sync_tree(tmp)
        os.rename(tmp, final)  # noqa: PTH104 - os.* is the one seam that the fault tests cut
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    files.sync_dir(parts)
    return final.name, entries


def _write_zarr(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec

    # Each array is created as a store of its own: below a group, or without `overwrite`, zarr makes metadata by hard
    # links, which some file systems lack. The folder is new, so there is nothing to write over.
    zarr.create_group(str(folder), zarr_format=3, overwrite=True)
    for name, values in arrays.items():
        array = zarr.create_array(
            str(folder / name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            shards=None,
            filters=None,
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            fill_value=values.dtype.type(0),
            zarr_format=3,
            config={"write_empty_chunks": True, "order": "C"},
            overwrite=True,
        )
        array[...] = values


def _read_back(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, FileEntry]:
    """What the commit will promise of each file, after comparing every file with what was meant."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    if found != file_names(logits="logits" in arrays):
        raise CacheError(
            f"{folder}: zarr wrote other files than format v1 has ({sorted(found)}); install zarr >= 3.1.3"
        )
    entries: dict[str, FileEntry] = {}
    for name in sorted(found):
        array, _, rest = name.partition("/")
        data = (folder / name).read_bytes()
        crc = None
        try:
            if not rest:
                parse_group(data)
            elif rest == "zarr.json":
                meta = parse_array(array, data, len(arrays["ids"]))
                if (meta.dtype, meta.shape) != (arrays[array].dtype, arrays[array].shape):
                    raise Bad(f"it says {meta.dtype} {meta.shape}")
            else:
                meant = arrays[array].reshape(-1).view(np.uint8)
                crc = crc32c(meant)
                if data[-CRC_BYTES:] != crc.to_bytes(CRC_BYTES, "little") or data[:-CRC_BYTES] != meant.tobytes():
                    raise Bad("it does not read back as it was written")
        except Bad as bad:
            raise CacheError(f"{folder / name}: {bad}; check the disk, and that zarr is a supported version") from None
        entries[name] = FileEntry(bytes=len(data), sha256=digest_bytes(data), crc32c=crc)
    return entries
