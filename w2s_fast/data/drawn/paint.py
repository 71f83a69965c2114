"""Paint a placed object on a Pillow canvas; palettes and smooth noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from w2s_fast.data.drawn.pose import Placed

SIZE = 32
"""Side of a finished image in pixels."""
GRAIN = 2
"""Images are drawn this many times larger, then averaged down."""
FULL = SIZE * GRAIN

Colour = tuple[int, ...]
Ink = Colour | int
COLOURS: dict[str, Colour] = {
    "red": (214, 50, 44),
    "orange": (240, 140, 35),
    "yellow": (243, 212, 50),
    "green": (60, 160, 70),
    "blue": (50, 95, 205),
    "purple": (135, 65, 170),
    "pink": (240, 135, 175),
    "brown": (130, 85, 45),
    "gray": (130, 130, 135),
    "black": (35, 35, 38),
    "white": (245, 245, 242),
    "teal": (40, 160, 160),
}
_NAMES = tuple(COLOURS)
_VALUES = np.array(list(COLOURS.values()), float)


def colour(values: Any) -> Colour:
    """Clip to 0..255 and make a tuple of whole numbers that Pillow accepts."""
    return tuple(int(v) for v in np.clip(values, 0, 255))


def any_colour(rng: Generator) -> NDArray[np.float64]:
    """One of the named colours at random, as float [3]."""
    return _VALUES[rng.integers(len(_VALUES))]


def palette(rng: Generator, *, spread: float) -> tuple[str, list[Colour]]:
    """A named colour and the four inks made from it; `spread` is the standard deviation of each channel."""
    first = int(rng.integers(len(_NAMES)))
    base = _VALUES[first]
    body, accent = colour(base + rng.normal(0, spread, 3)), colour(any_colour(rng) + rng.normal(0, spread, 3))
    dark, light = colour(base * 0.35 + rng.normal(0, 10, 3)), colour(base * 0.3 + 175 + rng.normal(0, 12, 3))
    return _NAMES[first], [body, accent, dark, light]


def smooth_noise(rng: Generator, cells: int) -> NDArray[np.float32]:
    """Noise in about -1..1 that varies over `cells` cells a side, as float32 [FULL, FULL]."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((FULL, FULL), Image.Resampling.BICUBIC))


def fill(canvas: Image.Image, placed: Placed, inks: list[Ink], *, line: Ink | None = None, width: float = 0.0) -> None:
    """Paint regions and strokes in their inks; with `line`, around each an outline `width` (of -1..1) wide."""
    draw = ImageDraw.Draw(canvas)
    outline = _pixels(width)
    for part, points in placed.parts:
        path = _path(points)
        if part.filled:
            draw.polygon(path, fill=inks[part.ink])
            if line is not None:
                draw.line([*path, path[0]], fill=line, width=outline)
        else:
            thick = _pixels(part.width / 10 * placed.size)
            if line is not None:
                draw.line(path, fill=line, width=thick + 2 * _pixels(width / 2))
            draw.line(path, fill=inks[part.ink], width=thick)


def trace(
    canvas: Image.Image,
    placed: Placed,
    line: Ink,
    *,
    width: float,
    rng: Generator,
    slip: float = 0.0,
    gaps: float = 0.0,
) -> None:
    """Draw outlines alone, `width` (of -1..1) wide.

    `slip` is the standard deviation by which each point misses its place; `gaps` the probability that a region's
    outline is left open.
    """
    draw = ImageDraw.Draw(canvas)
    for part, points in placed.parts:
        path = _path(points + rng.normal(0, slip, points.shape) if slip else points)
        closed = part.filled and not (gaps and rng.random() < gaps)
        draw.line([*path, path[0]] if closed else path, fill=line, width=_pixels(width))


def finish(canvas: Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """Average a full-size canvas (image, or values in 0..255) down to uint8 [SIZE, SIZE, 3]."""
    if not isinstance(canvas, Image.Image):
        canvas = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    small = np.array(canvas.reduce(GRAIN))
    return np.repeat(small[:, :, None], 3, 2) if small.ndim == 2 else small


def _pixels(length: float) -> int:
    return max(1, round(length * FULL / 2))


def _path(points: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in ((points + 1) * (FULL / 2)).tolist()]
