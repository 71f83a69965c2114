"""A bank of known numbers in parts of seven rows, every way to read it, and ways to damage a file of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.core.hashing import digest_ids, pack_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, layout, missing_parts, rows_of, verify_bank, write_part, write_ref
from w2s_fast.store.blocks import BankBlocks
from w2s_fast.store.part import ALLOWED
from w2s_fast.store.reader import Bank

PART_ROWS = 7
MODEL, DATA = "drawn:clip", "drawn:sketch"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What goes into a bank; parts of 7, 7, 7 and 4 rows, all with logits, unless made otherwise.

    Row 4 repeats the image of row 1, the id of row 9 is not a hash, row 8 failed, and part 2 needs float32.
    """

    ids: tuple[str, ...]
    features: np.ndarray
    logits: np.ndarray
    ok: np.ndarray
    ingredients: dict[str, Any]
    stored: Any = "f16"

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def rows_digest(self) -> str:
        return digest_ids(self.ids)

    def written(self, bank: Path, part: int) -> None:
        start, stop = layout.row_range(part, self.rows)
        at = slice(start, stop)
        write_part(
            bank,
            part,
            ids=self.ids[at],
            features=self.features[at],
            logits=self.logits[at],
            norms=np.linalg.norm(self.features[at].astype(np.float64), axis=1).astype(np.float32),
            ok=self.ok[at],
            failures=[
                {"id": self.ids[r], "row": r, "reason": "truncated"} for r in range(start, stop) if not self.ok[r]
            ],
            stored=self.stored,
        )

    def finish(self, cache: Path) -> str:
        """All that is left to do, as `extract` does it."""
        bank = begin_bank(cache, self.ingredients)
        for part in missing_parts(bank, self.rows):
            self.written(bank, part)
        digest = complete_bank(bank, rows=self.rows, rows_digest=self.rows_digest)
        write_ref(cache, model=MODEL, data=DATA, key=bank.name, rows_digest=self.rows_digest)
        return digest

    def truth(self) -> dict[str, np.ndarray]:
        """What every array must return, worked out here: rounding to float16 but in part 2, zeros in failed rows."""
        out: dict[str, np.ndarray] = {"ids": pack_ids(self.ids), "ok": self.ok}
        for name in ("features", "logits"):
            values = getattr(self, name)
            wide = values.copy()
            for rows in (slice(0, 14), slice(21, None)) if self.stored == "f16" else ():
                wide[rows] = values[rows].astype(np.float16)
            out[name] = wide * self.ok[:, None].astype(np.float32)
        norms = np.linalg.norm(self.features.astype(np.float64), axis=1).astype(np.float32)
        out["norms"] = norms * self.ok
        return out


def known(rows: int = 25, *, seed: int = 0, times: float = 1.0, stored: str = "f16", name: str = "w") -> Known:
    rng = np.random.default_rng(seed)
    ids = [row_id(f"{name}:{i}".encode()) for i in range(rows)]
    ids[4] = ids[1] + "#2"
    ids[9] = "a house"
    features = rng.standard_normal((rows, 5)).astype(np.float32) * np.float32(times)
    logits = rng.standard_normal((rows, 3)).astype(np.float32) * np.float32(times)
    features[16:17, 2] = logits[16:17, 1] = 1e6  # more than float16 holds
    ok = np.ones(rows, bool)
    ok[8] = False
    return Known(
        ids=tuple(ids),
        features=features,
        logits=logits,
        ok=ok,
        ingredients={"weights": name, "preprocess": {"size": 224}},
        stored=stored,
    )


Read = tuple[str, Callable[[Bank], Any], Any]
"""The array that is read, how, and what must come back."""


def reads(what: Known) -> dict[str, Read]:
    """Every way in which numbers leave a bank, by name."""
    truth = what.truth()
    mixed = np.random.default_rng(3).permutation(what.rows)
    out: dict[str, Read] = {}
    for name, values in truth.items():
        out[f"array {name}"] = (name, lambda b, n=name: b.array(n), values)
        out[f"take {name}"] = (name, lambda b, n=name: b.take(n, mixed), values[mixed])
        out[f"part of {name}"] = (
            name,
            lambda b, n=name: np.concatenate([b.part(n, p) for p in range(len(b.parts))]),
            values,
        )
    for name in ("features", "logits", "norms"):
        out[f"{name}()"] = (name, lambda b, n=name: getattr(b, n)().numpy(), truth[name])
    for name in ("features", "logits"):
        out[f"blocks of {name}"] = (name, lambda b, n=name: _blocks(b, n, mixed), truth[name])
    out["ids"] = ("ids", lambda b: b.ids, what.ids)
    out["ok"] = ("ok", lambda b: b.ok, truth["ok"])
    out["a join"] = ("ids", lambda b: rows_of(b, what.ids[::-1]), np.arange(what.rows)[::-1])
    assert {array for array, _, _ in out.values()} == set(ALLOWED)
    return out


def _blocks(bank: Bank, name: str, order: np.ndarray) -> np.ndarray:
    """Blocks of one row in mixed order, so that each is read alone once its part is known."""
    blocks = BankBlocks(bank=bank, name=name, block=1)
    out = np.empty((bank.rows, blocks.d), np.float32)
    for row in [*order.tolist(), *order[::-1].tolist()]:
        out[row] = blocks.read(row)[0]
    return out


def same(found: Any, true: Any) -> bool:
    """Equal to the last bit, in shape too."""
    if isinstance(true, tuple):
        return found == true
    # float16 arrays are promoted by part; the number counts
    return found.shape == true.shape and np.array_equal(found.astype(true.dtype), true)


def verifications(key: str, cache: Path) -> dict[str, Callable[[], int]]:
    return {
        "verify": lambda: verify_bank(key, cache=cache),
        "verify --deep": lambda: verify_bank(key, cache=cache, deep=True),
    }


def every_file(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def damaged(path: Path, new: bytes | Callable[[Path], object] | None) -> Iterator[None]:
    """Other bytes, none (deleted), or whatever a function puts in the file's place; undone afterwards."""
    sound, times = path.read_bytes(), path.stat()
    if isinstance(new, bytes):
        path.write_bytes(new)
    else:
        path.unlink()
        if new is not None:
            new(path)
    try:
        yield
    finally:
        remove(path)
        path.write_bytes(sound)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flipped(data: bytes, bit: int) -> bytes:
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def small_parts(patch: pytest.MonkeyPatch) -> None:
    """Parts of seven rows; fsync is left out, as no test here cuts the power."""
    patch.setattr(layout, "PART_ROWS", PART_ROWS)
    patch.setattr(os, "fsync", lambda fd: None)
