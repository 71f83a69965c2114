"""Canonical JSON, digests and row ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

ID_BYTES = 16
"""A row id is this many bytes of a sha256, written as twice as many hex digits (plus `#2` for a repetition)."""

_REPEAT = re.compile(r"(.+)#(?:[2-9]|[1-9]\d+)", re.DOTALL)
_HEX_ID = re.compile(r"[0-9a-f]{32}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII, and NaN or infinity refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_json(value: Any) -> str:
    """sha256 (hex) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_ids(ids: Iterable[str]) -> str:
    """sha256 (hex) over row ids in order, one per line; a file name that is not UTF-8 may be an id."""
    h, rest = hashlib.sha256(), iter(ids)
    while block := list(islice(rest, 65536)):
        h.update(("\n".join(block) + "\n").encode(errors="surrogatepass"))
    return h.hexdigest()


def row_id(content: bytes) -> str:
    """The id of an image from its bytes: the first 16 bytes of their sha256, as 32 hex digits."""
    return hashlib.sha256(content).hexdigest()[: 2 * ID_BYTES]


def number_repeats(ids: Sequence[str]) -> tuple[str, ...]:
    """Append `#2`, `#3`, ... to the second, third, ... occurrence of an id, in order; the result has no repeats."""
    seen: dict[str, int] = {}
    used: set[str] = set()
    out: list[str] = []
    for i in ids:
        seen[i] = seen.get(i, 0) + 1
        name = i if seen[i] == 1 else f"{i}#{seen[i]}"
        while name in used:  # an id that itself ends in #2
            seen[i] += 1
            name = f"{i}#{seen[i]}"
        used.add(name)
        out.append(name)
    return tuple(out)


def contents_of(ids: Sequence[str]) -> list[str]:
    """The id of each row's content: that of the first occurrence, for rows that `number_repeats` numbered."""
    there = set(ids)
    found = [_REPEAT.fullmatch(i) for i in ids]
    return [m[1] if m is not None and m[1] in there else i for i, m in zip(ids, found, strict=True)]


def are_plain(ids: Sequence[str]) -> bool:
    """Whether all ids are as `row_id` gives them, 32 lower-case hex digits: nothing about them needs a closer look."""
    if set(map(len, ids)) != {2 * ID_BYTES}:
        return False
    whole = "".join(ids)
    try:
        return bytes.fromhex(whole).hex() == whole
    except ValueError:
        return False


def pack_ids(ids: Sequence[str]) -> NDArray[np.uint8]:
    """Row ids as u8 [n, 16]; a repeated or foreign id (`...#2`, or not 32 lower-case hex digits) gives its sha256."""
    if are_plain(ids):
        return np.frombuffer(bytearray.fromhex("".join(ids)), np.uint8).reshape(len(ids), ID_BYTES)
    out = np.empty((len(ids), ID_BYTES), np.uint8)
    for row, text in enumerate(ids):
        # bytes.fromhex alone would let "AB" and "a b" stand for "ab", and join rows that differ
        own = _HEX_ID.fullmatch(text) is not None
        raw = bytes.fromhex(text) if own else hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:ID_BYTES]
        out[row] = np.frombuffer(raw, np.uint8)
    return out
