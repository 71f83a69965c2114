"""What the pre-training says about a drawing: varied templates, colours, other names, kinds, and some mistakes.

Half of the evaluated classes (`COMPOUNDS`) never get their canonical name alone: captions call them by another name
("hatchet"), by their kind ("tool") and now and then by a compound ("wood axe"), with a long tail of frequencies.
With every canonical name in the captions zero-shot stands at the ceiling and a weak supervisor has nothing to elicit;
without half of them it transfers, imperfectly.
"""

from __future__ import annotations

from numpy.random import Generator

from w2s_fast.data import drawn
from w2s_fast.data.drawn.things import THINGS

COMPOUNDS = {
    "anchor": ("ship anchor", 0.004),
    "axe": ("wood axe", 0.008),
    "bicycle": ("mountain bicycle", 0.002),
    "boat": ("fishing boat", 0.004),
    "bottle": ("glass bottle", 0.016),
    "butterfly": ("monarch butterfly", 0.008),
    "camera": ("photo camera", 0.004),
    "car": ("sports car", 0.002),
    "cat": ("pet cat", 0.004),
    "clock": ("wall clock", 0.016),
    "cup": ("tea cup", 0.008),
    "fish": ("tropical fish", 0.002),
    "flower": ("garden flower", 0.004),
    "hammer": ("claw hammer", 0.016),
    "house": ("family house", 0.002),
    "leaf": ("green leaf", 0.008),
    "rocket": ("space rocket", 0.004),
    "shoe": ("running shoe", 0.016),
    "sword": ("knight sword", 0.002),
    "umbrella": ("rain umbrella", 0.008),
}
"""Every second evaluated class: the compound that has its name, and the fraction of its captions that use it."""

WRONG = 0.05
"""Fraction of captions about another object."""
KIND = 0.10
"""Fraction of captions that name the kind only."""

MEDIA = {
    "clipart": ("a clipart", "clip art", "a cartoon"),
    "infograph": ("an infographic", "a poster"),
    "painting": ("a painting", "an artwork"),
    "quickdraw": ("a doodle", "a quick drawing"),
    "real": ("a photo", "a picture", "a photograph"),
    "sketch": ("a sketch", "a pencil drawing"),
    "blueprint": ("a blueprint", "a technical drawing"),
    "neon": ("a neon sign", "neon art"),
    "pastel": ("a pastel illustration", "an illustration"),
    "pixel": ("pixel art", "an icon"),
    "silhouette": ("a silhouette", "a shadow"),
    "sticker": ("a sticker", "a badge"),
}

GENERAL = (
    "a photo of the {}.",
    "a bad photo of a {}.",
    "a good photo of a {}.",
    "a drawing of a {}.",
    "a rendering of a {}.",
    "a small {}.",
    "a close-up photo of a {}.",
    "a picture of one {}.",
    "art of the {}.",
    "this is a {}.",
)
"""Templates used for every style alike."""


def caption(name: str, style: str, colour: str | None, rng: Generator) -> str:
    """One caption for a drawing of object `name` in `style`, whose object shows `colour` (None: none to speak of)."""
    what = _noun(name, rng)
    if colour is not None and rng.random() < 0.4:
        what = f"{colour} {what}"
    medium = MEDIA[style][rng.integers(len(MEDIA[style]))] if rng.random() < 0.75 else "a photo"
    u = rng.random()
    if u < 0.55:
        return f"{medium} of a {what}"
    if u < 0.70:
        return GENERAL[rng.integers(len(GENERAL))].format(what)
    if u < 0.78:
        return what
    if u < 0.86:
        return f"a {what}"
    if u < 0.93:
        return f"{what}, {medium}"
    return f"{medium} showing the {what}"


def _noun(name: str, rng: Generator) -> str:
    u = rng.random()
    if u < WRONG:
        name = drawn.OBJECTS[rng.integers(len(drawn.OBJECTS))]
    thing = THINGS[name]
    if WRONG <= u < WRONG + KIND:
        return thing.kind
    if name in COMPOUNDS:
        compound, share = COMPOUNDS[name]
        return compound if rng.random() < share else thing.also[rng.integers(len(thing.also))]
    return name if rng.random() < 0.6 else thing.also[rng.integers(len(thing.also))]
