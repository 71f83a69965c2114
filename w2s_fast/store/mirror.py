"""A folder that mirrors a bucket: banks are written and read in the folder, and agree with the bucket in between.

In the bucket every file has the name that it has below the cache folder: a bucket is a cache of the same format.
The bucket is right wherever the two differ in a part: its commit came first.
"""

from __future__ import annotations

import re
from pathlib import Path

from w2s_fast.core.errors import CacheError, Damaged, NewerFormat
from w2s_fast.core.hashing import digest_bytes
from w2s_fast.core.paths import mirrored
from w2s_fast.store import files, layout
from w2s_fast.store.objects import Objects, open_objects
from w2s_fast.store.part import CRC_BYTES, file_names
from w2s_fast.store.records import Bad, Commit
from w2s_fast.store.state import bytes_or_none, usable

_COMMIT = re.compile(r".*/commits/(\d{6})\.json")
_LARGEST = layout.PART_ROWS * layout.MAX_WIDTH * 4 + CRC_BYTES


def bucket_of(root: Path) -> Objects | None:
    """The store that a cache folder mirrors; None for a folder that is a cache of its own."""
    url = mirrored(root)
    return None if url is None else open_objects(url)


def push_file(path: Path, root: Path, *, replace: bool = False) -> None:
    """Put a record of the mirror into its bucket, unless it is there; nothing for a plain cache."""
    objects = bucket_of(root)
    if objects is not None:
        objects.put(_name(path, root), files.read_regular(path, limit=layout.MAX_RECORD), replace=replace)


def pull_file(path: Path, root: Path) -> None:
    """Fetch a record that the mirror lacks; nothing for a plain cache, or if the bucket lacks it too."""
    objects = bucket_of(root)
    if objects is None or path.exists():
        return
    try:
        data = objects.get(_name(path, root), limit=layout.MAX_RECORD)
    except FileNotFoundError:
        return
    _place(path, data)


def pull_bank(bank: Path) -> None:
    """Make a mirrored bank what its bucket has, `complete.json` last; what is the same is not fetched."""
    root = bank.parents[2]
    objects = bucket_of(root)
    if objects is None:
        return
    done = layout.complete_file(bank)
    try:
        complete = objects.get(_name(done, root), limit=layout.MAX_RECORD)
    except FileNotFoundError:
        complete = None
    here = bytes_or_none(done)
    if complete is not None and complete == here and bytes_or_none(layout.key_file(bank)) is not None:
        return
    if here is not None:
        files.unlink(done)
    pull_file(layout.key_file(bank), root)
    if not layout.key_file(bank).exists():
        return
    agree(bank)
    if complete is not None:
        _place(done, complete)


def agree(bank: Path, part: int | None = None) -> bool:
    """For every part (or one): take the bucket's if it has one, else give it the mirror's. False without a bucket."""
    root = bank.parents[2]
    objects = bucket_of(root)
    if objects is None:
        return False
    names = (one.name for one in objects.list(_name(layout.commits_dir(bank), root)))
    there = {int(match[1]) for match in map(_COMMIT.fullmatch, names) if match}
    here = {int(p.stem) for p in layout.commits_dir(bank).glob("[0-9]" * 6 + ".json")}
    for one in sorted(there | here) if part is None else [part]:
        if one not in there or not _pulled(objects, bank, one):
            _push_part(objects, bank, one, again=one in there)
    return True


def _pulled(objects: Objects, bank: Path, part: int) -> bool:
    """Whether the mirror now holds the bucket's part; False when that is damaged there."""
    root, path = bank.parents[2], layout.commit_file(bank, part)
    try:
        data = objects.get(_name(path, root), limit=layout.MAX_RECORD)
        commit = Commit.from_bytes(data)
        if (commit.key, commit.part) != (bank.name, part):
            raise Bad("it is the record of other rows or another bank")
        if bytes_or_none(path) == data and usable(bank, part, commit.stop) is not None:
            return True
        if set(commit.files) not in (file_names(logits=True), file_names(logits=False)):
            raise Bad("it does not name exactly the files of a part")
        folder = layout.parts_dir(bank) / commit.directory
        contents: dict[str, tuple[bytes]] = {}
        for name, entry in commit.files.items():
            got = objects.get(_name(folder / name, root), limit=min(entry.bytes, _LARGEST))
            if (len(got), digest_bytes(got)) != (entry.bytes, entry.sha256):
                raise Bad(f"{name} is not what was committed")
            contents[name] = (got,)
    except (Bad, FileNotFoundError):
        return False
    except NewerFormat as newer:
        raise NewerFormat(f"{_name(path, root)} in {mirrored(root)}: {newer}") from None
    for inner in (layout.parts_dir(bank), layout.commits_dir(bank)):
        files.make_dirs(inner)
    tmp = layout.parts_dir(bank) / (layout.TMP + files.nonce())
    files.put_tree(tmp, contents)
    if folder.exists():
        files.remove_tree(folder)
    files.rename(tmp, folder)
    files.sync_dir(folder.parent)
    files.put(path, data)
    return True


def _push_part(objects: Objects, bank: Path, part: int, *, again: bool) -> None:
    """Give the bucket a part of the mirror, its commit last; when another's came first, that one is taken instead.

    again: the bucket's part is damaged. Names are of one attempt each, so that the same one can only be written anew.
    """
    root, path = bank.parents[2], layout.commit_file(bank, part)
    data = bytes_or_none(path)
    if data is None:
        return
    try:
        commit = Commit.from_bytes(data)
    except Bad:
        return  # a later extract replaces it
    folder = layout.parts_dir(bank) / commit.directory
    for name, entry in commit.files.items():
        got = files.read_regular(folder / name, limit=_LARGEST)
        if (len(got), digest_bytes(got)) != (entry.bytes, entry.sha256):
            raise Damaged(
                f"{folder / name}: its bytes do not match the committed sha256 "
                f"(rows {commit.start}-{commit.stop - 1}); fix with: w2s-fast cache repair {bank.name}"
            )
        if not objects.put(_name(folder / name, root), got, replace=again):
            objects.put(_name(folder / name, root), got, replace=True)  # nobody else has the name: it was cut short
    if not objects.put(_name(path, root), data) and not _pulled(objects, bank, part):
        objects.put(_name(path, root), data, replace=True)


def _place(path: Path, data: bytes) -> None:
    try:
        files.make_dirs(path.parent)
        files.put(path, data)
    except OSError as error:
        raise CacheError(f"{error.filename or path} cannot be written ({error.strerror or error})") from error


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
