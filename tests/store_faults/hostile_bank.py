"""A small sound bank, the ways in which somebody hostile may rewrite it, and commands run on it within bounds."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2s_fast.core.hashing import digest_bytes, digest_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, write_part, write_ref
from w2s_fast.store.records import seal, unseal

ROWS, DIM, CLASSES = 7, 5, 3
PROBE = Path(__file__).with_name("hostile_probe.py")


def make_bank(cache: Path, *, asked_by_training: bool = False) -> Path:
    """One part of seven rows, complete, with a reference: that which `train` looks up, if so wanted."""
    rng = np.random.default_rng(0)
    ids = [row_id(str(i).encode()) for i in range(ROWS)]
    features = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    bank = begin_bank(cache, {"weights": "w", "preprocess": {"size": 224}})
    write_part(
        bank,
        0,
        ids=ids,
        features=features,
        logits=rng.standard_normal((ROWS, CLASSES)).astype(np.float32),
        norms=np.linalg.norm(features, axis=1).astype(np.float32),
        ok=np.ones(ROWS, bool),
    )
    digest = digest_ids(ids)
    complete_bank(bank, rows=ROWS, rows_digest=digest)
    rows_digest, options = digest, {}
    if asked_by_training:
        from w2s_fast.data import open_manifest
        from w2s_fast.extract.options import ExtractOptions

        rows_digest, options = open_manifest("drawn:sketch").rows_digest, ExtractOptions().in_key()
    write_ref(cache, model="drawn:clip", data="drawn:sketch", options=options, key=bank.name, rows_digest=rows_digest)
    return bank


def commit_of(bank: Path) -> Path:
    return bank / "commits" / "000000.json"


def part_of(bank: Path) -> Path:
    return next((bank / "parts").glob("000000.*"))


def sealed(body: bytes) -> bytes:
    """Any bytes with a sound seal: what an attacker writes who has read the format."""
    return b'{"record":' + body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def reseal(path: Path, **changed: Any) -> None:
    path.write_bytes(seal({**unseal(path.read_bytes()), **changed}))


def reseal_raw(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes inside a record, which no JSON library would write so, and seal it again."""
    body = path.read_bytes()[len(b'{"record":') : -len(b',"sha256":""}\n') - 64]
    assert old in body
    path.write_bytes(sealed(body.replace(old, new, 1)))


def refile(bank: Path, name: str, data: bytes) -> None:
    """Replace a part's file, with a commit that agrees."""
    record = unseal(commit_of(bank).read_bytes())
    (part_of(bank) / name).write_bytes(data)
    entry = {**record["files"][name], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    reseal(commit_of(bank), files={**record["files"], name: entry})


def remeta(bank: Path, array: str, **changed: Any) -> None:
    path = part_of(bank) / array / "zarr.json"
    refile(bank, f"{array}/zarr.json", json.dumps({**json.loads(path.read_bytes()), **changed}).encode())


def rekey(bank: Path, data: bytes) -> Path:
    """The bank with other bytes as key.json, under the name that these have."""
    key = digest_bytes(data)
    moved = bank.parent.parent / key[:2] / key
    moved.parent.mkdir(exist_ok=True)
    shutil.move(bank, moved)
    (moved / "key.json").write_bytes(data)
    for path in (commit_of(moved), moved / "complete.json"):
        reseal(path, key=key)
    return moved


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command did: exit status, words, wall seconds, peak and added resident bytes."""

    name: str
    argv: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float
    peak: int
    grown: int

    def __str__(self) -> str:
        words = f"{self.err[-600:]} {self.out[-200:]}"
        took = f"{self.seconds:.2f} s, {self.peak >> 20} MiB"
        return f"{self.name}: {' '.join(self.argv)} -> {self.status} in {took}: {words}"


def probe(
    commands: Iterable[tuple[str, Sequence[str | Path]]], *, imports: str = "", within: float = 120
) -> list[Outcome]:
    """Run command lines one after another in one fresh process, each measured; nothing may end that process."""
    lines = [json.dumps({"name": name, "argv": [str(a) for a in argv]}) for name, argv in commands]
    done = subprocess.run(
        [sys.executable, str(PROBE), imports],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(lines), done.stderr[-2000:]
    return [Outcome(**{**f, "argv": tuple(f["argv"])}) for f in found]
