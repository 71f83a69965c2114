"""Opening banks by key or by reference, and joining rows by id; imports neither zarr nor any model library."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import BankMissing, BankStale, CacheError, Damaged, IdMismatch, NewerFormat
from w2s_fast.core.hashing import digest_bytes, pack_ids
from w2s_fast.store import files, layout, mirror
from w2s_fast.store.part import BadFile, read_meta
from w2s_fast.store.reader import Bank, Part, how_to_fix, making_command
from w2s_fast.store.records import Bad, Commit, Complete, bank_digest, check_format, parse_object
from w2s_fast.store.refs import extract_command, read_ref, stale_weights
from w2s_fast.store.watched import whole

_OF_LATER = "in {}, which a later version wrote: upgrade w2s_fast to read it"

__all__ = ["Bank", "iter_commits", "open_bank", "open_key", "read_ingredients", "rows_of", "verify_bank"]


def open_key(key: str, *, cache: str | Path | None = None) -> Bank:
    """Open a complete bank by its key.

    BankMissing (with the extract command) when there is none or it is incomplete, Damaged when a record, a metadata
    file or a size is not as committed, NewerFormat when a later version wrote it.
    """
    folder = layout.bank_dir(cache, key)
    mirror.pull_bank(folder)
    if not os.path.lexists(layout.key_file(folder)) and not os.path.lexists(layout.complete_file(folder)):
        for later in layout.later_roots(cache):
            if (later / key[:2] / key).is_dir():
                raise NewerFormat(f"bank {key[:12]} is {_OF_LATER.format(later)}")
        raise BankMissing(f"no bank {key[:12]} in {layout.store_root(cache)}; make it with: {making_command(folder)}")
    ingredients = read_ingredients(folder)
    done = layout.complete_file(folder)
    try:
        complete = Complete.from_bytes(files.read_regular(done, limit=layout.MAX_RECORD))
    except FileNotFoundError:
        raise BankMissing(
            f"bank {key[:12]} in {folder} is incomplete; finish it with: {making_command(folder)}"
        ) from None
    except (Bad, OSError, NewerFormat) as error:
        raise _record_error(done, error) from None
    if complete.key != key:
        raise Damaged(f"{done}: it is the record of another bank; {how_to_fix(folder)}")
    count = layout.count_parts(complete.rows)
    if os.path.lexists(layout.commit_file(folder, count)):
        # An older record of fewer rows is consistent in itself: believed, it would leave rows out.
        raise Damaged(
            f"{done}: it counts {complete.rows} rows, and there are commits of later ones; {how_to_fix(folder)}"
        )
    parts = tuple(_open_part(folder, p, complete.rows) for p in range(count))
    if bank_digest(p.commit for p in parts) != complete.digest:
        raise Damaged(f"{done}: the commits are not those of the completed bank (another digest); {how_to_fix(folder)}")
    bank = Bank(
        key=key,
        folder=folder,
        ingredients=ingredients,
        rows=complete.rows,
        dim=complete.dim,
        digest=complete.digest,
        rows_digest=complete.rows_digest,
        parts=parts,
    )
    first = parts[0].arrays
    for part in parts:
        for name in set(first) | set(part.arrays):
            width = (complete.dim,) if name == "features" else first[name].shape[1:] if name in first else None
            if name not in part.arrays or part.arrays[name].shape[1:] != width:
                raise bank.damaged(part.commit, f"{name}/zarr.json", "its width is not that of the bank")
    return bank


def open_bank(
    model: str,
    data: str,
    *,
    cache: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    rows_digest: str | None = None,
) -> Bank:
    """Open the bank of a model and a data set, through its reference: no model is loaded, no image is read.

    options: those of the extraction, named as its flags are. rows_digest: that of the manifest, if the caller has it.
    BankMissing, BankStale (a weight file or the rows changed), each with the complete extract command; else as
    `open_key`.
    """
    command = extract_command(model, data, options, cache=cache)
    ref = read_ref(cache, model=model, data=data, options=options)
    if ref is None:
        later = "".join(f"; another may be {_OF_LATER.format(root)}" for root in layout.later_roots(cache)[:1])
        raise BankMissing(f"no bank of {model} on {data} in {layout.store_root(cache)}{later}; make it with: {command}")
    changed = stale_weights(ref)
    if changed is not None:
        raise BankStale(f"{changed} since {model} was extracted on {data}; extract again with: {command}")
    if not all(whole(entry) for entry in ref.weights):
        # it did not watch configuration and tokenizer; the bank itself stays, and is found again by its key
        raise BankMissing(f"the reference of {model} on {data} is an older version's; refresh it with: {command}")
    if rows_digest is not None and rows_digest != ref.rows_digest:
        raise BankStale(f"the rows of {data} changed since {model} was extracted on it; extract again with: {command}")
    bank = open_key(ref.key, cache=cache)
    if bank.rows_digest != ref.rows_digest:
        raise BankStale(f"the reference of {model} on {data} names a bank of other rows; fix it with: {command}")
    return bank


def rows_of(bank: Bank | Sequence[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """Row numbers i[m] of `ids` in a bank (or in a sequence of ids): the only join.

    Ids are compared as their 16 packed bytes. IdMismatch names the first id that the bank lacks, and its position.
    """
    there = bank.packed_ids if isinstance(bank, Bank) else pack_ids(bank)
    wanted = pack_ids(ids)
    if np.array_equal(there, wanted):
        return np.arange(len(wanted), dtype=np.int64)
    rows = {raw.tobytes(): row for row, raw in enumerate(there)}
    out = np.empty(len(wanted), np.int64)
    for position, raw in enumerate(wanted):
        row = rows.get(raw.tobytes())
        if row is None:
            name = f"bank {bank.key[:12]}" if isinstance(bank, Bank) else "the other table"
            raise IdMismatch(
                f"id {ids[position]} (position {position} of {len(ids)}) is not among the {len(there)} rows of {name}; "
                "extract every model on the same data"
            )
        out[position] = row
    return out


def verify_bank(bank: Bank | str, *, deep: bool = False, cache: str | Path | None = None) -> int:
    """Check every chunk's crc32c, with `deep` the sha256 of every file too; returns the bytes of data that were read.

    A `Bank` is opened anew, so that its records are checked as they are now. Damaged names the first deviation.
    """
    if isinstance(bank, Bank):
        cache = bank.folder.parents[2]
        return open_key(bank.key, cache=cache).check(deep=deep)
    return open_key(bank, cache=cache).check(deep=deep)


def _open_part(folder: Path, part: int, rows: int) -> Part:
    path = layout.commit_file(folder, part)
    start, stop = layout.row_range(part, rows)
    try:
        commit = Commit.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
        if (commit.key, commit.start, commit.stop) != (folder.name, start, stop):
            raise Bad("it is the record of other rows or another bank")
    except (Bad, OSError, NewerFormat) as error:
        raise _record_error(path, error, f" (rows {start}-{stop - 1})") from None
    inside = layout.parts_dir(folder) / commit.directory
    try:
        return Part(commit=commit, arrays=read_meta(inside, commit))
    except Bad as bad:
        where = inside / bad.name if isinstance(bad, BadFile) else path
        raise Damaged(f"{where}: {bad} (rows {start}-{stop - 1}); {how_to_fix(folder)}") from None


def read_ingredients(folder: Path) -> dict[str, Any]:
    """What the key of a bank is made of, complete or not; `Damaged` when its `key.json` is not the key's."""
    path = layout.key_file(folder)
    try:
        data = files.read_regular(path, limit=layout.MAX_RECORD)
        if digest_bytes(data) != folder.name:
            raise Bad("its sha256 is not the key")
        record = parse_object(data)
        check_format(record)
    except (Bad, OSError, NewerFormat) as error:
        raise _record_error(path, error) from None
    return {name: value for name, value in record.items() if name != "format"}


def _record_error(path: Path, error: Exception, rows: str = "") -> CacheError:
    folder = path.parent if path.name in ("key.json", "complete.json") else path.parent.parent
    if isinstance(error, NewerFormat):
        return NewerFormat(f"{path}: {error}")
    if isinstance(error, PermissionError):
        return CacheError(f"{path} may not be read; give yourself read permission")
    if isinstance(error, FileNotFoundError):
        return Damaged(f"{path}: it is missing{rows}; {how_to_fix(folder)}")
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Damaged(f"{path}: {why}{rows}; {how_to_fix(folder)}")


def iter_commits(bank: Path) -> Iterator[Commit]:
    """The sound commits of a bank, complete or not, in order; damaged ones are left out."""
    for path in sorted(layout.commits_dir(bank).glob("[0-9]*.json")):
        try:
            yield Commit.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
        except (Bad, OSError, NewerFormat):
            continue
