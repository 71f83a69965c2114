"""What a reader may find after a fault: the old state or the new one, byte for byte, and nothing in between."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_extract import DATA, INGREDIENTS, MODEL, extract

from w2s_fast.core.errors import BankMissing, Damaged
from w2s_fast.store import Ref, bank_key, collect_garbage, layout, open_key, read_ref, verify_bank
from w2s_fast.store.records import Bad, Commit, unseal

KEY = bank_key(INGREDIENTS)
NONCE = re.compile(r"\.[0-9a-f]{16}\b")


@dataclass(frozen=True, kw_only=True)
class Calm:
    """An undisturbed run: what every other one must end in."""

    digest: str
    arrays: tuple[Any, ...]
    contents: dict[str, Any]
    """Every file by its name (without nonces), as bytes; of commits, the record without the folder's nonce."""
    ref: Ref


def undisturbed(cache: Path, rows: int = 10) -> Calm:
    digest = extract(cache, rows)
    ref = reference(cache)
    assert ref is not None
    return Calm(digest=digest, arrays=read(cache), contents=contents(cache), ref=ref)


def read(cache: Path) -> tuple[Any, ...]:
    """All that a reader gets of a complete bank, after a deep verification; else BankMissing or Damaged."""
    bank = open_key(KEY, cache=cache)
    verify_bank(bank, deep=True)
    arrays = (bank.array(name) for name in ("features", "logits", "norms", "ok", "ids"))
    return bank.digest, bank.ids, bank.failures, *(None if a is None else a.tobytes() for a in arrays)


def reference(cache: Path) -> Ref | None:
    return read_ref(cache, model=MODEL, data=DATA)


def contents(cache: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(cache.rglob("*")):
        name = NONCE.sub("", str(path.relative_to(cache)))
        assert name not in found, f"{path}: a second file of this name"
        if path.parent.name == "commits":
            found[name] = {**unseal(path.read_bytes()), "directory": "of this part"}
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def part_files(calm: Calm, part: int) -> dict[str, bytes]:
    prefix = f"v1/{KEY[:2]}/{KEY}/parts/{part:06d}/"
    return {name[len(prefix) :]: data for name, data in calm.contents.items() if name.startswith(prefix) and data}


def check(cache: Path, calm: Calm, *, reported: Collection[str] = (), detected: bool = False) -> str:
    """Look at a cache after a fault as every reader would, and say what state it is in: "none", "whole" or "damaged".

    AssertionError if a commit names other bytes than those of an undisturbed run, if the bank opens with anything
    else, or if something is gone that was `reported`. detected: damage that raises `Damaged` is accepted.
    """
    there: set[str] = set()
    bank = layout.bank_dir(cache, KEY)
    for path in sorted((bank / "commits").glob("[0-9]*.json")):
        try:
            commit = Commit.from_bytes(path.read_bytes())
        except Bad as bad:
            assert detected, f"{path}: {bad}"
            continue
        wanted = part_files(calm, commit.part)
        folder = bank / "parts" / commit.directory
        for name, data in wanted.items():
            is_there = (folder / name).is_file() and (folder / name).read_bytes() == data
            assert is_there or detected, f"{path} names {folder / name}, which is not what was to be written"
            assert commit.files[name].sha256 == hashlib.sha256(data).hexdigest()
        assert len(commit.files) == len(wanted) == 11
        there.add(f"part {commit.part}")
    state = "none"
    try:
        assert read(cache) == calm.arrays, "the bank opens, and is not the one that was written"
        there.add("bank")
        state = "whole"
    except BankMissing:
        pass
    except Damaged as error:
        assert detected, f"a reader finds damage: {error}"
        state = "damaged"
    ref = reference(cache)
    if ref == calm.ref:
        there.add("reference")
    else:
        assert ref is None or detected, "a reference that nobody wrote"
    lost = set(reported) - there
    assert not lost, f"reported to the caller, and gone: {sorted(lost)}"
    return state


def check_rerun(cache: Path, calm: Calm, rows: int = 10) -> None:
    """The same command again, and gc: AssertionError unless this ends in every byte of the undisturbed run."""
    assert extract(cache, rows) == calm.digest
    assert read(cache) == calm.arrays
    sweep(cache)
    assert contents(cache) == calm.contents


def sweep(cache: Path) -> int:
    """Remove all that means nothing, however young; how many pieces that was."""
    return sum(1 for _ in collect_garbage(older_than=-60, cache=cache))
