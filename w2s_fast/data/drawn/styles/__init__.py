"""The twelve styles: a function each from an object's name and a generator to an image and the colour it shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from w2s_fast.data.drawn.styles import flat, lines, shaded

Style = Callable[[str, Generator], tuple[NDArray[np.uint8], str | None]]

EVALUATED: dict[str, Style] = {
    "clipart": flat.clipart,
    "infograph": flat.infograph,
    "painting": shaded.painting,
    "quickdraw": lines.quickdraw,
    "real": shaded.real,
    "sketch": lines.sketch,
}
EXTRA: dict[str, Style] = {
    "blueprint": lines.blueprint,
    "neon": lines.neon,
    "pastel": flat.pastel,
    "pixel": flat.pixel,
    "silhouette": flat.silhouette,
    "sticker": flat.sticker,
}
STYLES: dict[str, Style] = EVALUATED | EXTRA
