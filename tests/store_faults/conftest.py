"""Small parts, and a quick folder, for the tests that ask for them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fake_extract
import pytest

from w2s_fast.store import files, layout


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of seven rows, so that a bank of ten rows has two; files are synced one by one, in an order to count on."""
    monkeypatch.setattr(layout, "PART_ROWS", fake_extract.PART_ROWS)
    monkeypatch.setattr(files, "SYNCERS", 1)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where the caches of a test lie, one beside the other: in memory if possible, as some tests make thousands."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield folder
    shutil.rmtree(folder)
