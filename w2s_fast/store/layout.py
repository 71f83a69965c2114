"""Where everything of a cache lives: format v1. The words behind it are in README.md beside this file."""

from __future__ import annotations

import re
from pathlib import Path

from w2s_fast.core.errors import UsageError
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.paths import cache_root

FORMAT = 1
PART_ROWS = 8192
"""Rows of every part but the last: a constant of format v1."""

MAX_PARTS = 10**6
MAX_RECORD = 8 << 20
"""Bytes of the largest key, commit or completion record that is read or written."""

MAX_VALUES = 1 << 17
"""Values of the fullest record: parsed, each takes up to a hundred times the bytes that it is written in."""

MAX_DEPTH = 40
"""Levels of the most deeply nested record."""

MAX_DIGITS = 100
"""Digits of the longest integer in a record."""

MAX_WIDTH = 1 << 16
"""Columns of the widest array that is read or written."""

TMP = ".tmp-"
"""What the names of unfinished files and folders begin with."""

_KEY = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v[1-9]\d{0,8}")
_DIRECTORY = re.compile(r"(\d{6})\.[0-9a-f]{8,64}")


def store_root(cache: str | Path | None = None) -> Path:
    """The folder of this format under the cache folder."""
    return cache_root(cache) / f"v{FORMAT}"


def later_roots(cache: str | Path | None = None) -> list[Path]:
    """The folders of later formats beside that of this one, the latest first."""
    found = {int(p.name[1:]): p for p in cache_root(cache).glob("v[1-9]*") if _VERSION.fullmatch(p.name) and p.is_dir()}
    return [found[version] for version in sorted(found, reverse=True) if version > FORMAT]


def bank_dir(cache: str | Path | None, key: str) -> Path:
    """The folder of a bank; `key` is 64 hex digits (UsageError)."""
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} is not a bank key (64 hex digits); list them with: w2s-fast cache ls")
    return store_root(cache) / key[:2] / key


def is_key(name: str) -> bool:
    """Whether `name` is that of a bank: 64 hex digits."""
    return _KEY.fullmatch(name) is not None


def key_file(bank: Path) -> Path:
    return bank / "key.json"


def parts_dir(bank: Path) -> Path:
    return bank / "parts"


def commits_dir(bank: Path) -> Path:
    return bank / "commits"


def complete_file(bank: Path) -> Path:
    return bank / "complete.json"


def commit_file(bank: Path, part: int) -> Path:
    return commits_dir(bank) / f"{part:06d}.json"


def part_name(part: int, nonce: str) -> str:
    """The name of a part's folder; a nonce makes it one attempt's own."""
    return f"{part:06d}.{nonce}"


def is_part_name(name: str, part: int) -> bool:
    """Whether `name` is a plain folder name of this part, hence cannot leave the bank."""
    return part_of(name) == part


def part_of(name: str) -> int | None:
    """The number of the part whose folder may be called so, None for any other name."""
    match = _DIRECTORY.fullmatch(name)
    return int(match[1]) if match else None


def refs_dir(cache: str | Path | None = None) -> Path:
    return store_root(cache) / "refs"


def ref_file(cache: str | Path | None, model: str, data: str, options: dict[str, object]) -> Path:
    return refs_dir(cache) / f"{digest_json([model, data, options])}.json"


def count_parts(rows: int) -> int:
    """How many parts hold `rows` rows."""
    return -(-rows // PART_ROWS)


def row_range(part: int, rows: int) -> tuple[int, int]:
    """Rows [start, stop) of a part in a bank of `rows` rows."""
    return part * PART_ROWS, min((part + 1) * PART_ROWS, rows)
