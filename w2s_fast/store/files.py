"""Durable file operations: everything that the store writes goes through here, whole or not at all.

The first nine functions (`open_file` to `rmdir`) are the only ones by which any writer of the store touches the disk,
always called by their names in this module: a test that replaces one sees, or fails, every such operation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from w2s_fast.store.layout import TMP

SYNCERS: int = 4
"""Threads that sync a part's files at once: a journal makes many of them durable in one go, if it is asked in one."""

_NO_SYNC = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def open_file(path: Path, flags: int, mode: int = 0o644) -> int:
    """A new descriptor, closed on exec; to write a file, or to sync a folder."""
    return os.open(path, flags | os.O_CLOEXEC, mode)


def write(fd: int, data: memoryview) -> int:
    """Write some of `data`, at least one byte, and say how many."""
    return os.write(fd, data)


def fsync(fd: int) -> None:
    os.fsync(fd)


def close(fd: int) -> None:
    os.close(fd)


def rename(source: Path, target: Path) -> None:
    """Atomic; a file that has the target's name is replaced."""
    os.replace(source, target)  # noqa: PTH105 - pathlib would hide the call that the fault tests cut


def link(source: Path, target: Path) -> None:
    """Atomic; FileExistsError when the target's name is taken."""
    os.link(source, target)


def unlink(path: Path) -> None:
    os.unlink(path)  # noqa: PTH108


def mkdir(folder: Path) -> None:
    os.mkdir(folder)  # noqa: PTH102


def rmdir(folder: Path) -> None:
    os.rmdir(folder)  # noqa: PTH106


def nonce() -> str:
    """16 hex digits that no other attempt shares."""
    return secrets.token_hex(8)


def sync_dir(folder: Path) -> None:
    """Make the names in a folder durable: without it a power cut can forget a rename that a reader has seen."""
    _sync_and_close(open_file(folder, os.O_RDONLY | os.O_DIRECTORY))


def settle(folder: Path) -> None:
    """Make names durable that are there already: whoever made them may have been killed before they were.

    A folder that this process may not sync, as in a read-only cache, is left to those who may.
    """
    try:
        sync_dir(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def make_dirs(folder: Path) -> None:
    """Create a folder and its missing parents durably; an existing one costs no write."""
    if folder.is_dir():
        settle(folder.parent)
        return
    if folder.parent != folder:
        make_dirs(folder.parent)
    with contextlib.suppress(FileExistsError):
        mkdir(folder)
    sync_dir(folder.parent)


def put_tree(
    folder: Path, contents: dict[str, tuple[Any, ...]], *, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Create a folder of durable files, relative name -> buffers one after another; its own name is not.

    All files and folders are synced before this returns, several at once and in no order: only when all are does
    anything refer to them. The largest file is written first, to be on its way while the others are; `meanwhile` is
    called when all of them are written.
    """
    folders = {folder}
    for name in contents:
        folders.update(folder / parent for parent in Path(name).parents)
    for one in sorted(folders):
        mkdir(one)
    with _syncing() as sync:
        for name in sorted(contents, key=lambda name: -_length(contents[name])):
            fd = open_file(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                _write_all(fd, contents[name])
            except BaseException:
                close(fd)
                raise
            sync(fd)
        for one in sorted(folders, reverse=True):
            sync(open_file(one, os.O_RDONLY | os.O_DIRECTORY))
        meanwhile()


@contextlib.contextmanager
def _syncing() -> Generator[Callable[[int], None]]:
    """A function that has a descriptor synced and closed by another thread; all are when the block ends."""
    if SYNCERS == 1:
        yield _sync_and_close
        return
    with ThreadPoolExecutor(SYNCERS) as pool:
        begun: list[Future[None]] = []
        yield lambda fd: begun.append(pool.submit(_sync_and_close, fd))
        for one in begun:
            one.result()


def _sync_and_close(fd: int) -> None:
    try:
        fsync(fd)
    finally:
        close(fd)


def _length(buffers: tuple[Any, ...]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in buffers)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, following no symbolic link; what is gone already is passed over."""
    for here, folders, names in os.walk(folder, topdown=False):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                unlink(Path(here, name))
        for name in folders:
            with contextlib.suppress(FileNotFoundError):
                inner = Path(here, name)
                unlink(inner) if inner.is_symlink() else rmdir(inner)
    with contextlib.suppress(FileNotFoundError):
        rmdir(folder)


def put_new(path: Path, data: bytes) -> bool:
    """Create a file with these bytes unless the name is taken; False if it is. Readers see all or nothing.

    Either way the name is durable, also when another writer took it.
    """
    tmp = _write_beside(path, data)
    try:
        link(tmp, path)
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: the name is claimed first and filled after, so a crash can leave a torn
        # record. Its seal shows that, and the next writer replaces it.
        made = _write_exclusive(path, (data,))
    finally:
        with contextlib.suppress(OSError):
            unlink(tmp)
    sync_dir(path.parent)
    return made


def put(path: Path, data: bytes) -> None:
    """Create or replace a file; readers see the old bytes or the new ones."""
    tmp = _write_beside(path, data)
    try:
        rename(tmp, path)
    except OSError:
        with contextlib.suppress(OSError):
            unlink(tmp)
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
        if not _write_exclusive(tmp, (data,)):
            raise FileExistsError(errno.EEXIST, "already exists", str(tmp))
    except OSError:
        with contextlib.suppress(OSError):
            unlink(tmp)
        raise
    return tmp


def _write_exclusive(path: Path, buffers: Iterable[Any]) -> bool:
    try:
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        _write_all(fd, buffers)
        fsync(fd)
    finally:
        close(fd)
    return True


def _write_all(fd: int, buffers: Iterable[Any]) -> None:
    for data in buffers:
        view = memoryview(cast("bytes", data))
        while view:
            view = view[write(fd, view) :]
