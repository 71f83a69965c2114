"""Several writers on one bank, and arguments that no writer may store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from w2s_fast.core.errors import CacheError, DataError, UsageError
from w2s_fast.store import complete_bank, missing_parts, open_key, verify_bank
from w2s_fast.store import files as store_files

WRITER = """
import random, sys, time
sys.path.insert(0, {here!r})
from conftest import make_rows
from w2s_fast.store import layout, missing_parts
layout.PART_ROWS = 7
import zarr
rows, cache = make_rows(63), {cache!r}
bank = rows.begin(cache)
order = list(range(9))
random.Random({seed}).shuffle(order)
print('ready', flush=True)
sys.stdin.readline()
for part in order:
    rows.write(bank, part)
print(rows.finish(cache))
"""


def test_two_processes_write_one_bank(tmp_path, rows_like):
    cache = str(tmp_path / "cache")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.format(here=str(Path(__file__).parent), cache=cache, seed=seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    digests = {writer.communicate(timeout=60)[0].strip() for writer in writers}
    rows = rows_like(63)
    assert digests == {rows.finish(tmp_path / "alone")}
    bank = rows.begin(cache)
    verify_bank(bank.name, cache=cache, deep=True)
    assert open_key(bank.name, cache=cache).ids == rows.ids
    assert len(list((bank / "parts").iterdir())) == 9, "the overtaken writer removed its own folders"
    assert not list(bank.rglob(".tmp-*"))


def test_the_slower_writer_drops_its_part(tmp_path, rows, monkeypatch):
    """The other writer commits between our rename and our commit."""
    bank = rows.begin(tmp_path)
    real = store_files.put_new

    def overtaken(path, data):
        monkeypatch.setattr(store_files, "put_new", real)
        rows.write(bank, 0, producer={"writer": "the other"})
        return real(path, data)

    monkeypatch.setattr(store_files, "put_new", overtaken)
    rows.write(bank, 0, producer={"writer": "this"})
    rows.finish(tmp_path)
    opened = open_key(bank.name, cache=tmp_path)
    assert opened.producers[0] == (0, 7, {"writer": "the other"})
    assert len(list((bank / "parts").iterdir())) == 3


def test_a_lost_reply_to_our_own_link_does_not_remove_our_part(tmp_path, rows, monkeypatch):
    """As over NFS: the link was made, the answer says that the name is taken."""
    bank = rows.begin(tmp_path)
    real = store_files.put_new
    monkeypatch.setattr(store_files, "put_new", lambda path, data: real(path, data) and False)
    rows.write(bank, 0)
    assert missing_parts(bank, 18) == [1, 2]


def test_begin_is_idempotent_and_key_json_is_the_key(tmp_path, rows):
    import hashlib

    first, second = rows.begin(tmp_path), rows.begin(tmp_path)
    assert first == second and first.parent.name == first.name[:2]
    assert hashlib.sha256((first / "key.json").read_bytes()).hexdigest() == first.name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["features", "logits"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_numbers_that_are_not_finite_are_refused(tmp_path, rows, name, bad, dtype):
    values = getattr(rows, name).astype(dtype)
    values[9, 1] = bad
    bank = rows.begin(tmp_path)
    with pytest.raises(DataError, match=rf"{name} of row 9 \(id {rows.ids[9]}\) are not finite"):
        rows.write(bank, 1, **{name: values[7:14]})
    assert missing_parts(bank, 18) == [0, 1, 2] and not list((bank / "parts").iterdir())


def test_numbers_of_a_failed_row_do_not_matter(tmp_path, rows):
    dirty = rows.features.copy()
    dirty[8] = np.nan
    norms = rows.norms.copy()
    norms[8] = np.nan
    bank = rows.begin(tmp_path / "dirty")
    rows.write(bank, 1, features=dirty[7:14], norms=norms[7:14])
    assert rows.finish(tmp_path / "dirty") == rows.finish(tmp_path / "clean")


def test_norms_of_another_order_are_refused(tmp_path, rows):
    with pytest.raises(DataError, match=r"norms of row 7 .* not the L2 norm"):
        rows.write(rows.begin(tmp_path), 1, norms=rows.norms[7:14][::-1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ids": []}, "a part of 0 rows"),
        ({"ids": ["x"] * 8}, "a part of 8 rows"),
        ({"ids": ["x"] * 7}, "id 'x' occurs twice"),
        ({"ids": ["", *"abcdef"]}, "row 0 of the part: '' is not an id"),
        ({"ids": ["a\nb", *"abcdef"]}, "is not an id"),
        ({"ids": [f"{i:032x}\n{i:032x}" for i in range(7)]}, "is not an id"),
        ({"ids": [f"{3:032x}"] * 7}, "occurs twice"),
        ({"ids": ["\udcff", *"abcdef"]}, "is not an id"),
        ({"features": np.zeros((6, 5), np.float32)}, r"features has shape \(6, 5\), not \[7, 'n'\]"),
        ({"features": np.zeros((7, 0), np.float32)}, "widths from 1"),
        ({"features": np.zeros(7, np.float32)}, "features has shape"),
        ({"features": np.zeros((7, 5))}, "features: float64, not a numpy array of float16 or float32"),
        ({"features": [[0.0]]}, "features: list"),
        ({"logits": np.zeros((7, 3), np.int64)}, "logits: int64"),
        ({"norms": np.zeros(7)}, "norms: float64"),
        ({"ok": np.ones(7, np.uint8)}, "ok: uint8"),
        ({"stored": "bf16"}, "use 'f16' or 'f32'"),
        ({"failures": []}, r"row 8 .* has no failure record"),
        ({"failures": [{"id": "x", "row": 8, "reason": ""}]}, "give one {id, row, reason}"),
        ({"failures": [{"id": "x", "row": 1, "reason": ""}]}, "here 7 to 13"),
        ({"failures": [{"row": None}]}, "give one {id, row, reason}"),
        ({"producer": {"when": object()}}, "producer.when is a object"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, rows, changed, message):
    bank = rows.begin(tmp_path)
    with pytest.raises(UsageError, match=message):
        rows.write(bank, 1, **changed)
    assert missing_parts(bank, 18) == [0, 1, 2]


def test_a_failure_record_of_a_sound_row_is_refused(tmp_path, rows):
    with pytest.raises(UsageError, match=r"row 0 .* is ok and has a failure record"):
        rows.write(rows.begin(tmp_path), 0, failures=[{"id": rows.ids[0], "row": 0, "reason": "x"}])


def test_completing_needs_every_part_and_the_right_ids(tmp_path, rows, rows_like):
    bank = rows.begin(tmp_path)
    rows.write(bank, 0)
    with pytest.raises(CacheError, match=r"2 of 3 parts are missing, the first is part 1"):
        complete_bank(bank, rows=18, rows_digest=rows.rows_digest)
    rows.write(bank, 1), rows.write(bank, 2)
    with pytest.raises(CacheError, match="its ids are not those of rows_digest"):
        complete_bank(bank, rows=18, rows_digest=rows_like(18, seed=1).rows_digest)
    with pytest.raises(CacheError, match=r"1 of 3 parts are missing, the first is part 2"):
        complete_bank(bank, rows=19, rows_digest=rows.rows_digest)
    with pytest.raises(CacheError, match="at least one row"):
        missing_parts(bank, 0)
    assert not (bank / "complete.json").exists()


def test_an_id_in_two_parts_is_refused(tmp_path, rows):
    rows = rows.with_(ids=(*rows.ids[:17], rows.ids[0]))
    with pytest.raises(CacheError, match="an id occurs twice"):
        rows.finish(tmp_path)


def test_parts_of_different_widths_are_refused(tmp_path, rows):
    bank = rows.begin(tmp_path)
    rows.write(bank, 1, logits=None)
    with pytest.raises(CacheError, match="widths"):
        rows.finish(tmp_path)


def test_a_part_is_not_replaced_by_other_rows(tmp_path, rows):
    bank = rows.begin(tmp_path)
    rows.write(bank, 0)
    with pytest.raises(CacheError, match="committed with other ids"):
        rows.write(bank, 0, ids=rows.ids[7:14])


def test_a_folder_that_is_no_bank(tmp_path, rows):
    with pytest.raises(CacheError, match="begin_bank"):
        rows.write(tmp_path, 0)


def test_a_cache_that_cannot_be_made(tmp_path, rows):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot be written.*it resumes"):
        rows.begin(tmp_path / "file")
