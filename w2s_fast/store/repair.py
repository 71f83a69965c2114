"""Taking damaged parts out of a bank, so that `extract` makes those again and nothing else."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from w2s_fast.core.errors import BankMissing, CacheError, NewerFormat
from w2s_fast.core.hashing import digest_bytes
from w2s_fast.store import files, layout, mirror
from w2s_fast.store.bucket import banks_in, drop_damaged
from w2s_fast.store.part import BadFile, chunk_name, read_meta, sha256_of, verify_chunk
from w2s_fast.store.records import Bad, Commit, Complete, bank_digest, check_format, parse_object

DAMAGED = layout.TMP + "damaged-"
"""How the names of what was taken out begin: it means nothing any more, and `cache gc` removes it."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What was taken out, and why; the `rows` [start, stop) have to be made again, None for a record of no rows."""

    path: Path | str
    """A file, or the name of an object in the bucket."""
    rows: tuple[int, int] | None
    why: str


def repair_bank(key: str, *, failed: bool = False, cache: str | Path | None = None) -> list[Dropped]:
    """Check every byte of a bank, complete or not, and take out what is damaged; the list is empty for a sound bank.

    failed: take out sound parts with unreadable images too, for when those were fixed. What is taken out is renamed
    to `.tmp-damaged-...` beside its place. A crash in between leaves an incomplete bank that can be repaired again.
    BankMissing without the bank, NewerFormat (and nothing is touched) for a later one, CacheError where files may not
    be read or renamed.
    """
    folder = layout.bank_dir(cache, key)
    objects = mirror.bucket_of(folder.parents[2])
    if not folder.is_dir() and (objects is None or key not in banks_in(objects)):
        raise BankMissing(f"no bank {key[:12]} in {layout.store_root(cache)}; list them with: w2s-fast cache ls")
    try:
        dropped = _repair(folder, failed=failed)
        if objects is not None:
            dropped += [Dropped(path=n, rows=r, why=w) for n, r, w in drop_damaged(objects, key, failed=failed)]
            # a part that is sound on one of the two sides need not be made again
            mirror.pull_file(layout.key_file(folder), folder.parents[2])
            mirror.agree(folder)
            if dropped and layout.complete_file(folder).exists():
                dropped += _drop(layout.complete_file(folder), None, "its parts were damaged in the bucket")
        return dropped
    except OSError as error:
        raise CacheError(
            f"{error.filename or folder}: {error.strerror or error}; permit reading and writing, and repair again"
        ) from error


def _repair(folder: Path, *, failed: bool) -> list[Dropped]:
    bad_key = _bad_key(layout.key_file(folder))
    complete, bad_complete = _complete(layout.complete_file(folder), folder.name)
    sound: list[Commit] = []
    bad: list[tuple[int, Commit | None, str]] = []
    for path in sorted(layout.commits_dir(folder).glob("[0-9]*.json")):
        if not path.stem.isdecimal() or int(path.stem) >= layout.MAX_PARTS:
            continue
        part = int(path.stem)
        try:
            commit = Commit.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
            if (commit.key, commit.part) != (folder.name, part):
                raise Bad("it is the record of other rows or another bank")
        except (Bad, OSError) as error:
            bad.append((part, None, _told(path, error)))
            continue
        except NewerFormat as newer:
            raise NewerFormat(f"{path}: {newer}") from None
        why = _why_bad(folder, commit, complete)
        if why is None and failed and commit.failures:
            why = f"{len(commit.failures)} of its images were unreadable"
        bad.append((part, commit, why)) if why else sound.append(commit)

    if complete is not None and bad_complete is None:
        whole = [(c.start, c.stop) for c in sound] == [
            layout.row_range(p, complete.rows) for p in range(layout.count_parts(complete.rows))
        ]
        if not whole or bank_digest(sound) != complete.digest:
            bad_complete = "the parts are not those of the completed bank"

    dropped: list[Dropped] = []
    # From the statement about the whole down to the bytes: whatever is left after a crash says nothing that is not so.
    if bad_complete:
        dropped += _drop(layout.complete_file(folder), None, bad_complete)
    if bad_key:
        dropped += _drop(layout.key_file(folder), None, bad_key)
    for part, commit, why in bad:
        start = part * layout.PART_ROWS
        stop = commit.stop if commit else min(start + layout.PART_ROWS, complete.rows if complete else 1 << 62)
        dropped += _drop(layout.commit_file(folder, part), (start, stop), why)
        if commit is not None:
            _drop(layout.parts_dir(folder) / commit.directory, (start, stop), why)
    return dropped


def _why_bad(folder: Path, commit: Commit, complete: Complete | None) -> str | None:
    """What is wrong with a part, down to its last byte, or None."""
    inside = layout.parts_dir(folder) / commit.directory
    if complete is not None and commit.part < layout.count_parts(complete.rows):
        start, stop = layout.row_range(commit.part, complete.rows)
        if commit.stop != stop:
            return f"{layout.commit_file(folder, commit.part)}: its rows are not [{start}, {stop})"
    try:
        for meta in read_meta(inside, commit).values():
            verify_chunk(inside, meta, commit.files[chunk_name(meta.name)])
        for name, entry in commit.files.items():
            sha256_of(inside, name, entry)
    except BadFile as bad:
        return f"{inside / bad.name}: {bad}"
    except Bad as bad:
        return f"{layout.commit_file(folder, commit.part)}: {bad}"
    return None


def _bad_key(path: Path) -> str | None:
    try:
        data = files.read_regular(path, limit=layout.MAX_RECORD)
        if digest_bytes(data) != path.parent.name:
            raise Bad("its sha256 is not the key")
        check_format(parse_object(data))
    except FileNotFoundError:
        return None
    except NewerFormat as newer:
        raise NewerFormat(f"{path}: {newer}") from None
    except (Bad, OSError) as error:
        return _told(path, error)
    return None


def _complete(path: Path, key: str) -> tuple[Complete | None, str | None]:
    """The completion record if it can be read, and what is wrong with it."""
    try:
        record = Complete.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
        return record, None if record.key == key else f"{path}: it is the record of another bank"
    except FileNotFoundError:
        return None, None
    except NewerFormat as newer:
        raise NewerFormat(f"{path}: {newer}") from None
    except (Bad, OSError) as error:
        return None, _told(path, error)


def _told(path: Path, error: Exception) -> str:
    """The reason in words; what may not be read is not damage, and is raised."""
    if isinstance(error, PermissionError):
        raise CacheError(f"{path} may not be read; give yourself read permission") from None
    return f"{path}: {(error.strerror if isinstance(error, OSError) else None) or error}"


def _drop(path: Path, rows: tuple[int, int] | None, why: str) -> list[Dropped]:
    if not os.path.lexists(path):
        return []
    aside = path.with_name(f"{DAMAGED}{files.nonce()}-{path.name}")
    files.rename(path, aside)
    with suppress(OSError):
        os.utime(aside, follow_symlinks=False)  # it ages from now on, so that gc leaves a day to look at it
    files.sync_dir(path.parent)
    return [Dropped(path=path, rows=rows, why=why)]
