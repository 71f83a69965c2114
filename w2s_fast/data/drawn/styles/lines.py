"""Styles of lines: quickdraw, sketch, blueprint, neon."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from w2s_fast.data.drawn.paint import FULL, Ink, colour, fill, finish, palette, trace
from w2s_fast.data.drawn.pose import Pose, place

Drawing = tuple[NDArray[np.uint8], str | None]
_HASTY = Pose(turn=30, warp=0.13, shake=0.04, scale=(0.7, 0.98), shift=0.1, stretch=0.4, drop=0.08)
_BY_HAND = Pose(warp=0.08, shake=0.012)


def quickdraw(name: str, rng: Generator) -> Drawing:
    """A hasty black doodle on white: bent, with gaps and missing parts."""
    canvas = Image.new("L", (FULL, FULL), 255)
    trace(canvas, place(name, _HASTY, rng), 0, width=rng.uniform(0.045, 0.07), rng=rng, gaps=0.5)
    return finish(canvas), None


def sketch(name: str, rng: Generator) -> Drawing:
    """A pencil drawing: gray regions hatched in one direction, outlines drawn twice, grain."""
    paper, pencil = int(rng.uniform(205, 250)), int(rng.uniform(20, 100))
    canvas = Image.new("L", (FULL, FULL), paper)
    placed = place(name, _BY_HAND, rng)
    width = rng.uniform(0.04, 0.07)
    grays: list[Ink] = [int(paper * v) for v in rng.uniform(0.55, 0.95, 4)]
    fill(canvas, placed, grays, line=pencil, width=width)
    trace(canvas, placed, pencil, width=width, rng=rng, slip=0.024)

    tone = np.asarray(canvas).astype(np.float32)
    angle, axis = rng.uniform(0, math.pi), np.arange(FULL, dtype=np.float32)
    hatch = np.sin((axis[None] * math.cos(angle) + axis[:, None] * math.sin(angle)) * rng.uniform(0.7, 1.3))
    inside = (tone < paper - 4) & (tone > pencil + 6)
    tone = tone - inside * np.maximum(hatch, 0) * rng.uniform(30, 80)
    return finish(tone + rng.normal(0, 9, tone.shape)), None


def neon(name: str, rng: Generator) -> Drawing:
    """Bright outlines on near black."""
    shown, inks = palette(rng, spread=0)
    canvas = Image.new("RGB", (FULL, FULL), colour(rng.integers(0, 45, 3)))
    glow = colour(np.array(inks[0]) * 0.6 + 110)
    trace(canvas, place(name, Pose(), rng), glow, width=rng.uniform(0.06, 0.12), rng=rng)
    return finish(canvas), shown


def blueprint(name: str, rng: Generator) -> Drawing:
    """White outlines on blue squared paper."""
    ground = np.array([25, 60, 140]) + rng.integers(0, [30, 30, 50])
    canvas = Image.new("RGB", (FULL, FULL), colour(ground))
    draw = ImageDraw.Draw(canvas)
    for at in range(int(rng.integers(8)), FULL, 10):
        draw.line([(at, 0), (at, FULL)], fill=colour(ground + 22))
        draw.line([(0, at), (FULL, at)], fill=colour(ground + 22))
    trace(canvas, place(name, Pose(), rng), (235, 240, 250), width=rng.uniform(0.06, 0.12), rng=rng)
    return finish(canvas), None
