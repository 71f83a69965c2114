"""Small pictures of a manifest's rows, as data addresses that a page can hold."""

from __future__ import annotations

import base64
import io

from PIL import Image

from w2s_fast.core.errors import DataError
from w2s_fast.data.decode import read_image
from w2s_fast.data.manifest import Manifest

SIDE, QUALITY = 72, 70
"""Pixels of the longer side, and the JPEG quality: about 2 kB each."""
PREFIX = "data:image/jpeg;base64,"


def thumbnail(manifest: Manifest, row: int, *, side: int = SIDE) -> str | None:
    """A JPEG of one row as `data:image/jpeg;base64,...`, the same bytes every time; None where it cannot be read."""
    try:
        image = read_image(manifest, row)
    except (DataError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return PREFIX + base64.b64encode(out.getvalue()).decode()
