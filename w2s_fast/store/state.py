"""What is there already of a bank, whoever wrote it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from w2s_fast.core.errors import CacheError, NewerFormat
from w2s_fast.store import files, layout
from w2s_fast.store.part import file_names
from w2s_fast.store.records import Bad, Commit


def usable(bank: Path, part: int, stop: int) -> Commit | None:
    """The commit of a part that need not be written again; a later format is never written over."""
    path = layout.commit_file(bank, part)
    try:
        commit = Commit.from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
        folder = layout.parts_dir(bank) / commit.directory
        whole = set(commit.files) in (file_names(logits=True), file_names(logits=False)) and all(
            os.stat(folder / name).st_size == f.bytes  # noqa: PTH116
            for name, f in commit.files.items()
        )
    except Bad:
        return None
    except NewerFormat as newer:
        raise NewerFormat(f"{path}: {newer}") from None
    except PermissionError as error:
        raise CacheError(f"{error.filename} may not be read; give yourself read permission") from None
    except OSError:
        return None
    return commit if whole and (commit.key, commit.part, commit.stop) == (bank.name, part, stop) else None


def bytes_or_none(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return files.read_regular(path, limit=layout.MAX_RECORD)
    return None
