from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from w2s_fast.core.errors import IdMismatch
from w2s_fast.core.hashing import pack_ids
from w2s_fast.store import layout, open_key, rows_of, verify_bank
from w2s_fast.store.reader import Bank


@pytest.fixture
def bank(cache, bank_dir) -> Bank:
    return open_key(bank_dir.name, cache=cache)


def test_numbers_come_back(bank, rows):
    good = rows.ok
    features = bank.features()
    assert features.dtype == torch.float32 and features.shape == (18, 5)
    np.testing.assert_array_equal(features.numpy()[good], rows.features.astype(np.float16).astype(np.float32)[good])
    np.testing.assert_array_equal(bank.logits().numpy()[good], rows.logits.astype(np.float16).astype(np.float32)[good])
    np.testing.assert_array_equal(bank.norms().numpy()[good], rows.norms[good])
    assert not features[8].any() and not bank.logits()[8].any() and bank.norms()[8] == 0
    assert bank.ids == rows.ids
    np.testing.assert_array_equal(bank.packed_ids, pack_ids(rows.ids))
    np.testing.assert_array_equal(bank.ok, rows.ok)
    assert bank.failures == ({"id": rows.ids[8], "row": 8, "reason": "unreadable"},)
    assert (bank.rows, bank.dim, bank.classes, bank.ingredients) == (18, 5, None, rows.ingredients)
    assert bank.rows_digest == rows.rows_digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16, torch.float64])
def test_every_dtype_is_the_stored_number_converted(bank, dtype):
    stored = torch.from_numpy(bank.array("features"))
    assert stored.dtype == torch.float16
    assert torch.equal(bank.features(dtype=dtype), stored.to(dtype))


def test_a_stored_f32_bank_is_exact(tmp_path, rows):
    bank = rows.begin(tmp_path)
    for part in range(3):
        rows.write(bank, part, stored="f32")
    rows.finish(tmp_path)
    opened = open_key(bank.name, cache=tmp_path)
    np.testing.assert_array_equal(opened.features().numpy()[rows.ok], rows.features[rows.ok])
    np.testing.assert_array_equal(opened.array("logits")[rows.ok], rows.logits[rows.ok])


def test_zarr_reads_the_same_numbers(bank):
    for name in ("features", "logits", "norms", "ids", "ok"):
        chunks = [zarr.open(p, mode="r")[name] for p in sorted((bank.folder / "parts").iterdir())]
        assert all(c.chunks == c.shape for c in chunks)
        np.testing.assert_array_equal(np.concatenate([c[...] for c in chunks]), bank.array(name))


def test_without_logits(tmp_path, rows):
    rows = rows.with_(logits=None)
    rows.finish(tmp_path)
    bank = open_key(rows.begin(tmp_path).name, cache=tmp_path)
    assert bank.logits() is None and bank.array("logits") is None
    assert verify_bank(bank, deep=True) == 18 * (5 * 2 + 4 + 16 + 1)


def test_a_part_of_zeros_is_written_like_any_other(tmp_path, rows):
    """A chunk that equals the fill value is a file all the same: a missing file can only mean damage."""
    rows = rows.with_(ok=np.arange(18) >= 7)
    rows.finish(tmp_path)
    bank = open_key(rows.begin(tmp_path).name, cache=tmp_path)
    assert not bank.features()[:7].any() and bank.features()[7:].any() and len(bank.failures) == 7
    assert len(list(next((bank.folder / "parts").glob("000000.*")).rglob("c/**/0"))) >= 5


def test_classes_are_those_of_the_ingredients(tmp_path, rows):
    rows = rows.with_(ingredients={"classes": ["a", "b"]})
    rows.finish(tmp_path)
    assert open_key(rows.begin(tmp_path).name, cache=tmp_path).classes == ("a", "b")


def test_ids_that_are_no_hex_digits(tmp_path, rows):
    rows = rows.with_(ids=tuple(f"klässe {i}" for i in range(18)))
    rows.finish(tmp_path)
    assert open_key(rows.begin(tmp_path).name, cache=tmp_path).ids == rows.ids


@pytest.mark.parametrize(("factor", "name"), [(1e6, "features"), (1e6, "logits"), (1e-7, "features"), (1e-9, "logits")])
def test_what_float16_cannot_hold_is_stored_as_float32_in_that_part_alone(tmp_path, rows, factor, name):
    values = getattr(rows, name).copy()
    values[10] *= factor
    rows = rows.with_(**{name: values})
    rows.finish(tmp_path)
    bank = open_key(rows.begin(tmp_path).name, cache=tmp_path)
    assert [str(p.arrays[name].dtype) for p in bank.parts] == ["float16", "float32", "float16"]
    other = {"features": "logits", "logits": "features"}[name]
    assert {str(p.arrays[other].dtype) for p in bank.parts} == {"float16"}
    np.testing.assert_array_equal(bank.array(name)[10], values[10])
    np.testing.assert_array_equal(getattr(bank, name)().numpy(), bank.array(name))


def test_rows_of_joins_by_id(bank, rows):
    order = np.random.default_rng(1).permutation(18)
    np.testing.assert_array_equal(rows_of(bank, [rows.ids[i] for i in order]), order)
    np.testing.assert_array_equal(rows_of(bank, rows.ids), np.arange(18))
    np.testing.assert_array_equal(rows_of(rows.ids, [rows.ids[4], rows.ids[1], rows.ids[4]]), [4, 1, 4])
    assert rows_of(bank, []).shape == (0,) and rows_of(bank, rows.ids).dtype == np.int64


def test_rows_of_tells_ids_apart_that_share_their_first_bytes():
    ids = [f"{i:032x}" for i in range(300)]
    np.testing.assert_array_equal(rows_of(ids, ids[::-1]), np.arange(300)[::-1])


def test_rows_of_names_the_first_absent_id(bank, rows):
    with pytest.raises(IdMismatch, match=r"id absent-1 \(position 2 of 4\) .* 18 rows of bank"):
        rows_of(bank, [rows.ids[3], rows.ids[0], "absent-1", "absent-2"])


def test_reading_imports_neither_zarr_nor_torch(cache, bank_dir):
    code = f"""
import sys
import w2s_fast.store as store
assert not {{'torch', 'zarr', 'numpy'}} & set(sys.modules), 'import w2s_fast.store is not light'
store.layout.PART_ROWS = 7
bank = store.open_key({bank_dir.name!r}, cache={str(cache)!r})
assert bank.ids and bank.ok.any() and store.verify_bank(bank, deep=True)
assert not {{'torch', 'zarr', 'numcodecs', 'open_clip', 'timm'}} & set(sys.modules), 'reading'
bank.features()
assert 'torch' in sys.modules and 'zarr' not in sys.modules
"""
    code = code.replace("store.layout.PART", "import w2s_fast.store.layout\nstore.layout.PART")
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_reading_writes_nothing(cache, bank_dir, rows, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system", str(args[0]))

    for name in ("mkdir", "link", "rename", "replace", "unlink", "rmdir", "write", "fsync"):
        monkeypatch.setattr(os, name, refuse)
    real = os.open

    def open_for_reading(path, flags, *args, **kwargs):
        return refuse(path) if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_for_reading)
    bank = open_key(bank_dir.name, cache=cache)
    bank.features(), bank.logits(), bank.norms(), bank.ids, bank.ok
    verify_bank(bank, deep=True)
    assert rows.finish(cache) == bank.digest, "nothing is left to do, so nothing is written"


def test_a_bank_of_the_first_release_is_read(monkeypatch):
    monkeypatch.setattr(layout, "PART_ROWS", 8192)
    key = "b2f9ad24d1a7968cec456b324b0e20614c9f2d59b5ae43264083aa0cd53e9b8a"
    bank = open_key(key, cache=Path(__file__).parent / "fixture_v1")
    np.testing.assert_array_equal(bank.features().numpy(), [[3, 4], [0, 0], [-0.5, 1.5]])
    np.testing.assert_array_equal(bank.logits().numpy(), [[1, 2, 3], [0, 0, 0], [0.25, 0, -8]])
    np.testing.assert_array_equal(bank.norms().numpy(), np.float32([5, 0, 2.5**0.5]))
    assert bank.ids == ("00" * 16, "house", "00" * 16 + "#2") and bank.ok.tolist() == [True, False, True]
    assert bank.failures == ({"id": "house", "row": 1, "reason": "truncated"},)
    assert bank.digest == "12cc48873a68effdccc36b636c00432a4593ba929831adcdcb6771b02007d2cf"
    verify_bank(bank, deep=True)
