"""Rows by their numbers are those of the whole array, and as much checked."""

from __future__ import annotations

import os

import numpy as np
import pytest

from w2s_fast.core.errors import Damaged
from w2s_fast.store import open_key, take


@pytest.fixture
def bank(cache, bank_dir):
    return open_key(bank_dir.name, cache=cache)


def chunk_of(bank, part: int, name: str = "features"):
    return bank.folder / "parts" / bank.parts[part].commit.directory / name / "c/0/0"


@pytest.mark.parametrize("name", ["features", "logits", "norms", "ids", "ok"])
def test_rows_are_those_of_the_array(bank, name):
    whole = bank.array(name)
    for rows in ([], [0], [17, 0, 7, 7, 6], list(range(18)), np.array([13, 14], np.int32)):
        found = bank.take(name, rows)
        assert found.dtype == whole.dtype and np.array_equal(found, whole[np.asarray(rows, np.int64)])


def test_parts_of_both_widths_come_in_the_wider(tmp_path, rows):
    features = rows.features.copy()
    features[9] *= 1e6
    rows = rows.with_(features=features)
    rows.finish(tmp_path)
    bank = open_key(rows.begin(tmp_path).name, cache=tmp_path)
    assert bank.take("features", [9]).dtype == np.float32
    assert np.array_equal(bank.take("features", [0, 9]), bank.array("features")[[0, 9]])


@pytest.mark.parametrize("rows", [[18], [-1], [[0]]])
def test_rows_outside_are_refused(bank, rows):
    with pytest.raises(IndexError, match="from 0 to 17"):
        bank.take("features", rows)
    with pytest.raises(KeyError):
        bank.take("nothing", [0])


def test_a_flipped_bit_anywhere_in_the_chunk_is_damage(bank):
    bank.take("features", [8])
    path = chunk_of(bank, 0)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"rows 0-6"):
        bank.take("features", [0])
    assert bank.take("features", [8]).shape == (1, 5)


@pytest.mark.parametrize("how", ["in place", "replaced", "cut", "gone"])
def test_a_chunk_that_changes_after_its_check_is_checked_again(bank, how, tmp_path):
    bank.take("features", [8])
    path = chunk_of(bank, 1)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    if how == "in place":
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
    elif how == "replaced":
        (tmp_path / "new").write_bytes(data)
        os.utime(tmp_path / "new", ns=(path.stat().st_mtime_ns,) * 2)
        (tmp_path / "new").rename(path)
    elif how == "cut":
        os.truncate(path, len(data) - 1)
    else:
        path.unlink()
    with pytest.raises(Damaged, match=r"rows 7-13"):
        bank.take("features", [8])


def test_a_checked_chunk_is_not_read_again_and_few_stay_mapped(bank, monkeypatch):
    reads = []
    real = take.fill_chunk
    monkeypatch.setattr(take, "fill_chunk", lambda *args: (reads.append(args[1]), real(*args)))
    bank.take("features", [0, 8, 16]), bank.take("features", [1, 9])
    assert len(reads) == 3
    monkeypatch.setattr(take, "KEPT", 2)
    bank.take("logits", [0])
    bank.take("features", [0])
    assert len(reads) == 5 and len(bank._checked) <= 3


def test_a_link_in_place_of_a_chunk_is_refused(bank, tmp_path):
    path = chunk_of(bank, 0)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "copy")
    with pytest.raises(Damaged, match="symbolic link"):
        bank.take("features", [0])
