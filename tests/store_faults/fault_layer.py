"""A layer between the store's writers and the disk: it counts, records and ends them at any file operation.

The writers change the disk through nine functions at the head of `w2s_fast/store/files.py`. Inside `with Layer(fate):`
each call first asks `fate(number, name)`, which answers None (go on), one of the ends below, or an errno.

* BEFORE: the process is gone before the operation. TORN: a write reaches the disk with half of its bytes, any other
  operation not at all. AFTER: gone when it is done, and the caller never learns. From then on nothing that the
  writer does reaches the disk, whatever its `except` and `finally` try, as if the process were gone.
* an errno: the operation fails as the system would let it fail (without a file name for a descriptor), a write with
  half of its bytes on the disk, and the writer lives.

A kill loses nothing that was written, so `fsync` is recorded and not done; what it is good for is `power_model.py`'s.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2s_fast.store import files

OPERATIONS = ("open_file", "write", "fsync", "close", "rename", "link", "unlink", "mkdir", "rmdir")
BEFORE, TORN, AFTER = "before", "torn", "after"


class Killed(BaseException):
    """The writer is gone."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation that was done, or (`name` = "report") what the writer told its caller at this point."""

    name: str
    path: Path
    target: Path | None = None
    handle: int = -1
    """Which opening a descriptor belongs to: the system uses numbers again."""
    data: bytes = b""
    creates: bool = False


class Layer:
    """See the module. `log` holds the operations that were done, in order."""

    def __init__(self, fate: Callable[[int, str], str | int | None] = lambda at, name: None) -> None:
        self.fate = fate
        self.log: list[Operation] = []
        self.asked: list[str] = []
        """The names of all operations that were called, done or not."""
        self.dead = False
        self._handles: dict[int, tuple[int, Path]] = {}
        self._opened = 0
        self._real: dict[str, Callable[..., Any]] = {}
        self._one = threading.Lock()

    def __enter__(self) -> Layer:
        self._real = {name: getattr(files, name) for name in OPERATIONS}
        for name in OPERATIONS:
            setattr(files, name, self._instead_of(name))
        return self

    def __exit__(self, *error: object) -> None:
        for name, real in self._real.items():
            setattr(files, name, real)
        for fd in self._handles:
            os.close(fd)

    def report(self, what: str) -> None:
        self.log.append(Operation(name="report", path=Path(what)))

    def _instead_of(self, name: str) -> Callable[..., Any]:
        def operation(first: Any, second: Any = None, mode: int = 0o644) -> Any:
            with self._one:
                if self.dead:
                    raise Killed
                number = len(self.asked)
                self.asked.append(name)
            end = self.fate(number, name)
            if end is not None and end != AFTER:
                if name == "write" and end != BEFORE and len(second) > 1:
                    self._do(name, first, second[: len(second) // 2], mode)
                self.dead = isinstance(end, str)
                if isinstance(end, str):
                    raise Killed
                where = () if isinstance(first, int) else (str(first),)
                raise OSError(end, os.strerror(end), *where)
            try:
                return self._do(name, first, second, mode)
            finally:
                if end == AFTER:
                    self.dead = True
                    raise Killed

        return operation

    def _do(self, name: str, first: Any, second: Any, mode: int) -> Any:
        if name == "open_file":
            fd = self._real[name](first, second, mode)
            self._handles[fd] = (self._opened, Path(first))
            self._note(name, Path(first), handle=self._opened, creates=bool(second & os.O_CREAT))
            self._opened += 1
            return fd
        if isinstance(first, int):
            handle, path = self._handles[first]
            if name == "close":
                del self._handles[first]
            count = None if name == "fsync" else self._real[name](*((first, second) if name == "write" else (first,)))
            self._note(name, path, handle=handle, data=bytes(second[:count]) if name == "write" else b"")
            return count
        self._real[name](*((first,) if second is None else (first, second)))
        self._note(name, Path(first), target=None if second is None else Path(second))
        return None

    def _note(self, name: str, path: Path, **more: Any) -> None:
        self.log.append(Operation(name=name, path=path, **more))


def end_at(at: int, how: str | int, *, lasting: bool = False) -> Callable[[int, str], str | int | None]:
    """The fate of a writer whose `at`-th operation ends so; `lasting`: and so do all later ones that need space."""
    needing = ("open_file", "write", "link", "mkdir", "rename", "fsync")

    def fate(number: int, name: str) -> str | int | None:
        return how if number == at or (lasting and number > at and name in needing) else None

    return fate
