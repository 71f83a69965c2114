"""One image of a manifest as RGB pixels, as a viewer shows it; hostile or broken files are one-sentence errors."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.data.paths import inside, read_bounded

if TYPE_CHECKING:
    from PIL.Image import Image

    from w2s_fast.data.manifest import Manifest


FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MEMORY = 768 << 20
"""Bytes that decoding one image may take at its peak, the file's own bytes aside."""
BYTES_PER_PIXEL = {"JPEG": 12, "PNG": 8, "BMP": 8, "WEBP": 16}
"""Peak bytes for each pixel while an image is decoded and made RGB, as measured in the format's worst mode: JPEG with
four components in many scans, whose coefficients are all kept; WEBP, whose decoder keeps two canvases."""
MAX_BYTES = 128 << 20
"""Bytes of the largest image file that is read."""
MAX_SCANS = 100
"""Scans of a JPEG above which it is refused: encoders write a dozen, and each costs a pass over all pixels."""
MAX_ASPECT = 100
"""How many times longer than wide an image may be: models scale the shorter side up to their own size."""
_STRIP = 1 << 19
"""Pixels that are converted at a time."""


def pil_route(identity: str) -> dict[str, Any]:
    """What decides the pixels of image files, for the bank key."""
    return {"route": "pil", "exif": "applied", "alpha": "over white", "identity": identity}


def read_image(manifest: Manifest, row: int) -> Image:
    """The image of one row as an RGB `PIL.Image`, decoded in this process (`data.decoder` does it in another).

    EXIF orientation is applied; palette and alpha images are composited over white; grayscale, 16-bit and CMYK become
    RGB. Errors name the file: those of `read_bytes`, and `Unreadable` for contents that are not one of JPEG, PNG, BMP,
    WEBP, would take more than `MEMORY`, are truncated or otherwise broken. This process grows by at most `MEMORY` +
    `MAX_BYTES`.
    """
    if is_drawn(manifest):
        from w2s_fast.data.drawn_source import draw

        return draw(manifest.uris[row])
    if manifest.decode.get("route") == "array":
        from w2s_fast.data.arrays import picture

        return picture(manifest, row)
    content, path = read_bytes(manifest, row)
    return decode(content, path=path)


def is_pixels(manifest: Manifest) -> bool:
    """Whether the images are no files to decode: drawn by this package, or bare pixels in a file."""
    return manifest.decode.get("route") in ("drawn", "array")


def is_drawn(manifest: Manifest) -> bool:
    """Whether the images are drawn by this package."""
    return manifest.decode.get("route") == "drawn"


def read_bytes(manifest: Manifest, row: int) -> tuple[bytes, str | Path]:
    """The bytes of a row's image file, and its name for errors; re-hashed against the row's id where ids are contents.

    `Unreadable` for a file of more than `MAX_BYTES`; any other `DataError` for one that is gone, may not be read, leads
    out of the root, or changed since the manifest was made.
    """
    from w2s_fast.core.hashing import row_id

    uri = manifest.uris[row]
    if manifest.packed:
        from w2s_fast.data.tar import read_member

        content, path = read_member(manifest.root, uri, limit=MAX_BYTES)
    else:
        path = inside(manifest.root / uri, manifest.root, what=f"the image {manifest.root / uri}")
        content = read_bounded(path, limit=MAX_BYTES, what="the image")
    if manifest.decode.get("identity") == "content" and row_id(content) != manifest.ids[row].partition("#")[0]:
        raise DataError(f"the image {path} changed since the manifest was made; run w2s-fast extract again")
    return content, path


def decode(content: bytes, *, path: str | Path) -> Image:
    """Bytes of a JPEG, PNG, BMP or WEBP file -> RGB `PIL.Image`; `path` only names it in errors."""
    from PIL import Image, UnidentifiedImageError

    try:
        # A warning (a bomb, a corrupt EXIF block) would otherwise depend on the caller's filters.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return to_rgb(_upright(content, path))
    except (Unreadable, MemoryError) as error:
        if isinstance(error, Unreadable):
            raise
        raise DataError(f"there is not enough memory to decode the image {path}; free some and run it again") from None
    except UnidentifiedImageError:
        raise Unreadable(f"the image {path} is not a readable {', '.join(FORMATS)} file; replace it") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"the image {path} has too many pixels; shrink it") from None
    except Exception as error:  # whatever a decoder does with hostile bytes: nothing else is read here
        why = str(error) or type(error).__name__
        raise Unreadable(f"the image {path} is truncated or broken ({why[:200]}); replace it") from None


def _upright(content: bytes, path: str | Path) -> Image:
    """The decoded pixels as a viewer turns them; the decoder and its buffers are gone on return."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        most = MEMORY // BYTES_PER_PIXEL.get(image.format or "", max(BYTES_PER_PIXEL.values()))
        if width * height > most:
            raise Unreadable(f"the image {path} has {width} x {height} pixels, more than {most}; shrink it")
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise Unreadable(
                f"the image {path} has {width} x {height} pixels, a strip more than {MAX_ASPECT} times longer than "
                "wide; crop it"
            )
        # The marker cannot occur inside a scan, where 0xFF is always followed by 0 or a restart.
        if image.format == "JPEG" and content.count(b"\xff\xda") > MAX_SCANS:
            raise Unreadable(f"the image {path} is a JPEG of more than {MAX_SCANS} scans; save it anew")
        image.load()
        return ImageOps.exif_transpose(image)


def to_rgb(image: Image) -> Image:
    """Any Pillow mode -> RGB, transparency composited over white; strip by strip, so that only the result is large."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image if type(image) is Image.Image else image.copy()
    out = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        out.paste(_strip(image.crop(box)), box)
    return out


def _strip(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        import numpy as np  # for few images, and a third of the time that a decoding process takes to start

        wide = np.asarray(image, np.float64)
        # 16-bit gray: Pillow's own conversion clips at 255 instead of scaling.
        clear = image.info.get("transparency")
        gray = Image.fromarray((np.clip(wide, 0, 65535) / 257).round().astype(np.uint8), "L")
        if isinstance(clear, int):
            gray.paste(255, mask=Image.fromarray(np.where(wide == clear, 255, 0).astype(np.uint8), "L"))
        return gray.convert("RGB")
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "RGBa", "La"}:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
