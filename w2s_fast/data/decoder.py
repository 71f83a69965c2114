"""Images decoded by a process of their own, so that one that breaks its decoder breaks nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data.decode import MAX_BYTES, MEMORY
from w2s_fast.data.decoder_process import (
    NEXT,
    NO_MEMORY,
    OK,
    READY,
    REPLY,
    REQUEST,
    ROOM,
    SHARED,
    UNREADABLE,
    strips,
)

if TYPE_CHECKING:
    from PIL.Image import Image

TRIES = 2
"""Processes that an image must end before it is taken for the cause: one may have been killed for other reasons."""
_PIPE = 1 << 20
_MOST_PIXELS = MEMORY // 8
_MOST_TEXT = 1 << 16
_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",  # each thread of numpy's would reserve memory
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),  # what is large goes back to the system at once, and is not kept in pieces
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}
_CODE = "import sys; sys.path[:] = sys.argv[2:]; from w2s_fast.data.decoder_process import main; main()"


class Decoder:
    """Decodes images in another process, which is started when first asked, and again after an image has ended it.

    That process may take `MEMORY` + `MAX_BYTES` more memory than it has, so that it stays below 1 GB; it knows no torch
    and no model, and cannot write files. Not for several threads at a time; a fork of this process starts its own.
    """

    def __init__(self) -> None:
        self._process: _Process | None = None
        self._owner = 0
        self._sent: tuple[bytes, str | Path] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_process": None, "_owner": 0, "_sent": None}

    def decode(self, content: bytes, *, path: str | Path) -> Image:
        """As `data.decode.decode`; `Unreadable` also for an image that ends the process, or takes too much memory.

        `DataError` when the process cannot be started.
        """
        self.send(content, path=path)
        return self.receive()

    def send(self, content: bytes, *, path: str | Path) -> None:
        """Have an image decoded while this process does something else; `receive` is to follow."""
        if self._process is not None and self._process.busy:
            self.close()  # its answer to what was sent before, and never received, must not be taken for this one's
        self._sent = content, path
        with contextlib.suppress(OSError):  # `receive` finds the process gone, and starts another
            self._started().ask(content, path)

    def receive(self) -> Image:
        """The image that was sent, or what `decode` raises."""
        if self._sent is None:
            raise RuntimeError("no image was sent")
        (content, path), self._sent = self._sent, None
        why = ""
        for left in reversed(range(TRIES)):
            try:
                found = self._started().answer()
            except (OSError, EOFError):
                why = f"ends the process that decodes it ({self._ended()})"
            else:
                if not isinstance(found, int):
                    return found
                self.close()  # it may have kept what it could not use
                why = f"takes more than {(MEMORY + MAX_BYTES) >> 20} MiB to decode"
            if left:
                with contextlib.suppress(OSError):
                    self._started().ask(content, path)
        raise Unreadable(f"the image {path} {why}; replace it")

    def close(self) -> None:
        """End the process, if there is one; a later `decode` starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.end()

    def _started(self) -> _Process:
        if self._process is None or self._owner != os.getpid():
            self._process, self._owner = _Process(), os.getpid()
            weakref.finalize(self, _Process.end, self._process)
        return self._process

    def _ended(self) -> str:
        """How the process came to its end, which it has, or is given."""
        process = self._process
        self.close()
        status = process.status if process is not None else 0
        if status < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-status).name
        return f"status {status}"


class _Process:
    """One process, from its start to its end. Its methods raise OSError or EOFError when it is gone."""

    def __init__(self) -> None:
        self.busy = False
        self._pid = os.getpid()
        with _anonymous() as fd:
            self._shared = mmap.mmap(fd, SHARED)
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-I", "-c", _CODE, str(fd), *sys.path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    pass_fds=[fd],
                    env={**os.environ, **_SETTINGS},
                )
            except OSError as error:
                why = error.strerror or error
                raise DataError(
                    f"no process can be started to decode images ({why}); free memory or processes"
                ) from None
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._in, self._out = self._popen.stdin, self._popen.stdout
        with contextlib.suppress(OSError, AttributeError):  # an image at a time, where the system allows it
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            ready = self._out.read(1) == READY
        except BaseException:  # Ctrl-C
            self.end()
            raise
        if not ready:
            self.end()
            raise DataError(
                f"the process that decodes images ends when it starts (status {self.status}); free memory, and see "
                "what this says: python -c 'import w2s_fast.data.decoder_process'"
            )

    def ask(self, content: bytes, path: str | Path) -> None:
        self.busy = True
        name = os.fsencode(path)
        self._write(REQUEST.pack(len(content), len(name)) + name)
        self._write(content)

    def answer(self) -> Image | int:
        """The image, or NO_MEMORY; `Unreadable` in the words of the process."""
        status, width, height, length = REPLY.unpack(self._read(REPLY.size))
        if status == UNREADABLE and length <= _MOST_TEXT:
            said = self._read(length).decode(errors="surrogateescape")
            self.busy = False
            raise Unreadable(said)
        if status == NO_MEMORY:
            return NO_MEMORY
        if status != OK or not 0 < width * height <= _MOST_PIXELS or width > ROOM:
            raise EOFError  # no reply of `decoder_process`: whatever it has become is ended
        image = self._pixels(width, height)
        self.busy = False
        return image

    def _pixels(self, width: int, height: int) -> Image:
        from PIL import Image

        with memoryview(self._shared) as shared:
            parts = strips(width, height)
            if len(parts) == 1:
                return Image.frombytes("RGB", (width, height), shared[: 3 * width * height])  # pyright: ignore[reportArgumentType]
            out = Image.new("RGB", (width, height))
            for top, rows in parts:
                if top:
                    self._write(NEXT)
                    self._read(1)
                out.paste(Image.frombytes("RGB", (width, rows), shared[: 3 * width * rows]), (0, top))  # pyright: ignore[reportArgumentType]
            return out

    def end(self) -> None:
        """Kill it, in whatever it is doing, and take leave of it; in a fork of its owner, nothing."""
        if self._pid != os.getpid():
            return
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()

    @property
    def status(self) -> int:
        return self._popen.returncode

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._in.write(view) or 0 :]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = cast("bytes", self._out.read(size - len(data)))
            if not got:
                raise EOFError
            data += got
        return data


@contextlib.contextmanager
def _anonymous() -> Generator[int]:
    """A descriptor of `SHARED` bytes of memory without a name."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("w2s_fast")
        try:
            os.ftruncate(fd, SHARED)
            yield fd
        finally:
            os.close(fd)
    else:
        with tempfile.TemporaryFile() as file:
            file.truncate(SHARED)
            yield file.fileno()
