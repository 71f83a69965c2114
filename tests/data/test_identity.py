from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from pictures import save

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import row_id
from w2s_fast.data import identity
from w2s_fast.data.identity import MEMO, Memo, identify, stamp_of

OLD = time.time() - 1000


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[str]]:
    root = tmp_path / "images"
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        os.utime(save(root / name, i), (OLD, OLD))
    return root, names


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read."""
    seen: list[Path] = []
    honest = identity.hash_content

    def watched(path: Path) -> str:
        seen.append(path)
        return honest(path)

    monkeypatch.setattr(identity, "hash_content", watched)
    return seen


def truth(root: Path, names: list[str]) -> tuple[str, ...]:
    return tuple(row_id((root / n).read_bytes()) for n in names)


def test_each_file_is_read_once(files: tuple[Path, list[str]], read: list[Path], tmp_path: Path) -> None:
    root, names = files
    ask: dict[str, Any] = {"identity": "content", "cache": tmp_path / "cache"}
    assert identify(root, names, **ask) == truth(root, names)
    assert len(read) == 5
    assert identify(root, names[::-1], **ask) == truth(root, names)[::-1]
    assert len(read) == 5
    os.utime(save(root / "2.png", 77), (OLD + 1, OLD + 1))
    assert identify(root, names, **ask) == truth(root, names)
    assert read[5:] == [root / "2.png"]


def test_a_file_just_written_is_not_remembered(read: list[Path], tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    for _ in range(2):
        identify(tmp_path, ["a.png"], identity="content", cache=tmp_path / "cache")
    assert len(read) == 2


@pytest.mark.parametrize(
    "damage", [b"not a database at all, but long enough to look at" * 40, b"", b"SQLite format 3\0"]
)
def test_a_broken_memo_costs_time_only(
    files: tuple[Path, list[str]], read: list[Path], tmp_path: Path, damage: bytes
) -> None:
    root, names = files
    (tmp_path / MEMO).write_bytes(damage)
    for _ in range(2):
        assert identify(root, names, identity="content", cache=tmp_path) == truth(root, names)
    assert len(read) == 5  # the second time it had been fixed


def test_a_memo_with_another_shape_or_nonsense_rows(
    files: tuple[Path, list[str]], read: list[Path], tmp_path: Path
) -> None:
    root, names = files
    with sqlite3.connect(tmp_path / MEMO) as db:
        db.execute("CREATE TABLE contents (path TEXT)")
    db.close()
    assert identify(root, names, identity="content", cache=tmp_path) == truth(root, names)
    (tmp_path / MEMO).unlink()
    stat = (root / "0.png").stat()
    Memo(tmp_path / MEMO).put(iter([(str(root / "0.png"), stamp_of(stat), "short")]))
    assert identify(root, names, identity="content", cache=tmp_path) == truth(root, names)


def test_a_cache_that_cannot_be_written(files: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, names = files
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert identify(root, names, identity="content", cache=blocked) == truth(root, names)
    (tmp_path / "c" / MEMO).mkdir(parents=True)
    assert identify(root, names, identity="content", cache=tmp_path / "c") == truth(root, names)


def test_a_vanished_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the image .*gone.png cannot be read"):
        identify(tmp_path, ["gone.png"], identity="content", cache=tmp_path)
