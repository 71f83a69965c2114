"""Styles with light and texture: real, painting."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from w2s_fast.data.drawn.paint import FULL, Colour, Ink, colour, fill, finish, palette, smooth_noise
from w2s_fast.data.drawn.pose import Pose, place

Drawing = tuple[NDArray[np.uint8], str | None]
Pixels = NDArray[np.floating]
_IN_VIEW = Pose(scale=(0.68, 0.95), shift=0.12)
_BRUSHED = Pose(warp=0.1, scale=(0.68, 0.95), shift=0.12)


def real(name: str, rng: Generator) -> Drawing:
    """A photograph of sorts: a textured ground, a shadow, shading, sometimes something in front, grain and blur."""
    shown, inks = palette(rng, spread=25)
    inks = [colour(np.array(ink) * 0.7 + rng.normal(25, 15, 3)) for ink in inks]
    texture = smooth_noise(rng, 4) + 0.6 * smooth_noise(rng, 10) + 0.3 * smooth_noise(rng, 24)
    near, far = _ground(inks[0], rng)
    scene = _blend(near, far, texture * 0.5 + 0.5)
    placed = place(name, _IN_VIEW, rng)
    shadow: Ink = colour(near * 0.35)
    fill(scene, placed.moved(0.07, 0.09), [shadow] * 4)

    mask, lit = Image.new("L", (FULL, FULL), 0), Image.new("RGB", (FULL, FULL))
    fill(mask, placed, [255] * 4)
    fill(lit, placed, list(inks))
    axis, angle = np.linspace(-1, 1, FULL, dtype=np.float32), rng.uniform(0, 2 * math.pi)
    light = 1 + 0.35 * (axis[None] * math.cos(angle) + axis[:, None] * math.sin(angle)) + 0.18 * smooth_noise(rng, 12)
    object_pixels = np.asarray(lit).astype(np.float32) * light[:, :, None]
    inside = np.asarray(mask).astype(np.float32)[:, :, None] / 255
    pixels = np.asarray(scene).astype(np.float32) * (1 - inside) + object_pixels * inside
    if rng.random() < 0.35:
        left, top = (int(v) for v in rng.uniform(0, 0.85, 2) * FULL)
        wide, high = (int(v) for v in rng.uniform(0.1, 0.35, 2) * FULL)
        pixels[top : top + high, left : left + wide] = far
    pixels = pixels * rng.uniform(0.7, 1.15) + rng.normal(0, rng.uniform(3, 14), (FULL, FULL, 1))
    if rng.random() < 0.4:
        blurred = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1))
        return finish(blurred), shown
    return finish(pixels), shown


def painting(name: str, rng: Generator) -> Drawing:
    """Loose brush strokes over everything, displaced edges, few tones, a colour cast."""
    shown, inks = palette(rng, spread=25)
    near, far = _ground(inks[0], rng)
    canvas = _blend(near, far, smooth_noise(rng, 5) + 0.5)
    placed = place(name, _BRUSHED, rng)
    fill(canvas, placed, list(inks), line=inks[2] if rng.random() < 0.6 else None, width=0.05)
    _brush(canvas, rng)

    reach, grid = rng.uniform(0.8, 2.2), np.arange(FULL)
    rows = np.clip((grid[:, None] + smooth_noise(rng, 12) * reach).astype(int), 0, FULL - 1)
    columns = np.clip((grid[None] + smooth_noise(rng, 12) * reach).astype(int), 0, FULL - 1)
    pixels = np.asarray(canvas).astype(np.float32)[rows, columns]
    pixels = pixels * (1 + 0.25 * smooth_noise(rng, 20)[:, :, None]) + rng.uniform(-25, 25, 3)
    return finish(np.round(pixels / 20) * 20), shown


def _ground(body: Colour, rng: Generator) -> tuple[Pixels, Pixels]:
    """Two colours of the ground, redrawn up to six times until they stand out from the object's."""
    near, far = rng.uniform(30, 225, (2, 3)).astype(np.float32)
    for _ in range(6):
        if np.abs(np.array(body) - (near + far) / 2).sum() > 150:
            break
        near, far = rng.uniform(30, 225, (2, 3)).astype(np.float32)
    return near, near + (far - near) * 0.6


def _blend(near: Pixels, far: Pixels, share: Pixels) -> Image.Image:
    mixed = near + (far - near) * np.clip(share, 0, 1)[:, :, None]
    return Image.fromarray(mixed.astype(np.uint8))


def _brush(canvas: Image.Image, rng: Generator) -> None:
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(4, 10)):
        x, y = (float(v) for v in rng.uniform(0, FULL - 1, 2))
        angle, length = rng.uniform(0, math.pi), rng.uniform(0.05, 0.22) * FULL
        under = np.array(canvas.getpixel((int(x), int(y))))
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        draw.line([(x, y), end], fill=colour(under + rng.normal(0, 28, 3)), width=int(rng.uniform(2, 5)))
