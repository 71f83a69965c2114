"""What is in a cache, and why two banks are not one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2s_fast.core.errors import BankMissing, CacheError, UsageError
from w2s_fast.core.hashing import canonical_json
from w2s_fast.core.paths import cache_root
from w2s_fast.store import layout, mirror
from w2s_fast.store.bank import Bank, iter_commits, open_key, read_ingredients
from w2s_fast.store.bucket import banks_in, commits_in, complete_in
from w2s_fast.store.objects import Objects
from w2s_fast.store.refs import Ref, list_refs, parse_ref

_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class BankInfo:
    """One line of `w2s-fast cache ls`."""

    key: str
    model: str | None
    """As the first reference to the bank names it; None without one. Likewise `data`."""
    data: str | None
    rows: int
    """Rows committed so far."""
    dim: int | None
    complete: bool
    bytes: int
    """Bytes of all files in the bank's folder, unreferenced ones included."""
    problem: str | None = None
    """Why a bank that claims to be complete cannot be opened."""


def list_banks(cache: str | Path | None = None) -> Iterator[BankInfo]:
    """Every bank of a cache in the order of keys, complete or not; a bank that cannot be opened is listed as such.

    Of a bucket the records are read and no bank is opened.
    """
    objects = mirror.bucket_of(cache_root(cache))
    if objects is not None:
        yield from _list_bucket(objects)
        return
    refs: dict[str, Ref] = {}
    for ref in list_refs(cache):
        refs.setdefault(ref.key, ref)
    for folder in sorted(layout.store_root(cache).glob("??/" + "[0-9a-f]" * 64)):
        if not any(os.path.lexists(f) for f in (layout.key_file(folder), layout.complete_file(folder))):
            continue
        ref = refs.get(folder.name)
        bank, problem = None, None
        if os.path.lexists(layout.complete_file(folder)):
            try:
                bank = open_key(folder.name, cache=cache)
            except CacheError as error:
                problem = str(error)
        yield BankInfo(
            key=folder.name,
            model=ref.model if ref else None,
            data=ref.data if ref else None,
            rows=bank.rows if bank else sum(c.rows for c in iter_commits(folder)),
            dim=bank.dim if bank else None,
            complete=bank is not None,
            bytes=_bytes_below(folder),
            problem=problem,
        )


def _list_bucket(objects: Objects) -> Iterator[BankInfo]:
    refs: dict[str, Ref] = {}
    for one in objects.list(f"v{layout.FORMAT}/refs"):
        ref = parse_ref(objects.get(one.name, limit=layout.MAX_RECORD))
        if ref is not None:
            refs.setdefault(ref.key, ref)
    for key, stored in banks_in(objects).items():
        complete, ref = complete_in(objects, key), refs.get(key)
        commits = [] if complete else [c for _, c in commits_in(objects, stored) if c is not None]
        yield BankInfo(
            key=key,
            model=ref.model if ref else None,
            data=ref.data if ref else None,
            rows=complete.rows if complete else sum(c.rows for c in commits),
            dim=complete.dim if complete else None,
            complete=complete is not None,
            bytes=sum(one.bytes for one in stored),
        )


def find_key(prefix: str, *, cache: str | Path | None = None) -> str:
    """The full key of the one bank whose key begins so; UsageError when there is none, or several."""
    objects = mirror.bucket_of(cache_root(cache))
    known = {f.name for f in layout.store_root(cache).glob("??/" + "[0-9a-f]" * 64)}
    keys = sorted(k for k in known | set(banks_in(objects) if objects else ()) if k.startswith(prefix))
    if len(keys) != 1:
        found = "no bank's key begins" if not keys else f"{len(keys)} banks' keys begin"
        raise UsageError(f"{found} with {prefix!r} in {layout.store_root(cache)}; list them with: w2s-fast cache ls")
    return keys[0]


def ingredients_of(key: str, *, cache: str | Path | None = None) -> dict[str, Any]:
    """What the key of a bank is made of, be the bank complete or not; BankMissing, or `Damaged` key.json."""
    folder = layout.bank_dir(cache, key)
    mirror.pull_file(layout.key_file(folder), cache_root(cache))
    if not layout.key_file(folder).exists():
        raise BankMissing(f"no bank {key[:12]} in {layout.store_root(cache)}; list them with: w2s-fast cache ls")
    return read_ingredients(folder)


def describe(key: str, *, cache: str | Path | None = None) -> dict[str, Any]:
    """What `w2s-fast cache info` prints; of an incomplete bank the ingredients and what is committed so far."""
    folder = layout.bank_dir(cache, key)
    ingredients = ingredients_of(key, cache=cache)
    mirror.pull_bank(folder)
    bank = open_key(key, cache=cache) if layout.complete_file(folder).exists() else None
    commits = [p.commit for p in bank.parts] if bank else list(iter_commits(folder))
    return {
        "key": key,
        "complete": bank is not None,
        "rows": sum(c.rows for c in commits),
        "dim": bank.dim if bank else None,
        "digest": bank.digest if bank else None,
        "references": [{"model": r.model, "data": r.data} for r in list_refs(cache) if r.key == key],
        # rows of batches of another size, or from another device, are not bit-equal
        "mixed_parts": len({canonical_json(c.producer) for c in commits}) > 1,
        "parts": [{"rows": [c.start, c.stop], "directory": c.directory, **c.producer} for c in commits],
        "failures": [dict(f) for c in commits for f in c.failures],
        "ingredients": ingredients,
    }


def differences(a: Bank | Mapping[str, Any], b: Bank | Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted path, value in a, value in b) of every key ingredient that differs; None where one lacks it."""
    first = a.ingredients if isinstance(a, Bank) else a
    second = b.ingredients if isinstance(b, Bank) else b
    return list(_walk("", first, second))


def why(a: Bank | Mapping[str, Any], b: Bank | Mapping[str, Any]) -> list[str]:
    """The dotted paths of the key ingredients that differ: the reason why two banks are not one."""
    return [path for path, _, _ in differences(a, b)]


def _walk(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            yield from _walk(f"{path}.{name}" if path else str(name), a.get(name, _ABSENT), b.get(name, _ABSENT))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _walk(f"{path}[{i}]", x, y)
    elif type(a) is not type(b) or a != b:
        yield path, None if a is _ABSENT else a, None if b is _ABSENT else b


def _bytes_below(folder: Path) -> int:
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(here, name)).st_size
            except OSError:
                continue
    return total
