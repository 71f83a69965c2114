"""What format v1 relies on in zarr; an upgrade that changes one of these must fail here, loudly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

VALUES = np.arange(1, 41, dtype=np.float32).reshape(8, 5)


def written(path, compressors, chunks=(8, 5), shards=None) -> zarr.Array:
    array = zarr.create_array(
        str(path),
        shape=VALUES.shape,
        dtype=VALUES.dtype,
        chunks=chunks,
        shards=shards,
        serializer=BytesCodec(),
        compressors=compressors,
        filters=None,
        fill_value=0,
        zarr_format=3,
    )
    array[...] = VALUES
    return array


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[10] ^= 0x40
    path.write_bytes(data)


def test_without_a_checksum_a_flipped_byte_is_silent(tmp_path):
    array = written(tmp_path, None)
    flip(tmp_path / "c/0/0")
    assert (array[...] != VALUES).sum() == 1


def test_with_crc32c_a_flipped_byte_raises(tmp_path):
    array = written(tmp_path, [Crc32cCodec()])
    flip(tmp_path / "c/0/0")
    with pytest.raises(ValueError, match="checksum"):
        array[...]


def test_a_missing_chunk_reads_as_zeros_even_with_crc32c(tmp_path):
    array = written(tmp_path, [Crc32cCodec()], chunks=(4, 5))
    (tmp_path / "c/1/0").unlink()
    np.testing.assert_array_equal(array[...], np.concatenate([VALUES[:4], np.zeros((4, 5))]))


def test_a_chunk_of_zeros_is_not_written_unless_asked(tmp_path):
    for asked in (False, True):
        array = zarr.create_array(
            str(tmp_path / str(asked)),
            shape=(4,),
            dtype="f4",
            chunks=(4,),
            compressors=None,
            fill_value=0,
            config={"write_empty_chunks": asked},
        )
        array[...] = np.zeros(4)
        assert (tmp_path / str(asked) / "c/0").exists() == asked


def test_the_trailer_is_the_crc32c_of_the_data_little_endian(tmp_path):
    import google_crc32c

    written(tmp_path, [Crc32cCodec()])
    data = (tmp_path / "c/0/0").read_bytes()
    assert data[:-4] == VALUES.tobytes()
    assert int.from_bytes(data[-4:], "little") == google_crc32c.value(VALUES.tobytes())
    assert google_crc32c.value(b"123456789") == 0xE3069283, "the check value of CRC-32C"


def test_two_writers_of_one_shard_lose_rows(tmp_path):
    """Each reads the shard, adds its rows and writes it back; the later one wins."""
    array = zarr.create_array(
        str(tmp_path), shape=(8, 5), dtype="f4", chunks=(4, 5), shards=(8, 5), compressors=[ZstdCodec()], fill_value=0
    )
    shard = tmp_path / "c/0/0"
    array[:4] = VALUES[:4]
    first = shard.read_bytes()
    shard.unlink()
    array[4:] = VALUES[4:]
    # Had both read the empty shard before either wrote, the file would hold one of these two and never both.
    second = shard.read_bytes()
    for kept, rows in ((first, slice(0, 4)), (second, slice(4, 8))):
        shard.write_bytes(kept)
        values = array[...]
        np.testing.assert_array_equal(values[rows], VALUES[rows])
        assert not np.delete(values, np.r_[rows], axis=0).any()


def test_bfloat16_is_no_zarr_type(tmp_path):
    with pytest.raises((ValueError, TypeError)):
        zarr.create_array(str(tmp_path), shape=(4,), dtype="bfloat16")


def test_the_local_store_writes_beside_and_renames_but_never_syncs(tmp_path, monkeypatch):
    import os

    calls: list[str] = []
    for name in ("replace", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1])
    written(tmp_path, [Crc32cCodec()])
    assert "replace" in calls and "fsync" not in calls


def test_a_part_is_byte_for_byte_what_zarr_writes(bank_dir, tmp_path):
    """The store writes zarr v3 by itself, so that one bank has one digest under every version of zarr."""
    part = next((bank_dir / "parts").iterdir())
    zarr.create_group(str(tmp_path / "z"), zarr_format=3)
    for array in (p.name for p in part.iterdir() if p.is_dir()):
        values = zarr.open_array(str(part / array), mode="r")[...]
        theirs = zarr.create_array(
            str(tmp_path / "z" / array),
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            filters=None,
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            fill_value=values.dtype.type(0),
            zarr_format=3,
            config={"write_empty_chunks": True, "order": "C"},
        )
        theirs[...] = values
    ours = {str(p.relative_to(part)): p for p in part.rglob("*") if p.is_file()}
    assert len(ours) == 11
    for name, path in ours.items():
        other = (tmp_path / "z" / name).read_bytes()
        if name.endswith("zarr.json"):
            assert json.loads(path.read_bytes()) == json.loads(other), name
            assert not zarr.__version__.startswith("3.1.") or path.read_bytes() == other, name
        else:
            assert path.read_bytes() == other, name
