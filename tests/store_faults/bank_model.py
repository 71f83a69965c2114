"""The dictionary model of the state machine: what is known of each bank, and what an undisturbed run leaves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from known_bank import known, small_parts

from w2s_fast.store import begin_bank, layout

WHATS = (known(18, seed=1, name="first"), known(14, seed=2, name="second"), known(18, seed=3, name="third"))
SOUND, HURT, GONE = "sound", "hurt", "gone"


@dataclass(kw_only=True)
class Expected:
    """What is known about one bank."""

    begun: bool = False
    key: str = GONE
    complete: str = GONE
    parts: dict[int, str] = field(default_factory=dict)
    """Part -> SOUND, or HURT: committed, and not what was committed. Absent: not committed."""
    unseen: dict[int, set[str]] = field(default_factory=dict)
    """HURT parts whose files have all their sizes -> the arrays that cannot be read, "" for metadata.

    Who extracts does not see these; the other hurt parts are made again.
    """
    named: bool = False
    """There is a reference."""


@dataclass(frozen=True, kw_only=True)
class Calm:
    """One bank as an undisturbed run leaves it."""

    key: str
    digest: str
    key_json: bytes
    complete_json: bytes


@cache
def calm(number: int) -> Calm:
    with tempfile.TemporaryDirectory(prefix="calm-") as home, pytest.MonkeyPatch.context() as patch:
        small_parts(patch)
        digest = WHATS[number].finish(Path(home))
        folder = begin_bank(home, WHATS[number].ingredients)
        records = (layout.key_file(folder).read_bytes(), layout.complete_file(folder).read_bytes())
        return Calm(key=folder.name, digest=digest, key_json=records[0], complete_json=records[1])
