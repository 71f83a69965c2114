"""A small bank of known numbers, in parts of seven rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, layout, missing_parts, write_part

PART_ROWS = 7


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What goes into a bank, and the steps that put it there."""

    ids: tuple[str, ...]
    features: np.ndarray
    logits: np.ndarray | None
    ok: np.ndarray
    ingredients: dict[str, Any]

    @property
    def norms(self) -> np.ndarray:
        return np.linalg.norm(self.features.astype(np.float64), axis=1).astype(np.float32)

    @property
    def rows_digest(self) -> str:
        return digest_ids(self.ids)

    def begin(self, cache: Path) -> Path:
        return begin_bank(cache, self.ingredients)

    def write(self, bank: Path, part: int, **changed: Any) -> None:
        start = part * layout.PART_ROWS
        s = slice(start, start + layout.PART_ROWS)
        failures = [
            {"id": self.ids[r], "row": int(r), "reason": "unreadable"}
            for r in np.flatnonzero(~self.ok)
            if start <= r < start + layout.PART_ROWS
        ]
        given = {
            "ids": self.ids[s],
            "features": self.features[s],
            "logits": None if self.logits is None else self.logits[s],
            "norms": self.norms[s],
            "ok": self.ok[s],
            "failures": failures,
        }
        write_part(bank, part, **{**given, **changed})

    def finish(self, cache: Path) -> str:
        """Whatever is left to do, as `extract` does it."""
        bank = self.begin(cache)
        for part in missing_parts(bank, len(self.ids)):
            self.write(bank, part)
        return complete_bank(bank, rows=len(self.ids), rows_digest=self.rows_digest)

    def with_(self, **changed: Any) -> Rows:
        return replace(self, **changed)


def make_rows(n: int, *, dim: int = 5, classes: int = 3, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    ids = [row_id(f"{seed}:{i}".encode()) for i in range(n)]
    if n > 4:
        ids[4] = ids[1] + "#2"
    ok = np.ones(n, bool)
    if n > 8:
        ok[8] = False
    return Rows(
        ids=tuple(ids),
        features=rng.standard_normal((n, dim)).astype(np.float32),
        logits=rng.standard_normal((n, classes)).astype(np.float32),
        ok=ok,
        ingredients={"weights": f"w{seed}", "preprocess": {"size": 224, "interpolation": "bicubic"}},
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PART_ROWS", PART_ROWS)


@pytest.fixture(autouse=True)
def quick_fsync(monkeypatch):
    """No test can cut the power, so an fsync is an operation that may fail, and nothing else."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("W2S_FAST_CACHE", str(tmp_path / "default-cache"))


@pytest.fixture
def rows() -> Rows:
    """18 rows in parts of 7, 7 and 4; row 8 failed, row 4 repeats row 1."""
    return make_rows(18)


@pytest.fixture
def rows_like() -> Callable[..., Rows]:
    return make_rows


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PART_ROWS", PART_ROWS)
        make_rows(18).finish(cache)
    yield cache


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    """A cache that holds the complete bank of `rows`, to be damaged at will."""
    return Path(shutil.copytree(made, tmp_path / "cache"))


@pytest.fixture
def bank_dir(cache: Path) -> Path:
    return next((cache / "v1").glob("??/*"))
