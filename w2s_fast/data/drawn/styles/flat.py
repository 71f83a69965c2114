"""Styles of flat regions: clipart, infograph, pastel, pixel, silhouette, sticker."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from w2s_fast.data.drawn.paint import FULL, Colour, Ink, any_colour, colour, fill, finish, palette
from w2s_fast.data.drawn.pose import Pose, place

Drawing = tuple[NDArray[np.uint8], str | None]
_UPRIGHT = Pose(turn=20)
_BESIDE_TEXT = Pose(turn=12, scale=(0.6, 0.82))


def clipart(name: str, rng: Generator) -> Drawing:
    """Clean colours, a black outline, a plain background."""
    shown, inks = palette(rng, spread=12)
    canvas = Image.new("RGB", (FULL, FULL), _plain(rng))
    fill(canvas, place(name, _UPRIGHT, rng), list(inks), line=(25, 22, 25), width=rng.uniform(0.05, 0.11))
    return finish(canvas), shown


def pixel(name: str, rng: Generator) -> Drawing:
    """Clipart on a grid of 14 to 19 coarse pixels."""
    shown, inks = palette(rng, spread=25)
    canvas = Image.new("RGB", (FULL, FULL), _plain(rng))
    fill(canvas, place(name, _UPRIGHT, rng), list(inks), line=(25, 22, 25), width=rng.uniform(0.05, 0.11))
    cells = int(rng.integers(14, 20))
    coarse = canvas.resize((cells, cells), Image.Resampling.BOX)
    return finish(coarse.resize((FULL, FULL), Image.Resampling.NEAREST)), shown


def pastel(name: str, rng: Generator) -> Drawing:
    """Pale colours without outlines."""
    shown, inks = palette(rng, spread=25)
    canvas = Image.new("RGB", (FULL, FULL), colour(200 + rng.integers(0, 50, 3)))
    fill(canvas, place(name, _UPRIGHT, rng), [colour(np.array(ink) * 0.45 + 135) for ink in inks])
    return finish(canvas), shown


def sticker(name: str, rng: Generator) -> Drawing:
    """Colours with a broad white border, on a coloured ground."""
    shown, inks = palette(rng, spread=25)
    canvas = Image.new("RGB", (FULL, FULL), colour(rng.integers(60, 200, 3)))
    placed = place(name, _UPRIGHT, rng)
    white: Ink = (250, 250, 250)
    fill(canvas, placed, [white] * 4, line=white, width=0.3)
    fill(canvas, placed, list(inks))
    return finish(canvas), shown


def silhouette(name: str, rng: Generator) -> Drawing:
    """One dark colour on a light ground; only the light ink shines through."""
    dark, ground = rng.integers(0, 80, 3), rng.integers(140, 255, 3)
    canvas = Image.new("RGB", (FULL, FULL), colour(ground))
    ink: Ink = colour(dark)
    fill(canvas, place(name, Pose(), rng), [ink, ink, ink, colour(0.4 * dark + 0.6 * ground)])
    return finish(canvas), None


def infograph(name: str, rng: Generator) -> Drawing:
    """An object among panels, lines of text, bar charts and pie slices."""
    shown, inks = palette(rng, spread=22)
    canvas = Image.new("RGB", (FULL, FULL), colour(any_colour(rng) * 0.35 + 155 + rng.normal(0, 10, 3)))
    _clutter(ImageDraw.Draw(canvas), rng)
    placed = place(name, _BESIDE_TEXT, rng)
    if rng.random() < 0.5:
        (x, y), r = placed.centre, placed.size * 1.05
        box = [(v + 1) * FULL / 2 for v in (x - r, y - r, x + r, y + r)]
        ImageDraw.Draw(canvas).ellipse(box, fill=colour(_unlike(inks[0], rng)))
    if rng.random() < 0.5:
        inks[1] = inks[0]
    fill(canvas, placed, list(inks), line=inks[2] if rng.random() < 0.6 else None, width=0.05)
    return finish(canvas), shown


def _plain(rng: Generator) -> Ink:
    if rng.random() < 0.6:
        return colour(255 - rng.integers(0, 40, 3))
    return colour(any_colour(rng) * 0.5 + 120)


def _unlike(ink: Colour, rng: Generator) -> NDArray[np.float64]:
    """A named colour against which `ink` can be seen."""
    while np.abs((chosen := any_colour(rng)) - ink).sum() < 120:
        pass
    return chosen


def _clutter(draw: ImageDraw.ImageDraw, rng: Generator) -> None:
    s = FULL

    def along(low: float, high: float) -> float:
        return rng.uniform(low, high) * s

    if rng.random() < 0.6:
        x = along(0.1, 0.5)
        draw.rectangle([x, 0, x + along(0.3, 0.5), s], fill=colour(any_colour(rng)))
    for _ in range(rng.integers(1, 4)):
        x, y, ink = along(0, 0.7), along(0, 1), colour(any_colour(rng))
        for row in range(rng.integers(2, 5)):
            top = y + row * s * 0.06
            draw.rectangle([x, top, x + along(0.1, 0.4), top + s * 0.025], fill=ink)
    if rng.random() < 0.6:
        x, y, ink = along(0, 0.7), along(0.7, 1), colour(any_colour(rng))
        for column in range(rng.integers(3, 6)):
            left = x + column * s * 0.07
            draw.rectangle([left, y - along(0.05, 0.3), left + s * 0.05, y], fill=ink)
    if rng.random() < 0.5:
        x, y, d = along(0, 0.8), along(0, 0.8), along(0.15, 0.3)
        draw.pieslice([x, y, x + d, y + d], rng.uniform(0, 180), rng.uniform(200, 350), fill=colour(any_colour(rng)))
