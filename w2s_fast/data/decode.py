"""One image of a manifest as RGB pixels, as a viewer shows it; hostile or broken files are one-sentence errors."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.core.hashing import row_id

if TYPE_CHECKING:
    from PIL.Image import Image

    from w2s_fast.data.manifest import Manifest

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MAX_PIXELS = 178_956_970
"""Width times height above which an image is refused (Pillow's own bound for a decompression bomb)."""
MAX_BYTES = 1 << 30
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def pil_route(identity: str) -> dict[str, Any]:
    """What decides the pixels of image files, for the bank key."""
    return {"route": "pil", "exif": "applied", "alpha": "over white", "identity": identity}


def read_image(manifest: Manifest, row: int) -> Image:
    """The image of one row as an RGB `PIL.Image`.

    Files are re-hashed against the row's id where ids are contents. EXIF orientation is applied; palette and alpha
    images are composited over white; grayscale, 16-bit and CMYK become RGB. Errors name the file: `Unreadable` for
    contents that are not one of JPEG, PNG, BMP, WEBP, have more than `MAX_PIXELS`, are truncated or otherwise broken;
    any other `DataError` for a file that is gone, may not be read, or changed since the manifest was made.
    """
    uri = manifest.uris[row]
    if manifest.decode.get("route") == "drawn":
        from w2s_fast.data.drawn_source import draw

        return draw(uri)
    path = manifest.root / uri
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable(f"the image {path} is larger than {MAX_BYTES >> 20} MiB; remove it or make it smaller")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the image {path} cannot be read ({error.strerror}); restore it or remove its row") from None
    if manifest.decode.get("identity") == "content" and row_id(content) != manifest.ids[row].partition("#")[0]:
        raise DataError(f"the image {path} changed since the manifest was made; run w2s-fast extract again")
    return decode(content, path=path)


def decode(content: bytes, *, path: str | Path) -> Image:
    """Bytes of a JPEG, PNG, BMP or WEBP file -> RGB `PIL.Image`; `path` only names it in errors."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        # A warning (a bomb, a corrupt EXIF block) would otherwise depend on the caller's filters.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Unreadable(
                        f"the image {path} has {width} x {height} pixels, more than {MAX_PIXELS}; shrink it"
                    )
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise Unreadable(f"the image {path} is not a readable {', '.join(FORMATS)} file; replace it") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"the image {path} has more than {MAX_PIXELS} pixels; shrink it") from None
    except MemoryError:
        raise DataError(f"there is not enough memory to decode the image {path}; free some and run it again") from None
    except _BROKEN as error:
        raise Unreadable(f"the image {path} is truncated or broken ({error}); replace it") from None


def to_rgb(image: Image) -> Image:
    """Any Pillow mode -> RGB, transparency composited over white."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I") or image.mode == "F":
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
