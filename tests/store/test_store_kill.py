"""Stop a writer at every file operation, as a kill or a full disk would; a rerun ends in the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from w2s_fast.core.errors import BankMissing, CacheError
from w2s_fast.store import files, list_banks, missing_parts, open_key, publish

OPERATIONS = ("open_file", "write", "fsync", "close", "rename", "link", "unlink", "mkdir", "rmdir")


class Killed(BaseException):
    """The process is gone: nothing after this point runs."""


@contextmanager
def faults(at: int, error: type[BaseException] | int) -> Iterator[list[str]]:
    """Fail the `at`-th operation; a killed process fails every later one too, a full disk only this one."""
    log: list[str] = []

    def cut(name: str):
        real = getattr(files, name)

        def operation(*args, **kwargs):
            log.append(name)
            if len(log) - 1 == at or (len(log) > at and isinstance(error, type)):
                raise error if isinstance(error, type) else OSError(error, os.strerror(error), str(args[0]))
            return real(*args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(files, name, cut(name))
        yield log


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


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_operation(two_parts, tmp_path, every):
    """Most operations open, write, sync and close a part's files: of those every eleventh is enough."""
    expected, log = undisturbed(two_parts, tmp_path / "calm")
    assert set(OPERATIONS) - {"rmdir"} == set(log)
    assert len(log) > 100
    key = next(list_banks(tmp_path / "calm")).key
    complete = 0
    often = ("open_file", "write", "fsync", "close", "mkdir")
    for k in (k for k, name in enumerate(log) if name not in often or k % every == 0 or k > len(log) - 6):
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
    monkeypatch.setattr(publish, "encode_part", lambda *args: pytest.fail("the part is there"))
    two_parts.write(bank, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_is_one_clean_error(two_parts, tmp_path, code):
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


@pytest.mark.parametrize("how", ["flipped", "short", "long"])
def test_what_the_disk_changed_is_not_committed(two_parts, tmp_path, monkeypatch, how):
    real = files.put_tree

    def lying(folder, contents, *, meanwhile):
        def changed():
            chunk = folder / "features/c/0/0"
            data = bytearray(chunk.read_bytes())
            data[3] ^= how == "flipped"
            chunk.write_bytes(data[:-1] if how == "short" else data + b"x" if how == "long" else data)
            meanwhile()

        real(folder, contents, meanwhile=changed)

    monkeypatch.setattr(files, "put_tree", lying)
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
