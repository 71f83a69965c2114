"""The vocabulary of the object tables: filled regions and strokes, in four inks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

BODY, ACCENT, DARK, LIGHT = range(4)
"""Inks: the object's own colour, a second colour, and a dark and a light relative of the first."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One region or stroke of an object.

    `points` lie on a canvas from -10 to 10 with y pointing down; `width` is that of a stroke in the same unit
    (0 for a region); `chance` is the probability that one drawing of the object has this part.
    """

    points: Points
    ink: int
    filled: bool
    width: float = 0.0
    chance: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object: its canonical name, the kind it belongs to, other names for it, and its parts from back to front."""

    name: str
    kind: str
    also: tuple[str, ...]
    parts: tuple[Part, ...]


def polygon(ink: int, points: str) -> Part:
    """A filled polygon; `points` reads "x,y x,y ..."."""
    return Part(points=_read(points), ink=ink, filled=True)


def ellipse(ink: int, x: float, y: float, rx: float, ry: float) -> Part:
    """A filled ellipse around (x, y) with the given radii."""
    return Part(points=_round(x, y, rx, ry), ink=ink, filled=True)


def sector(ink: int, x: float, y: float, rx: float, ry: float, start: float, end: float) -> Part:
    """A filled piece of an ellipse between two angles in degrees, clockwise from the right, closed by its chord."""
    return Part(points=_curve(x, y, rx, ry, start, end), ink=ink, filled=True)


def stroke(ink: int, width: float, points: str) -> Part:
    """An open line through `points` ("x,y x,y ...") of the given width."""
    return Part(points=_read(points), ink=ink, filled=False, width=width)


def loop(ink: int, width: float, x: float, y: float, rx: float, ry: float) -> Part:
    """The outline of an ellipse, as a closed line of the given width."""
    ring = _round(x, y, rx, ry)
    return Part(points=(*ring, ring[0]), ink=ink, filled=False, width=width)


def arc(ink: int, width: float, x: float, y: float, rx: float, ry: float, start: float, end: float) -> Part:
    """A piece of an ellipse's outline between two angles in degrees, clockwise from the right."""
    return Part(points=_curve(x, y, rx, ry, start, end), ink=ink, filled=False, width=width)


def maybe(part: Part, chance: float = 0.4) -> Part:
    """The same part, present in a fraction `chance` of the drawings."""
    return replace(part, chance=chance)


def _read(points: str) -> Points:
    pairs = (pair.split(",") for pair in points.split())
    return tuple((float(x), float(y)) for x, y in pairs)


def _round(x: float, y: float, rx: float, ry: float, corners: int = 18) -> Points:
    angles = (2 * math.pi * i / corners for i in range(corners))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def _curve(x: float, y: float, rx: float, ry: float, start: float, end: float, corners: int = 12) -> Points:
    angles = (math.radians(start + (end - start) * i / (corners - 1)) for i in range(corners))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)
