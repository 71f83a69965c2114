"""Memory that files are read into, and the threads that fill it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from w2s_fast.core.errors import Damaged
from w2s_fast.store import layout, open_key, reader
from w2s_fast.store.memory import PAGE, cores, empty


@pytest.mark.parametrize("shape", [(3,), (0, 4), (70_001, 1), (8192, 17), (300, 40, 20)])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "u1", "?"])
def test_new_memory_is_an_array_like_any_other(shape, dtype):
    array = empty(shape, dtype)
    assert array.shape == shape and array.dtype == np.dtype(dtype)
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array[...] = 1
    assert (array == 1).all()


def test_large_arrays_begin_at_a_page():
    assert all(empty((rows, 7), "<f2").ctypes.data % PAGE == 0 for rows in range(5_000, 60_000, 7_777))


def test_every_part_is_read_to_a_page(tmp_path, rows_like, monkeypatch):
    """What the kernel copies begins at a page in the file, so it does in memory: 8192 rows are whole pages."""
    monkeypatch.setattr(layout, "PART_ROWS", 8192)
    rows = rows_like(20_000, dim=33)
    rows.finish(tmp_path)
    seen: list[int] = []
    real = reader.read_chunk
    monkeypatch.setattr(reader, "read_chunk", lambda *args: (seen.append(args[3].ctypes.data % PAGE), real(*args))[1])
    bank = open_key(rows.begin(tmp_path).name, cache=tmp_path)
    bank.array("features"), bank.features(dtype=torch.float16), bank.part("features", 1), bank.features()
    assert seen == [0] * 10


def test_several_threads_convert_what_one_converts(cache, bank_dir, monkeypatch):
    bank = open_key(bank_dir.name, cache=cache)
    alone = bank.features(), bank.features(dtype=torch.float16), bank.array("features")
    monkeypatch.setattr(reader, "_ALONE", 0)
    monkeypatch.setattr(reader, "cores", lambda: 3)
    used: list[int] = []
    pool = reader.ThreadPoolExecutor
    monkeypatch.setattr(reader, "ThreadPoolExecutor", lambda n: (used.append(n), pool(n))[1])
    assert torch.equal(bank.features(), alone[0]) and used == [3]
    assert torch.equal(bank.features(dtype=torch.float16), alone[1])
    np.testing.assert_array_equal(bank.array("features"), alone[2])
    assert used == [3], "what is read straight into its place is read by one"


def test_of_several_damaged_parts_the_first_is_named(cache, bank_dir, monkeypatch):
    monkeypatch.setattr(reader, "_ALONE", 0)
    monkeypatch.setattr(reader, "cores", lambda: 3)
    bank = open_key(bank_dir.name, cache=cache)
    for part in (1, 2):
        chunk = next(bank_dir.glob(f"parts/{part:06d}.*")) / "features/c/0/0"
        data = bytearray(chunk.read_bytes())
        data[0] ^= 1
        chunk.write_bytes(data)
    for _ in range(5):
        with pytest.raises(Damaged, match=r"parts/000001\..*rows 7-13"):
            bank.features()


def test_cores_are_those_of_this_process(monkeypatch):
    import os

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
