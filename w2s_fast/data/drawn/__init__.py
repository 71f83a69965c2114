"""A procedurally drawn miniature DomainNet: about eighty objects in six domains at 32 x 32 pixels.

Every image is a function of its style, its object, the name space and an index: nothing is stored, and images are
made on demand. Name spaces keep what the embedded CLIP was pre-trained on ("pretrain"), what weak supervisors are
trained on ("train") and what experiments see ("pool") disjoint by construction.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError, nearest
from w2s_fast.data.drawn.paint import SIZE
from w2s_fast.data.drawn.styles import EVALUATED, EXTRA, STYLES
from w2s_fast.data.drawn.things import THINGS

RENDERER = 1
"""Version of the drawings: raised whenever any pixel changes, so that other drawings never share an image's name."""

DOMAINS = tuple(EVALUATED)
"""The six evaluated styles, alphabetical."""

EXTRA_STYLES = tuple(EXTRA)
"""Styles that only pre-training sees."""

OBJECTS = tuple(THINGS)
"""All objects, alphabetical; pre-training sees every one."""

CLASSES = (
    "airplane", "anchor", "apple", "axe", "bell", "bicycle", "bird", "boat", "book", "bottle",
    "bus", "butterfly", "cactus", "camera", "candle", "car", "castle", "cat", "chair", "clock",
    "crown", "cup", "envelope", "fish", "flag", "flower", "guitar", "hammer", "hat", "house",
    "key", "leaf", "mushroom", "rocket", "scissors", "shoe", "star", "sword", "tree", "umbrella",
)  # fmt: skip
"""The evaluated objects, alphabetical: label i is CLASSES[i]."""

SPACES = ("pretrain", "train", "pool")
"""Name spaces of indices; an image of one is never drawn from the seed of another."""

TRAIN_PER_CLASS = 16
"""Images per class and domain on which weak supervisors are trained (space "train", indices 0, 1, ...)."""

POOL_PER_CLASS = 100
"""Images per class and domain that experiments see (space "pool", indices 0, 1, ...)."""

__all__ = [
    "CLASSES",
    "DOMAINS",
    "EXTRA_STYLES",
    "OBJECTS",
    "POOL_PER_CLASS",
    "RENDERER",
    "SIZE",
    "SPACES",
    "TRAIN_PER_CLASS",
    "probe",
    "render",
    "render_with_colour",
    "seed_name",
]


def seed_name(style: str, name: str, *, space: str, index: int) -> str:
    """The text whose sha256 seeds one image; it is also a unique, stable name for that image.

    Raises DataError for an unknown style, object or space, or a negative index.
    """
    for what, value, known in (("style", style, STYLES), ("object", name, THINGS), ("space", space, SPACES)):
        if value not in known:
            raise DataError(f"drawn: no {what} is called {value!r}{nearest(value, known)}")
    if index < 0:
        raise DataError(f"drawn: the index of an image counts from 0, not {index}")
    return f"drawn:{RENDERER}:{space}:{style}:{name}:{index}"


def render_with_colour(style: str, name: str, *, space: str, index: int) -> tuple[NDArray[np.uint8], str | None]:
    """Draw one image: uint8 [32, 32, 3] (RGB), and the name of the object's colour, or None where it shows none.

    `style` is one of DOMAINS or EXTRA_STYLES, `name` one of OBJECTS. The same arguments give the same pixels
    (`probe` tells whether the installed numpy and Pillow draw as another's do). Raises DataError as `seed_name`.
    """
    seed = hashlib.sha256(seed_name(style, name, space=space, index=index).encode()).digest()
    return STYLES[style](name, np.random.default_rng(int.from_bytes(seed, "big")))


def render(style: str, name: str, *, space: str, index: int) -> NDArray[np.uint8]:
    """Draw one image: uint8 [32, 32, 3] (RGB). Arguments and errors as `render_with_colour`."""
    return render_with_colour(style, name, space=space, index=index)[0]


@functools.cache
def probe() -> str:
    """sha256 (hex) over a fixed small set of renders of every style.

    Another Pillow or numpy may draw other pixels; this digest then differs, and with it the keys of what was
    computed from them.
    """
    digest = hashlib.sha256()
    for i, style in enumerate(STYLES):
        for name in OBJECTS[i % 7 :: 7]:
            digest.update(render(style, name, space="pool", index=i).tobytes())
    return digest.hexdigest()
