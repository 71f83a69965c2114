"""Garbage is what nothing names and nobody touched for a day; live files are never touched."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from w2s_fast.core.errors import CacheError
from w2s_fast.store import collect_garbage, files, open_key, verify_bank, write_ref
from w2s_fast.store.records import seal


def snapshot(root):
    return {str(p): p.stat().st_size for p in root.rglob("*")}


def age(path, hours: float) -> None:
    for p in (path, *(path.rglob("*") if path.is_dir() else ())):
        os.utime(p, (time.time() - 3600 * hours,) * 2, follow_symlinks=False)


@pytest.fixture
def littered(cache, bank_dir, rows):
    """A complete bank, an incomplete one, and every kind of leftover; all of it a day and an hour old."""
    write_ref(cache, model="m", data="d", key=bank_dir.name, rows_digest=rows.rows_digest)
    begun = rows.with_(ingredients={"other": 1}).begin(cache)
    rows.write(begun, 0)
    live = snapshot(cache)
    write_ref(cache, model="m", data="gone", key="0" * 64, rows_digest=rows.rows_digest)
    part = next((bank_dir / "parts").glob("000000.*"))
    shutil.copytree(part, bank_dir / "parts" / ("000000." + "0" * 16))
    shutil.copytree(part, begun / "parts" / ".tmp-0123")
    for name in (".tmp-a", "commits/.tmp-b", "../../refs/.tmp-c"):
        (bank_dir / name).write_bytes(b"x")
    age(cache, 25)
    return live


def test_what_nothing_names_goes_and_nothing_else(cache, bank_dir, littered):
    listed = list(collect_garbage(dry_run=True, cache=cache))
    assert len(listed) == 6 and all(g.path.exists() for g in listed)
    found = list(collect_garbage(cache=cache))
    assert found == listed and sum(g.bytes for g in found) > 500
    assert snapshot(cache) == littered
    assert verify_bank(bank_dir.name, deep=True, cache=cache) > 0
    assert list(collect_garbage(cache=cache)) == []


def test_what_is_young_or_has_a_young_file_stays(cache, bank_dir, littered):
    os.utime(next(bank_dir.glob("parts/000000.0000*/logits/c/0/0")))
    age(next((cache / "v1").rglob(".tmp-0123")), 23)
    assert len(list(collect_garbage(dry_run=True, cache=cache))) == 4
    assert len(list(collect_garbage(dry_run=True, cache=cache, older_than=0))) == 6
    assert list(collect_garbage(dry_run=True, cache=cache, older_than=26 * 3600)) == []


@pytest.mark.parametrize("record", [b"{", seal({"format": 2, "kind": "commit"}), None])
def test_beside_a_record_that_cannot_be_read_every_part_stays(cache, bank_dir, littered, record):
    path = bank_dir / "commits/000001.json"
    path.unlink()
    path.write_bytes(record) if record else path.mkdir()
    age(path, 25)
    found = {g.path.name for g in collect_garbage(cache=cache)}
    assert len(found) == 5 and "000000." + "0" * 16 not in found
    assert len(list((bank_dir / "parts").iterdir())) == 4


def test_links_are_removed_and_not_followed(cache, bank_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/keep").write_text("x")
    tmp = bank_dir / "parts/.tmp-x"
    tmp.mkdir()
    (tmp / "out").symlink_to(tmp_path / "mine")
    (bank_dir / "parts/.tmp-y").symlink_to(tmp_path / "mine")
    age(tmp, 25), age(bank_dir / "parts/.tmp-y", 25)
    assert len(list(collect_garbage(cache=cache))) == 2
    assert not tmp.exists() and (tmp_path / "mine/keep").read_text() == "x"


def test_a_writer_that_is_at_work_is_not_disturbed(tmp_path, rows, monkeypatch):
    real, seen = files.rename, []

    def collecting(source, target):
        seen.extend(collect_garbage(cache=tmp_path))
        real(source, target)

    monkeypatch.setattr(files, "rename", collecting)
    rows.finish(tmp_path)
    assert seen == []
    assert open_key(rows.begin(tmp_path).name, cache=tmp_path).rows == 18


def test_what_may_not_be_removed_is_one_sentence(cache, littered, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "unlink", refuse)
    with pytest.raises(CacheError, match=r"cannot be removed .*permit writing"):
        list(collect_garbage(cache=cache))


def test_an_empty_cache(tmp_path):
    assert list(collect_garbage(cache=tmp_path / "none")) == []
