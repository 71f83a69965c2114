"""Decoding in a process of its own: the same pixels, a limit that the system holds, and an end that harms nobody."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data import decoder
from w2s_fast.data.decode import MAX_BYTES, MEMORY, decode
from w2s_fast.data.decoder import Decoder
from w2s_fast.data.decoder_process import ROOM, strips

PATCHED = """
import sys; sys.path[:] = sys.argv[2:]
import os, signal, time
from w2s_fast.data import decode, decoder_process as module
real = module.decode
def decode_or_worse(content, *, path):
    if content.startswith(b"signal "):
        os.kill(os.getpid(), int(content[7:]))
    if content.startswith(b"exit"):
        os._exit(7)
    if content.startswith(b"noise"):
        os.write(1, b"x" * 17)
    if content.startswith(b"much"):
        return b"x" * (2 << 30)
    if content.startswith(b"file"):
        os.write(os.open(path, os.O_CREAT | os.O_WRONLY), b"x")
    if content.startswith(b"modules"):
        raise module.Unreadable(" ".join(sorted(sys.modules)))
    if content.startswith(b"spin"):
        while True:
            pass
    return real(content, path=path)
module.decode = decode_or_worse
module.main()
"""
"""A process with a decoder that does as images of hostile makers would like it to."""


def coded(width: int, height: int, seed: int = 0, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(out, kind)
    return out.getvalue()


@pytest.fixture
def isolated() -> Iterator[Decoder]:
    one = Decoder()
    yield one
    one.close()


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch, isolated: Decoder) -> Decoder:
    monkeypatch.setattr(decoder, "_CODE", PATCHED)
    return isolated


def same(image: Image.Image, content: bytes) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(decode(content, path="x")))


def pid_of(one: Decoder) -> int:
    assert one._process is not None
    return one._process._popen.pid


def gone(pid: int) -> bool:
    """Whether a process has ended, within ten seconds."""
    for _ in range(200):
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (1, 100), (2500, 1700), (1700, 5100)])
def test_the_pixels_are_those_of_decode(isolated: Decoder, size: tuple[int, int]) -> None:
    content = coded(*size)
    image = isolated.decode(content, path="x")
    assert image.mode == "RGB" and type(image) is Image.Image
    np.testing.assert_array_equal(np.asarray(image), np.asarray(decode(content, path="x")))
    assert (size[0] * size[1] > ROOM) == (len(strips(*size)) > 1)


def test_sixteen_bits_come_through_the_limit(isolated: Decoder) -> None:
    out = io.BytesIO()
    Image.fromarray(np.arange(60_000, dtype=np.uint16).reshape(200, 300)).save(out, "PNG")
    image = isolated.decode(out.getvalue(), path="x")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(decode(out.getvalue(), path="x")))


@pytest.mark.parametrize("content", [b"", b"hello", coded(30, 20)[:200], b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_told_in_the_same_words(isolated: Decoder, content: bytes) -> None:
    name = Path(os.fsdecode(b"odd \xff \xc3\xa9.png"))
    with pytest.raises(Unreadable) as here:
        decode(content, path=name)
    with pytest.raises(Unreadable) as there:
        isolated.decode(content, path=name)
    assert str(there.value) == str(here.value) and type(there.value) is type(here.value)


def test_one_process_serves_many_images(isolated: Decoder) -> None:
    isolated.decode(coded(9, 9), path="x")
    first = pid_of(isolated)
    for seed in range(20):
        with pytest.raises(Unreadable):
            isolated.decode(b"none", path="x")
        content = coded(9, 9, seed)
        assert same(isolated.decode(content, path="x"), content)
    assert pid_of(isolated) == first
    isolated.close()
    assert gone(first)


@pytest.mark.parametrize(
    ("content", "how"),
    [(b"signal %d" % s, s.name) for s in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)]
    + [(b"exit", "status 7"), (b"noise", "SIGKILL")],
)
def test_an_image_that_ends_its_process_is_unreadable_and_the_next_one_is_read(
    patched: Decoder, content: bytes, how: str
) -> None:
    for _ in range(2):
        with pytest.raises(
            Unreadable, match=rf"^the image a/b.png ends the process that decodes it \({how}\); replace"
        ):
            patched.decode(content, path="a/b.png")
        sound = coded(5, 4)
        assert same(patched.decode(sound, path="x"), sound)


def test_a_process_that_is_killed_for_other_reasons_costs_no_image(isolated: Decoder) -> None:
    sound = coded(900, 700)
    isolated.send(sound, path="x")
    os.kill(pid_of(isolated), signal.SIGKILL)
    assert same(isolated.receive(), sound)
    os.kill(pid_of(isolated), signal.SIGKILL)
    assert gone(pid_of(isolated))
    assert same(isolated.decode(sound, path="x"), sound)


def test_an_answer_that_nobody_took_is_not_the_next_ones(isolated: Decoder) -> None:
    first, second = coded(8, 8, 1), coded(8, 8, 2)
    isolated.send(first, path="x")
    isolated.send(second, path="x")
    assert same(isolated.receive(), second)
    with pytest.raises(RuntimeError, match="no image was sent"):
        isolated.receive()


def test_too_much_memory_is_said_and_none_of_it_is_kept(patched: Decoder) -> None:
    with pytest.raises(Unreadable, match=r"^the image x takes more than 896 MiB to decode; replace it"):
        patched.decode(b"much", path="x")
    assert (MEMORY + MAX_BYTES) >> 20 == 896
    assert patched.decode(coded(5, 4), path="x").size == (5, 4)


def test_it_writes_no_file_and_knows_no_torch(patched: Decoder, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"ends the process that decodes it \(status 1\)"):
        patched.decode(b"file", path=tmp_path / "owned")
    assert (tmp_path / "owned").read_bytes() == b""
    with pytest.raises(Unreadable) as told:
        patched.decode(b"modules", path="x")
    modules = set(str(told.value).split())
    assert "PIL.Image" in modules and not modules & {"torch", "numpy", "timm", "zarr", "pickle", "w2s_fast.backbones"}


def test_an_image_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch, isolated: Decoder) -> None:
    code = PATCHED.replace("module.main()", "module.SECONDS = 1; module.main()")
    monkeypatch.setattr(decoder, "_CODE", code)
    with pytest.raises(Unreadable, match=r"ends the process that decodes it \(SIGXCPU\)"):
        isolated.decode(b"spin", path="x")
    assert isolated.decode(coded(5, 4), path="x").size == (5, 4)


def test_a_process_that_cannot_start_is_no_fault_of_an_image(
    monkeypatch: pytest.MonkeyPatch, isolated: Decoder
) -> None:
    monkeypatch.setattr(decoder, "_CODE", "raise SystemExit(3)")
    with pytest.raises(DataError, match=r"ends when it starts \(status 3\)") as told:
        isolated.decode(coded(5, 4), path="x")
    assert not isinstance(told.value, Unreadable)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(DataError, match="no process can be started") as told:
        isolated.decode(coded(5, 4), path="x")
    assert not isinstance(told.value, Unreadable)


def test_a_fork_starts_its_own(isolated: Decoder) -> None:
    sound = coded(5, 4)
    isolated.decode(sound, path="x")
    ours = pid_of(isolated)
    child = os.fork()
    if child == 0:
        try:
            fine = same(isolated.decode(sound, path="x"), sound) and pid_of(isolated) != ours
            isolated.close()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isolated.decode(sound, path="x").size == (5, 4) and pid_of(isolated) == ours


def test_it_ends_with_its_owner(isolated: Decoder) -> None:
    """When it is collected, and when it is killed without a word."""
    one = Decoder()
    one.decode(coded(5, 4), path="x")
    pid = pid_of(one)
    del one
    gc.collect()
    assert gone(pid)
    program = (
        "import time; from w2s_fast.data.decoder import Decoder; d = Decoder(); d.send(b'none', path='x');"
        "print(d._process._popen.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    inner = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert gone(inner)


def test_a_copy_for_another_process_takes_nothing_along(isolated: Decoder) -> None:
    isolated.decode(coded(5, 4), path="x")
    copy = pickle.loads(pickle.dumps(isolated))
    assert copy._process is None and copy.decode(coded(5, 4), path="x").size == (5, 4)
    copy.close()


BOMB = """
import json, resource, sys
from pathlib import Path
from w2s_fast.core.errors import Unreadable
from w2s_fast.data import decoder
decoder._CODE = decoder._CODE.replace(
    "main()", "from w2s_fast.data import decode, decoder_process as p; decode.MEMORY = 1 << 60; PIL(); main()"
).replace("PIL()", "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None")
one = decoder.Decoder()
for name in sys.argv[1:]:
    try:
        said = str(one.decode(Path(name).read_bytes(), path=name).size)
    except Unreadable as error:
        said = str(error)
    print(json.dumps(said), flush=True)
one.close()
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10))
"""


def test_the_system_holds_the_limit_when_our_own_bound_is_gone(tmp_path: Path) -> None:
    """Pillow is given what it is never given: 50,000 x 50,000 pixels, with every bound of ours and its own lifted."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def bomb(side: int) -> bytes:
        packer, row = zlib.compressobj(1), bytes(1 + 3 * side)
        body = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")

    files = [tmp_path / "small.png", tmp_path / "bomb.png", tmp_path / "again.png"]
    for file, content in zip(files, (coded(5, 4), bomb(50_000), coded(6, 4)), strict=True):
        file.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", BOMB, *map(str, files)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    small, bombed, again, peak = map(json.loads, done.stdout.splitlines())
    assert (small, again) == ("(5, 4)", "(6, 4)")
    assert "takes more than 896 MiB" in bombed and peak < 10**9
