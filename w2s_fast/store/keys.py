"""The key of a bank: a digest of everything that decides its numbers, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from w2s_fast.core.errors import UsageError
from w2s_fast.core.hashing import canonical_json, digest_bytes
from w2s_fast.store.layout import FORMAT, MAX_DIGITS, MAX_RECORD

MAX_DEPTH = 32


def bank_key(ingredients: Mapping[str, Any]) -> str:
    """The sha256 (hex) of the canonical JSON of `{"format": 1, **ingredients}`.

    `ingredients` hold JSON types only (a tuple counts as a list), with text as keys and no NaN or infinity; note that
    1 and 1.0 are different ingredients. UsageError names the first entry that is none of these.
    """
    return digest_bytes(key_bytes(ingredients))


def key_bytes(ingredients: Mapping[str, Any]) -> bytes:
    """The bytes of `key.json`, whose sha256 is the key."""
    if "format" in ingredients:
        raise UsageError("an ingredient of a bank key may not be called 'format': the store adds it; rename it")
    data = canonical_json({"format": FORMAT, **plain(ingredients, "ingredients")}).encode()
    if len(data) > MAX_RECORD:
        raise UsageError(
            f"the ingredients of a bank key take {len(data)} bytes, more than {MAX_RECORD}; hash long ones"
        )
    return data


def plain(value: Any, where: str, *, depth: int = 0) -> Any:
    """A copy in JSON types, tuples as lists; UsageError with the dotted path of what is not JSON."""
    if depth > MAX_DEPTH:
        raise UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels; flatten it")
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) is int:
        if abs(value) >= 10 ** (MAX_DIGITS - 1):
            raise UsageError(f"{where} is an integer of {MAX_DIGITS} digits or more; write it as text")
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise UsageError(f"{where} is {value}, which JSON cannot hold; use null or text")
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise UsageError(f"{where} has the name {name!r}, which is not text; JSON names are text")
        return {name: plain(v, f"{where}.{name}", depth=depth + 1) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]", depth=depth + 1) for i, v in enumerate(value)]
    raise UsageError(f"{where} is a {type(value).__name__}, which is not a JSON type; convert it before")
