"""Writing a bank: begin, write immutable parts in any order and from any number of processes, complete.

Nothing here takes a lock. A part is computed into a folder of its own and only then named by a record that at most one
writer can create, so two writers can do the same work twice, but never harm each other's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import CacheError
from w2s_fast.core.hashing import digest_bytes, digest_ids
from w2s_fast.store import files, layout, mirror
from w2s_fast.store.checks import check_numbers, checked_arrays, checked_failures, checked_ids
from w2s_fast.store.keys import key_bytes, plain
from w2s_fast.store.part import BadFile, chunk_name, read_chunk, read_meta, spelled
from w2s_fast.store.publish import publish_part
from w2s_fast.store.records import Bad, Commit, Complete, bank_digest
from w2s_fast.store.state import bytes_or_none, usable


def begin_bank(cache: str | Path | None, ingredients: Mapping[str, Any]) -> Path:
    """Create the folder of the bank with these key ingredients, and return it; on an existing one nothing is written.

    UsageError for ingredients that are not JSON; CacheError where the cache cannot be written.
    """
    data = key_bytes(ingredients)
    bank = layout.bank_dir(cache, digest_bytes(data))
    with _writing(bank):
        folders = (layout.parts_dir(bank), layout.commits_dir(bank))
        for folder in folders:
            files.make_dirs(folder)
        key_file = layout.key_file(bank)
        # A key.json with other bytes than its own folder's name says is damaged, and these are the right ones.
        if bytes_or_none(key_file) != data and not files.put_new(key_file, data) and bytes_or_none(key_file) != data:
            files.put(key_file, data)
        mirror.push_file(key_file, bank.parents[2])
    return bank


def missing_parts(bank_dir: str | Path, rows: int) -> list[int]:
    """The parts of a bank of `rows` rows that still have to be written.

    A part is there when its commit record is sound and names the expected rows, and every file that it names has its
    size; contents are checked on reading, or by `verify_bank`.
    """
    return [part for part, commit in enumerate(_there(Path(bank_dir), rows)) if commit is None]


def write_part(
    bank_dir: str | Path,
    part: int,
    *,
    ids: Sequence[str],
    features: NDArray[Any],
    norms: NDArray[np.float32],
    ok: NDArray[np.bool_],
    logits: NDArray[Any] | None = None,
    failures: Sequence[Mapping[str, Any]] = (),
    stored: Literal["f16", "f32"] = "f16",
    producer: Mapping[str, Any] | None = None,
) -> None:
    """Store rows [part * PART_ROWS, + n) for good; a part that somebody else has committed meanwhile is left as it is.

    ids: n texts. features f[n, d] and logits f[n, k]: float16 or float32, finite where `ok`; norms f32[n]: the
    features' L2 norms. Rows that are not ok are stored as zeros and need one failure each: {id, row, reason}, `row`
    being the row's number in the bank. stored: the type asked for; an array that float16 cannot hold is stored as
    float32 in this part. producer: provenance in JSON types. UsageError for arguments that do not fit each other,
    DataError for numbers that are not finite, CacheError when the disk refuses.
    """
    bank = Path(bank_dir)
    texts = checked_ids(ids)
    start = part * layout.PART_ROWS
    stop = start + len(texts)
    arrays = checked_arrays(texts, start, features=features, logits=logits, norms=norms, ok=ok, stored=stored)
    listed = checked_failures(failures, texts, start, arrays["ok"])
    provenance = plain(dict(producer or {}), "producer")
    digest = digest_ids(texts)
    with _writing(bank):
        if not layout.key_file(bank).is_file():
            raise CacheError(f"{bank} is not a bank (no key.json); create it with begin_bank")
        there = usable(bank, part, stop)
        if there is None:
            directory, entries = publish_part(bank, part, arrays, check=lambda: check_numbers(arrays, texts, start))
            commit = Commit(
                key=bank.name,
                part=part,
                start=start,
                stop=stop,
                directory=directory,
                files=entries,
                ids_digest=digest,
                named=_named(texts, spelled(arrays["ids"])),
                failures=listed,
                producer=provenance,
            )
            there = _commit(bank, commit)
            if there.directory != directory:
                with suppress(OSError):
                    files.remove_tree(layout.parts_dir(bank) / directory)
        else:
            files.settle(layout.commits_dir(bank))
        if mirror.agree(bank, part):
            there = usable(bank, part, stop) or there
    if there.ids_digest != digest:
        raise CacheError(
            f"part {part} of bank {bank.name[:12]} was committed with other ids; remove {bank} and redo it"
        )


def complete_bank(bank_dir: str | Path, *, rows: int, rows_digest: str) -> str:
    """State that the bank is whole, and return its digest; the last step, after which it can be opened.

    rows_digest: `core.hashing.digest_ids` of all ids in order, which must be those that the parts hold. CacheError
    when parts are missing or do not fit each other.
    """
    bank = Path(bank_dir)
    short = bank.name[:12]
    there = _there(bank, rows)
    commits = [commit for commit in there if commit is not None]
    if len(commits) < len(there):
        raise CacheError(
            f"bank {short}: {len(there) - len(commits)} of {len(there)} parts are missing, "
            f"the first is part {there.index(None)}; run the same extract command again"
        )
    packed: list[NDArray[np.uint8]] = []
    widths: set[tuple[int, int | None]] = set()
    whole = hashlib.sha256()
    for part, commit in enumerate(commits):
        folder = layout.parts_dir(bank) / commit.directory
        try:
            metas = read_meta(folder, commit)
            raw = np.empty(metas["ids"].shape, np.uint8)
            read_chunk(folder, metas["ids"], commit.files[chunk_name("ids")], raw)
        except Bad as bad:
            name = bad.name if isinstance(bad, BadFile) else layout.commit_file(bank, part).name
            raise CacheError(
                f"{folder / name}: {bad}; remove {folder} and run the same extract command again"
            ) from None
        texts = spelled(raw)
        for row, text in commit.named.items():
            texts[row] = text
        whole.update("\n".join([*texts, ""]).encode())
        packed.append(raw)
        widths.add((metas["features"].shape[1], metas["logits"].shape[1] if "logits" in metas else None))
    if len(widths) > 1:
        raise CacheError(
            f"bank {short}: its parts have features and logits of widths {sorted(map(str, widths))}; remove {bank}"
        )
    if whole.hexdigest() != rows_digest:
        raise CacheError(
            f"bank {short}: its ids are not those of rows_digest {rows_digest[:12]}; remove {bank} and redo it"
        )
    low, high = np.concatenate(packed).view("<u8").T
    if not np.diff(np.sort(low)).all():
        order = np.lexsort((low, high))
        if ((np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)).any():
            raise CacheError(f"bank {short}: an id occurs twice; number repetitions (core.hashing.number_repeats)")
    failures = tuple(f for c in commits for f in c.failures)
    digest = bank_digest(commits)
    record = Complete(
        key=bank.name,
        rows=rows,
        dim=next(iter(widths))[0],
        rows_digest=rows_digest,
        digest=digest,
        failed=len(failures),
        failures=failures,
    ).to_bytes()
    with _writing(bank):
        files.settle(layout.commits_dir(bank))
        files.settle(bank)
        if bytes_or_none(layout.complete_file(bank)) != record:
            files.put(layout.complete_file(bank), record)
        # the parts agree since `missing_parts`, so that another writer's record says the same
        mirror.push_file(layout.complete_file(bank), bank.parents[2], replace=True)
    return digest


def _there(bank: Path, rows: int) -> list[Commit | None]:
    """The sound commit of each part of a bank of `rows` rows, None where there is none."""
    if rows < 1:
        raise CacheError(f"bank {bank.name[:12]}: {rows} rows; a bank holds at least one row, so check the data set")
    with _writing(bank):
        mirror.agree(bank)
    return [usable(bank, part, layout.row_range(part, rows)[1]) for part in range(layout.count_parts(rows))]


def _commit(bank: Path, commit: Commit) -> Commit:
    """Create the record, or return the sound one that somebody else created first."""
    path = layout.commit_file(bank, commit.part)
    try:
        data = commit.to_bytes()
    except Bad as bad:
        raise CacheError(f"{path}: {bad}; shorten the ids, failure reasons or producer") from None
    if not files.put_new(path, data):
        there = usable(bank, commit.part, commit.stop)
        if there is not None:
            return there
        files.put(path, data)  # torn or damaged, or its part is: nobody can want it
    return commit


def _named(texts: list[str], own: list[str]) -> dict[int, str]:
    if texts == own:
        return {}
    return {i: text for i, text in enumerate(texts) if text != own[i]}


@contextmanager
def _writing(bank: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or bank
        raise CacheError(
            f"{where} cannot be written ({error.strerror or error}); free space or permit writing, or name another "
            "cache with W2S_FAST_CACHE, and run the same command again: it resumes"
        ) from error
