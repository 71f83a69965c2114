"""How one drawing of an object differs from another: which parts it has, and where their points lie."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from w2s_fast.data.drawn.parts import Part
from w2s_fast.data.drawn.things import THINGS

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The range of variation of a style; lengths are in units where the canvas spans -1 to 1.

    `turn`: largest rotation, degrees. `warp`: amplitude of the smooth bend of all points. `shake`: standard deviation
    of independent noise per point. `wobble`: standard deviation of each part's own shift (its size varies by three
    times that, in log). `scale`: smallest and largest size. `shift`: standard deviation of the position.
    `stretch`: largest log ratio of width to height. `drop`: probability that a part other than the first is left out.
    """

    turn: float = 25.0
    warp: float = 0.07
    shake: float = 0.0
    wobble: float = 0.018
    scale: tuple[float, float] = (0.7, 0.95)
    shift: float = 0.15
    stretch: float = 0.25
    drop: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """An object ready to be painted: its parts from back to front, their points [m, 2] in -1..1, and its size."""

    parts: tuple[tuple[Part, Array], ...]
    size: float

    @property
    def centre(self) -> tuple[float, float]:
        """The mean of all points, x and y."""
        mean = np.concatenate([points for _, points in self.parts]).mean(0)
        return float(mean[0]), float(mean[1])

    def moved(self, x: float, y: float) -> Placed:
        """The same drawing shifted by (x, y)."""
        offset = np.array([x, y])
        return Placed(parts=tuple((part, points + offset) for part, points in self.parts), size=self.size)


def place(name: str, pose: Pose, rng: Generator) -> Placed:
    """Draw one variation of the object `name` from `pose`; reads `rng` only."""
    parts, rest, owner, centres, cuts = _rest(name)
    n = len(parts)
    shown = rng.random(n) < np.array([part.chance for part in parts])
    shown[1:] &= rng.random(n - 1) >= pose.drop

    grow = np.exp(rng.normal(0, 3 * pose.wobble, n))
    points = rest + (rest - centres[owner]) * (grow[owner] - 1)[:, None] + rng.normal(0, pose.wobble, (n, 2))[owner]
    phase, frequency = rng.uniform(0, 2 * math.pi, 2), rng.uniform(1.5, 4, 2)
    points[:, 0] += pose.warp * np.sin(frequency[0] * points[:, 1] + phase[0])
    points[:, 1] += pose.warp * np.sin(frequency[1] * points[:, 0] + phase[1])
    if pose.shake:
        points += rng.normal(0, pose.shake, points.shape)
    if rng.random() < 0.5:
        points[:, 0] *= -1

    size = rng.uniform(*pose.scale)
    stretch = math.exp(rng.uniform(-pose.stretch, pose.stretch) / 2)
    shear = rng.uniform(-0.2, 0.2)
    turn = math.radians(rng.uniform(-pose.turn, pose.turn))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = points @ (rotation @ np.array([[size * stretch, shear * size], [0, size / stretch]])).T
    points += np.clip(rng.normal(0, pose.shift, 2), -0.3, 0.3)
    pieces = np.split(points, cuts)
    return Placed(parts=tuple((parts[i], pieces[i]) for i in range(n) if shown[i]), size=size)


@functools.cache
def _rest(name: str) -> tuple[tuple[Part, ...], Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """Parts, points at rest [m, 2], the part of each point [m], centres of parts [n, 2], inner cuts [n - 1]."""
    parts = THINGS[name].parts
    pieces = [np.array(part.points) / 10 for part in parts]
    lengths = [len(piece) for piece in pieces]
    owner = np.repeat(np.arange(len(parts)), lengths)
    centres = np.stack([piece.mean(0) for piece in pieces])
    return parts, np.concatenate(pieces), owner, centres, np.cumsum(lengths)[:-1]
