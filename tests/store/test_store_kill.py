"""Stop a writer at every file operation, as a kill or a full disk would; a rerun ends in the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from w2s_fast.core.errors import BankMissing, CacheError
from w2s_fast.store import list_banks, missing_parts, open_key, publish

OPERATIONS = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "rmdir", "mkdir")


class Killed(BaseException):
    """The process is gone: nothing after this point runs."""


@contextmanager
def faults(at: int, error: type[BaseException] | int) -> Iterator[list[str]]:
    """Fail the `at`-th operation; a killed process fails every later one too, a full disk only the writes.

    zarr's own thread is left alone: what it has done is cut by `test_killed_while_zarr_writes`.
    """
    log: list[str] = []
    me = threading.current_thread()

    def cut(name: str):
        real = getattr(os, name)

        def operation(*args, **kwargs):
            if threading.current_thread() is me:
                log.append(name)
                if len(log) - 1 == at or (len(log) > at and isinstance(error, type)):
                    raise error if isinstance(error, type) else OSError(error, os.strerror(error), str(args[0]))
            return real(*args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, cut(name))
        yield log


@pytest.fixture(autouse=True)
def quick_fsync(monkeypatch):
    """No test can cut the power, so an fsync is an operation that may fail, and nothing else."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def quick_zarr(monkeypatch):
    """Remember what zarr wrote for a part, as hundreds like it follow; in a thread of its own, as zarr does."""
    real, known = publish._write_zarr, {}

    def again(folder: Path, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def write(folder, arrays):
        files = known.get(arrays["ids"].tobytes())
        if files is None:
            real(folder, arrays)
            known[arrays["ids"].tobytes()] = {
                str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
            }
        else:
            thread = threading.Thread(target=again, args=(folder, files))
            thread.start()
            thread.join()

    monkeypatch.setattr(publish, "_write_zarr", write)


@pytest.fixture
def two_parts(rows):
    """10 rows: parts of 7 and 3."""
    return rows.with_(ids=rows.ids[:10], features=rows.features[:10], logits=rows.logits[:10], ok=rows.ok[:10])


def snapshot(bank) -> tuple:
    return bank.digest, bank.ids, bank.array("features").tobytes(), bank.array("logits").tobytes(), bank.failures


def undisturbed(rows, cache: Path) -> tuple[tuple, list[str]]:
    with faults(10**9, Killed) as log:
        rows.finish(cache)
    return snapshot(open_key(rows.begin(cache).name, cache=cache)), log


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_operation(two_parts, tmp_path, quick_zarr, every):
    """Most operations are the fsyncs of a part's files, with an open before each: of those every fifth is enough."""
    expected, log = undisturbed(two_parts, tmp_path / "calm")
    assert {"open", "write", "fsync", "link", "rename", "replace", "unlink", "mkdir"} <= set(log)
    assert len(log) > 100
    key = next(list_banks(tmp_path / "calm")).key
    complete = 0
    for k in (k for k, name in enumerate(log) if name not in ("open", "fsync") or k % every == 0 or k > len(log) - 4):
        cache = tmp_path / str(k)
        with faults(k, Killed), pytest.raises(Killed):
            two_parts.finish(cache)
        try:
            assert snapshot(open_key(key, cache=cache)) == expected, f"killed at operation {k}"
            complete += 1
        except BankMissing:
            pass
        assert two_parts.finish(cache) == expected[0], f"killed at operation {k} ({log[k]})"
        assert snapshot(open_key(key, cache=cache)) == expected, f"killed at operation {k} ({log[k]})"
        shutil.rmtree(cache)
    assert 0 < complete < 10, "the bank appears at the very end"


def test_committed_parts_are_not_written_again(two_parts, tmp_path, monkeypatch):
    bank = two_parts.begin(tmp_path)
    two_parts.write(bank, 1)
    assert missing_parts(bank, 10) == [0]
    monkeypatch.setattr(publish, "_write_zarr", lambda *args: pytest.fail("the part is there"))
    two_parts.write(bank, 1)


def test_killed_while_zarr_writes(two_parts, tmp_path, monkeypatch):
    expected, _ = undisturbed(two_parts, tmp_path / "calm")
    real, rmtree = publish._write_zarr, publish.shutil.rmtree

    def half(folder, arrays):
        real(folder, {name: arrays[name] for name in list(arrays)[:2]})
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_write_zarr", half)
        patch.setattr(publish.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            two_parts.finish(tmp_path / "cut")
    bank = two_parts.begin(tmp_path / "cut")
    assert [p.name[:5] for p in (bank / "parts").iterdir()] == [".tmp-"]
    assert publish.shutil.rmtree is rmtree and missing_parts(bank, 10) == [0, 1]
    assert two_parts.finish(tmp_path / "cut") == expected[0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_is_one_clean_error(two_parts, tmp_path, quick_zarr, code):
    expected, log = undisturbed(two_parts, tmp_path / "calm")
    cache = tmp_path / "full"
    raised = 0
    for k in range(0, len(log) + 20, 2 if code == errno.EIO else 3):
        with faults(k, code):
            try:
                two_parts.finish(cache)
            except CacheError as error:
                assert "w2s" in str(error).lower() or "run the same" in str(error), error
                raised += 1
        if k % 7 == 0:
            cache = tmp_path / f"full-{k}"
    assert raised > 20
    assert two_parts.finish(cache) == expected[0]


@pytest.mark.parametrize("place", [0, -1])
def test_what_zarr_wrote_wrongly_is_not_committed(two_parts, tmp_path, monkeypatch, place):
    """Another number with its own good checksum, or a bad checksum."""
    real = publish._write_zarr

    def lying(folder, arrays):
        real(folder, {**arrays, "features": arrays["features"] * np.float16(0.5)} if place == 0 else arrays)
        chunk = folder / "features/c/0/0"
        data = bytearray(chunk.read_bytes())
        data[place] ^= place & 1
        chunk.write_bytes(data)

    monkeypatch.setattr(publish, "_write_zarr", lying)
    with pytest.raises(CacheError, match="does not read back"):
        two_parts.finish(tmp_path)
    bank = two_parts.begin(tmp_path)
    assert missing_parts(bank, 10) == [0, 1] and not list((bank / "parts").iterdir())


def test_without_hard_links(two_parts, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    expected, _ = undisturbed(two_parts, tmp_path / "calm")
    monkeypatch.setattr(os, "link", refuse)
    assert two_parts.finish(tmp_path / "fat") == expected[0]
    bank = two_parts.begin(tmp_path / "fat")
    (bank / "commits/000000.json").write_bytes(b'{"record":')
    assert two_parts.finish(tmp_path / "fat") == expected[0]
