"""Hostile images: each is a failed row with a reason, or one sentence; never a crash, a shift, or a gigabyte."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_bank import probe
from PIL import Image

from w2s_fast.backbones import open_encoder
from w2s_fast.core.errors import DataError
from w2s_fast.data import open_manifest
from w2s_fast.data.decode import MAX_BYTES, MEMORY, decode, read_bytes
from w2s_fast.extract import images
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.worker import extract
from w2s_fast.store import open_bank

GIGABYTE = 10**9
MODEL = "timm:test_resnet"
OPTIONS = ExtractOptions(random_weights=True, batch_size=16, workers=0, device="cpu")


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b"", whole: bool = False) -> bytes:
    """A PNG header that claims this size; with `whole`, black pixels of all of it, packed a thousandfold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    body = b""
    if whole:
        packer, row = zlib.compressobj(1), bytes(1 + width * channels * depth // 8)
        body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_of_many_scans() -> bytes:
    """A progressive JPEG whose last scan is repeated: each one costs a pass over the picture."""
    sound = coded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)
    at = sound.rindex(b"\xff\xda")
    return sound[:at] + sound[at:-2] * 5000 + b"\xff\xd9"


NOISE = Image.effect_noise((40, 30), 60).convert("RGB")
BAD: dict[str, bytes] = {
    "empty.png": b"",
    "one byte.png": b"\x89",
    "text.jpg": b"hello",
    "zeros.png": bytes(5000),
    "truncated.jpg": coded(NOISE, "JPEG")[:300],
    "truncated.png": coded(NOISE, "PNG")[:-300],
    "truncated.webp": coded(NOISE, "WEBP")[:-40],
    "gif of 10,000 frames.png": coded(Image.new("P", (2, 2)), "GIF")[:-1] * 1 + b"!\xf9\x04\0\0\0\0\0" * 10_000 + b";",
    "gif.gif.png": coded(NOISE, "GIF", save_all=True, append_images=[NOISE.rotate(a) for a in range(1, 60)]),
    "tiff.jpg": coded(NOISE, "TIFF"),
    "icon.png": coded(NOISE, "ICO"),
    "ppm.png": coded(NOISE, "PPM"),
    "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "entities.jpg": b'<!DOCTYPE l [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\nshowpage\n",
    "pdf.jpg": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(calc)>>>>endobj\ntrailer<</Root 1 0 R>>",
    "script.jpg": b"#!/bin/sh\ntouch /tmp/owned\n",
    "elf.png": b"\x7fELF" + bytes(200),
    "header of 50,000 squared.png": png(50_000, 50_000),
    "header of 2^31.png": png(2**31 - 1, 2**31 - 1),
    "no width.png": png(0, 5),
    "a strip.png": png(1, 60_000, whole=True),
    "a flat strip.png": png(60_000, 1, whole=True),
    "the largest header.png": png(10_000, 10_000),
    "text bomb.png": png(5, 5, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 << 20), 9))),
    "profile bomb.png": png(5, 5, extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200 << 20), 9))),
    "packed bomb.png": png(14_000, 14_000, colour=0, depth=1, whole=True),
    "bmp of 2^31.png": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    "webp of 16383 squared.webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10)
    + b"\x10\0\0\0" + (16382).to_bytes(3, "little") * 2,
    "many scans.jpg": jpeg_of_many_scans(),
}  # fmt: skip
GOOD: dict[str, bytes] = {
    "cmyk.jpg": coded(NOISE.convert("CMYK"), "JPEG"),
    "sixteen bit.png": coded(Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50)), "PNG"),
    "one pixel.png": coded(Image.new("RGB", (1, 1)), "PNG"),
    "alpha.png": coded(NOISE.convert("RGBA"), "PNG"),
    "a jpeg in truth.png": coded(NOISE, "JPEG"),
    "1 to 100.png": png(10, 1000, whole=True),
    "moving.webp": coded(NOISE, "WEBP", save_all=True, append_images=[NOISE.rotate(9)] * 20),
    "moving.png": coded(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(9)] * 20),
    "plain.bmp": coded(NOISE, "BMP"),
    "plain.webp": coded(NOISE, "WEBP"),
}
OWN = Path("/tmp/owned")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class of hostile and odd files, good ones between them; another of good ones."""
    root = tmp_path_factory.mktemp("mixed") / "images"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    for name, content in {**BAD, **GOOD}.items():
        (root / "a" / name).write_bytes(content)
    for i in range(6):
        Image.effect_noise((33, 31), 20 + i).convert("RGB").save(root / "b" / f"{i}.png")
    return root


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_good_rows_keep_their_place_and_bad_ones_have_a_reason(mixed: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{mixed}"
    manifest = open_manifest(data, cache=tmp_path)
    banks = []
    for workers in (0, 2):
        cache, chosen = tmp_path / str(workers), replace(OPTIONS, workers=workers)
        extract(manifest, [MODEL], data=data, options=chosen, cache=cache)
        banks.append(open_bank(MODEL, data, cache=cache, options=OPTIONS.in_key()))
    assert banks[0].digest == banks[1].digest
    failed = {manifest.uris[f["row"]].removeprefix("a/"): f for f in banks[0].failures}
    assert set(failed) == set(BAD)
    for name, failure in failed.items():
        assert failure["id"] == manifest.ids[failure["row"]]
        assert name in failure["reason"] and len(failure["reason"]) <= 300, failure
    assert np.flatnonzero(~banks[0].ok).tolist() == sorted(f["row"] for f in banks[0].failures)
    encoder, features = open_encoder(MODEL, random_weights=True), banks[0].features()
    for row, uri in enumerate(manifest.uris):
        if uri.removeprefix("a/") in BAD:
            assert features[row].abs().sum() == 0
        else:
            alone, _ = encoder.encode(encoder.prepare(decode((mixed / uri).read_bytes(), path=uri))[None])
            assert torch.allclose(features[row], alone[0], rtol=1e-2, atol=1e-2), uri
    assert not OWN.exists()


def test_max_failures_stops_early(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(images, "read_bytes", lambda m, row: (read.append(row), read_bytes(m, row))[1])
    data, few = f"imagefolder:{mixed}", replace(OPTIONS, max_failures=3, batch_size=4)
    with pytest.raises(DataError, match=r"more than --max-failures 3; the last: the image"):
        extract(open_manifest(data, cache=tmp_path), [MODEL], data=data, options=few, cache=tmp_path)
    assert len(read) < len(BAD) // 2 and not list(tmp_path.rglob("commits/*"))


def test_a_loader_that_is_killed_is_one_sentence(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    data = f"imagefolder:{mixed}"
    manifest = open_manifest(data, cache=tmp_path)
    monkeypatch.setattr(images, "read_bytes", killed)
    with pytest.raises(DataError, match="a decoding process was killed after 0 images.*fewer --workers: it resumes"):
        extract(manifest, [MODEL], data=data, options=replace(OPTIONS, workers=1), cache=tmp_path)
    assert not list(tmp_path.rglob("commits/*"))


@pytest.mark.slow
def test_the_program_stays_within_the_bound_on_hostile_images(mixed: Path, tmp_path: Path) -> None:
    argv = ["extract", "--data", f"imagefolder:{mixed}", "--model", MODEL, "--random-weights", "--device", "cpu"]
    imports = "torch,timm,torchvision,w2s_fast.extract.worker,w2s_fast_cli.extract"
    [o] = probe([("mixed", [*argv, "--workers", "0", "--batch-size", "16", "--cache", tmp_path])], imports=imports)
    assert o.status in (0, 3) and o.grown < MEMORY + MAX_BYTES, o


MEASURE = """
import json, sys
from pathlib import Path
from w2s_fast.core.errors import Unreadable
from w2s_fast.data.decode import decode
import numpy, PIL.Image, PIL.ImageOps
def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith(field)).split()[1]) << 10
for name in sys.argv[1:]:
    content = Path(name).read_bytes()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    try:
        said = str(decode(content, path=name).size)
    except Unreadable as error:
        said = str(error)
    print(json.dumps([name, resident("VmHWM"), resident("VmHWM") - before, said]), flush=True)
"""


def measured(files: list[Path]) -> list[tuple[str, int, int, str]]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, files)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [(Path(a).name, b, c, d) for a, b, c, d in map(json.loads, done.stdout.splitlines())]


def test_no_hostile_image_takes_a_gigabyte(tmp_path: Path) -> None:
    files = []
    for name, content in BAD.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    found = measured(files)
    assert len(found) == len(BAD)
    for name, peak, grown, said in found:
        assert peak < 400_000_000 and grown < 300_000_000 and "the image" in said, (name, peak, grown, said)


@pytest.mark.slow
def test_the_largest_allowed_images_stay_below_the_bound(tmp_path: Path) -> None:
    """Just inside the bound in the costliest modes of each format: what `BYTES_PER_PIXEL` rests on."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, mode, side, options in (
        ("rgb.png", "RGB", 10_000, {"compress_level": 1}),
        ("rgba turned.png", "RGBA", 10_000, {"compress_level": 1, "exif": exif.tobytes()}),
        ("keyed.png", "RGB", 10_000, {"compress_level": 1, "transparency": (1, 2, 3)}),
        ("gray.png", "I;16", 10_000, {"compress_level": 1, "transparency": 5}),
        ("many.jpg", "CMYK", 8_190, {"progressive": True}),
        ("full.jpg", "RGB", 8_190, {"progressive": True, "subsampling": 0, "exif": exif.tobytes()}),
        ("lossless.webp", "RGBA", 7_090, {"lossless": True, "method": 0}),
    ):
        image = Image.new(mode, (side, side))
        image.save(tmp_path / name, **options)
        del image
        [(_, peak, grown, said)] = measured([tmp_path / name])
        assert said == str((side, side)) and peak < GIGABYTE and grown < MEMORY + (32 << 20), (name, peak, grown)
