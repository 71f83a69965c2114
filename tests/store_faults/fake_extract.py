"""An extraction without images and without torch: the steps of `extract` on a store, with features made of ids.

Imported by the tests, and run by path as a process of its own that a test can kill:
`fake_extract.py CACHE ROWS SEED PAUSE` sleeps up to PAUSE seconds before each file operation, and prints what it
reports to its caller.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, layout, missing_parts, write_part, write_ref

PART_ROWS, DIM, CLASSES = 7, 5, 3
"""Parts of seven rows, so that a bank of a few rows has a few parts."""
MODEL, DATA = "fake:encoder", "fake:rows"
INGREDIENTS = {"weights": "w", "preprocess": {"size": 224}}
UNREADABLE = 8
"""The row without features."""


def row_ids(rows: int) -> list[str]:
    return [row_id(str(i).encode()) for i in range(rows)]


def encode(ids: list[str]) -> np.ndarray:
    """Numbers f32[n, DIM + CLASSES] in [-1, 1), each a function of its row's id alone."""
    out = np.empty((len(ids), DIM + CLASSES), np.float32)
    for row, one in enumerate(ids):
        digest = hashlib.sha256(one.encode()).digest()
        out[row] = np.frombuffer(digest[: 4 * out.shape[1]], "<u4") / np.float32(2**31) - 1
    return out


def write(bank: Path, part: int, rows: int) -> None:
    start, stop = layout.row_range(part, rows)
    ids = row_ids(rows)[start:stop]
    numbers = encode(ids)
    ok = np.arange(start, stop) != UNREADABLE
    write_part(
        bank,
        part,
        ids=ids,
        features=numbers[:, :DIM],
        logits=numbers[:, DIM:],
        norms=np.linalg.norm(numbers[:, :DIM].astype(np.float64), axis=1).astype(np.float32),
        ok=ok,
        failures=[] if ok.all() else [{"id": row_ids(rows)[UNREADABLE], "row": UNREADABLE, "reason": "unreadable"}],
    )


def extract(
    cache: Path, rows: int = 10, *, report: Callable[[str], None] = lambda what: None, seed: int | None = None
) -> str:
    """Whatever is left to do of the bank, then its reference; `report` is told what is safe from now on."""
    bank = begin_bank(cache, INGREDIENTS)
    parts = missing_parts(bank, rows)
    if seed is not None:
        random.Random(seed).shuffle(parts)
    for part in parts:
        write(bank, part, rows)
        report(f"part {part}")
    digest = complete(bank, rows)
    report("bank")
    refer(cache, bank.name, rows)
    report("reference")
    return digest


def complete(bank: Path, rows: int = 10) -> str:
    return complete_bank(bank, rows=rows, rows_digest=digest_ids(row_ids(rows)))


def refer(cache: Path, key: str, rows: int = 10) -> None:
    digest = digest_ids(row_ids(rows))
    write_ref(cache, model=MODEL, data=DATA, key=key, rows_digest=digest, weights=[__file__])


def main(cache: str, rows: str, seed: str, pause: str) -> None:
    from fault_layer import Layer

    layout.PART_ROWS = PART_ROWS
    chance = random.Random(int(seed))

    def sleep(at: int, name: str) -> None:
        time.sleep(chance.random() * float(pause))

    print("ready", flush=True)
    sys.stdin.readline()
    with Layer(sleep):
        digest = extract(Path(cache), int(rows), report=lambda what: print(what, flush=True), seed=int(seed))
    print("digest", digest, "torch" in sys.modules, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
