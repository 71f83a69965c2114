from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import class_folders, noise, save
from PIL import Image

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data import decode as module
from w2s_fast.data import drawn, open_manifest
from w2s_fast.data.decode import decode, read_image


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(content: bytes) -> np.ndarray:
    image = decode(content, path="x")
    assert image.mode == "RGB" and type(image) is Image.Image
    return np.asarray(image)


RGB = noise(1)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_rgb_comes_back(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (pixels(coded(Image.fromarray(RGB), kind, **options)) == RGB).all()


def test_jpeg_is_pillows_decoding() -> None:
    content = coded(Image.fromarray(RGB), "JPEG", quality=90)
    assert (pixels(content) == np.asarray(Image.open(io.BytesIO(content)))).all()


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_composited_over_white(kind: str) -> None:
    rgba = noise(2, channels=4)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    got = pixels(coded(Image.fromarray(rgba, "RGBA"), kind, **options))
    assert np.abs(got - over_white(rgba)).max() <= 1
    assert np.abs(got.astype(int) - rgba[..., :3]).max() > 100


def test_gray_with_alpha() -> None:
    la = noise(3, channels=2)
    got = pixels(coded(Image.fromarray(la, "LA"), "PNG"))
    assert np.abs(got - over_white(la[..., [0, 0, 0, 1]])).max() <= 1


def test_palettes_with_and_without_transparency() -> None:
    index = noise(4, channels=1) % 7
    colours = noise(5, size=(7, 1))[0]
    image = Image.fromarray(index, "P")
    image.putpalette(colours.tobytes())
    expected = colours[index]
    assert (pixels(coded(image, "PNG")) == expected).all()
    clear = expected.copy()
    clear[index == 3] = 255
    assert (pixels(coded(image, "PNG", transparency=3)) == clear).all()
    alphas = bytes([255, 128, 0, 255, 64, 255, 255])
    rgba = np.concatenate([expected, np.frombuffer(alphas, np.uint8)[index][..., None]], -1)
    assert np.abs(pixels(coded(image, "PNG", transparency=alphas)) - over_white(rgba)).max() <= 1


def test_gray_and_a_transparent_colour() -> None:
    gray = noise(6, channels=1)
    assert (pixels(coded(Image.fromarray(gray, "L"), "PNG")) == gray[..., None]).all()
    assert (pixels(coded(Image.fromarray(gray > 99), "PNG")) == np.where(gray > 99, 255, 0)[..., None]).all()
    keyed = RGB.copy()
    keyed[:4] = (10, 20, 30)
    got = pixels(coded(Image.fromarray(keyed), "PNG", transparency=(10, 20, 30)))
    assert (got[:4] == 255).all() and (got[4:] == keyed[4:]).all()


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    got = pixels(coded(Image.fromarray(wide), "PNG"))
    assert np.abs(got[..., 0] - wide / 257).max() <= 0.5 and (got[..., 0] == got[..., 2]).all()
    wide[0] = 500
    got = pixels(coded(Image.fromarray(wide), "PNG", transparency=500))
    assert (got[0] == 255).all() and np.abs(got[1:, :, 0] - wide[1:] / 257).max() <= 0.5


def test_cmyk_jpeg() -> None:
    content = coded(Image.fromarray(RGB).convert("CMYK"), "JPEG")
    assert (pixels(content) == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    # How a viewer shows it, by numpy alone.
    shown = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = coded(Image.fromarray(RGB), kind, exif=exif.tobytes(), **options)
    stored = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (pixels(content) == shown(stored)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.95])
def test_truncated_files_name_the_file(kind: str, keep: float) -> None:
    content = coded(Image.fromarray(noise(1, (64, 64))), kind)
    with pytest.raises(Unreadable, match=r"broken\.jpg"):
        decode(content[: int(len(content) * keep)], path="p/broken.jpg")


def test_other_formats_and_nonsense_are_refused() -> None:
    for content in (coded(Image.fromarray(RGB), "GIF"), coded(Image.fromarray(RGB), "TIFF"), b"", b"hello", bytes(500)):
        with pytest.raises(Unreadable, match=r"x.png is not a readable JPEG, PNG, BMP, WEBP file"):
            decode(content, path="x.png")


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bound", [Image.MAX_IMAGE_PIXELS, None])
def test_bombs_are_refused_before_decoding(bound: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow's own bound is global, and programs switch it off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    for width, height in ((14_000, 14_000), (60_000, 60_000)):
        with pytest.raises(Unreadable, match=r"bomb.png has .*pixels"):
            decode(png_claiming(width, height), path="bomb.png")


def test_short_memory_is_no_property_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", short)
    with pytest.raises(DataError, match="not enough memory to decode the image x.png") as caught:
        decode(b"", path="x.png")
    assert not isinstance(caught.value, Unreadable)


def test_a_large_image_is_no_warning() -> None:
    # Between half of the bound and the bound, Pillow warns; here the file is merely cut short.
    with pytest.raises(DataError, match=r"large.png is truncated"):
        decode(png_claiming(10_000, 10_000), path="large.png")


def test_bit_flips_never_escape_the_error_tree() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        whole = coded(Image.fromarray(noise(1, (32, 32))), kind)
        for _ in range(150):
            content = bytearray(whole)
            for at in rng.integers(0, len(content), 3):
                content[at] ^= 1 << int(rng.integers(8))
            with contextlib.suppress(DataError):
                assert decode(bytes(content), path="x").mode == "RGB"


# ---- rows of a manifest


def test_rows_are_read_and_checked(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 1, "b": 1})
    m = open_manifest(f"imagefolder:{root}", cache=tmp_path)
    assert (np.asarray(read_image(m, 1)) == noise(2)).all()
    save(root / "b" / "000.png", 99)
    with pytest.raises(DataError, match=r"b/000.png changed since the manifest was made") as changed:
        read_image(m, 1)
    assert not isinstance(changed.value, Unreadable)
    by_path = open_manifest(f"imagefolder:{root}", identity="path", cache=tmp_path)
    assert (np.asarray(read_image(by_path, 1)) == noise(99)).all()
    (root / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"a/000.png cannot be read") as gone:
        read_image(m, 0)
    assert not isinstance(gone.value, Unreadable)


def test_a_repeated_image_is_checked_by_its_content(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png"):
        save(tmp_path / "p" / name, 3)
    m = open_manifest(f"imagefolder:{tmp_path / 'p'}", cache=tmp_path)
    assert m.ids[1].endswith("#2")
    assert (np.asarray(read_image(m, 1)) == noise(3)).all()


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = open_manifest(f"imagefolder:{class_folders(tmp_path / 'p', {'a': 1, 'b': 1})}", cache=tmp_path)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="is larger than"):
        read_image(m, 0)


def test_drawn_rows_are_drawn() -> None:
    m = open_manifest("drawn:sketch")
    k, per = len(drawn.CLASSES), drawn.TRAIN_PER_CLASS
    assert len(m) == k * (per + drawn.POOL_PER_CLASS) and m.defaults == {"batch_size": 128, "lr": 0.005}
    assert m.splits.count("train") == k * per and set(m.groups) == {"sketch"}
    row = k * per + 3 * drawn.POOL_PER_CLASS + 5
    assert m.labels[row] == 3 and m.splits[row] == "test"
    image = read_image(m, row)
    expected = drawn.render("sketch", drawn.CLASSES[3], space="pool", index=5)
    assert image.mode == "RGB" and image.size == (32, 32) and (np.asarray(image) == expected).all()
    assert m.decode == {"route": "drawn", "renderer": drawn.RENDERER, "probe": drawn.probe()}


def test_drawn_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no domain 'sketsh'; did you mean 'sketch'"):
        open_manifest("drawn:sketsh")
    with pytest.raises(DataError, match="no domain ''"):
        open_manifest("drawn:")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{c}\tthing {i}\n" for i, c in enumerate(drawn.CLASSES)))
    assert open_manifest("drawn:real", class_names=names).classes[:2] == ("thing 0", "thing 1")
    assert open_manifest("drawn:real").ids != open_manifest("drawn:sketch").ids
