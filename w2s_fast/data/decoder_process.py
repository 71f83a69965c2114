"""The process that decodes images for `data.decoder.Decoder`: no torch in it, and little that an image could reach.

It reads requests on stdin and answers on stdout, one at a time, until stdin ends. Pixels are in memory that both share:

    request   <Q bytes of the image> <I bytes of its name>, the name, the image
    reply     <B status> <I width> <I height> <Q bytes of text>, the text
              after OK, the first `ROOM` pixels are in the shared memory, RGB in rows; for more rows, NEXT is awaited on
              stdin and answered with NEXT when they are there
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data.decode import MAX_BYTES, MEMORY, decode

OK, UNREADABLE, NO_MEMORY = range(3)
REQUEST, REPLY = struct.Struct("<QI"), struct.Struct("<BIIQ")
READY, NEXT = b"\x06", b"\x05"
ROOM = 4 << 20
"""Pixels that are handed over at a time: a copy of all of a large image would be the largest thing in memory."""
SHARED = 3 * ROOM
SECONDS = 600
"""Processor seconds that one image may take; the slowest that `decode` allows takes a tenth of it."""
_HELD, _SPARE = 64 << 20, 32 << 20


def strips(width: int, height: int) -> list[tuple[int, int]]:
    """First row and number of rows of what is handed over at a time; no row is wider than `ROOM`."""
    rows = ROOM // width
    return [(top, min(rows, height - top)) for top in range(0, height, rows)]


def limit() -> None:
    """From now on, so much more memory as an image may take, no core dump, and no file that is written."""
    most = _held() + MEMORY + MAX_BYTES + _SPARE  # numpy, which few images need, reserves more than it uses
    for what, value in (
        (resource.RLIMIT_DATA, most),
        (resource.RLIMIT_AS, 2 * most),  # where the system does not count the other
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (lower, lower))


def _held() -> int:
    """Bytes of writable memory that this process has reserved, most of them never touched."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except (OSError, IndexError, ValueError):
        return _HELD
    return pages * os.sysconf("SC_PAGE_SIZE")


def _grant_seconds() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    more = int(used.ru_utime + used.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (more if hard == resource.RLIM_INFINITY else min(more, hard), hard))


def serve(requests: BinaryIO, write: Callable[[bytes], object], shared: mmap.mmap) -> None:
    """Answer until `requests` end."""
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        _answer(requests, write, shared, *REQUEST.unpack(head))


def _answer(requests: BinaryIO, write: Callable[[bytes], object], shared: mmap.mmap, size: int, named: int) -> None:
    """One reply. All that an image took is free when this returns: the next one may need as much."""
    name = os.fsdecode(requests.read(named))
    content = requests.read(size)
    _grant_seconds()
    try:
        image = decode(content, path=name)
        del content
        width, height = image.size
        for top, rows in strips(width, height):
            if top and requests.read(1) != NEXT:
                sys.exit()
            part = image if rows == height else image.crop((0, top, width, top + rows))
            shared[: 3 * width * rows] = part.tobytes()
            write(NEXT if top else REPLY.pack(OK, width, height, 0))
    except Unreadable as error:
        _say(write, UNREADABLE, str(error))
    except (DataError, MemoryError) as error:  # in the middle of an image it is not an answer, and ends the process
        _say(write, NO_MEMORY, str(error))


def _say(write: Callable[[bytes], object], status: int, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    write(REPLY.pack(status, 0, 0, len(data)) + data)


def main() -> None:
    """Serve the process that started this one, which alone is told to stop by Ctrl-C."""
    import PIL.Image
    import PIL.ImageOps

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    PIL.Image.preinit()
    shared = mmap.mmap(int(sys.argv[1]), SHARED)
    limit()

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    try:
        write(READY)
        serve(os.fdopen(0, "rb"), write, shared)
    except BrokenPipeError:
        os._exit(0)  # whom it was for has gone
