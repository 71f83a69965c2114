"""Durable file operations: everything that the store writes goes through here, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from w2s_fast.store.layout import TMP

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def nonce() -> str:
    """16 hex digits that no other attempt shares."""
    return secrets.token_hex(8)


def sync_dir(folder: Path) -> None:
    """Make the names in a folder durable: without it a power cut can forget a rename that a reader has seen."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Make every file and name below a folder durable, inner ones first."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            fd = os.open(Path(here, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_dir(Path(here))


def make_dirs(folder: Path) -> None:
    """Create a folder and its missing parents durably; an existing one costs no write."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_dirs(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_dir(folder.parent)


def put_new(path: Path, data: bytes) -> bool:
    """Create a file with these bytes unless the name is taken; False if it is. Readers see all or nothing."""
    tmp = _write_beside(path, data)
    try:
        os.link(tmp, path)
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: the name is claimed first and filled after, so a crash can leave a torn
        # record. Its seal shows that, and the next writer replaces it.
        made = _write_exclusive(path, data)
    finally:
        with contextlib.suppress(OSError):
            tmp.unlink()
    if made:
        sync_dir(path.parent)
    return made


def put(path: Path, data: bytes) -> None:
    """Create or replace a file; readers see the old bytes or the new ones."""
    tmp = _write_beside(path, data)
    try:
        os.replace(tmp, path)  # noqa: PTH105 - os.* is the one seam that the fault tests cut
    except OSError:
        with contextlib.suppress(OSError):
            tmp.unlink()
        raise
    sync_dir(path.parent)


def read_regular(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; anything else is an OSError, and nothing blocks."""
    fd = open_regular(path)
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"holds {size} bytes, more than {limit}", str(path))
        return file.read(limit + 1)[: limit + 1]


def open_regular(path: Path) -> int:
    """A descriptor for reading a regular file; pipes and devices are refused without waiting for a writer."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return fd


def _write_beside(path: Path, data: bytes) -> Path:
    tmp = path.with_name(TMP + nonce())
    try:
        if not _write_exclusive(tmp, data):
            raise FileExistsError(errno.EEXIST, "already exists", str(tmp))
    except OSError:
        with contextlib.suppress(OSError):
            tmp.unlink()
        raise
    return tmp


def _write_exclusive(path: Path, data: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    return True
