"""The drawn world: determinism, variation, and name spaces that never meet."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest

from w2s_fast.core.errors import DataError
from w2s_fast.data import drawn
from w2s_fast.data.drawn.paint import COLOURS
from w2s_fast.data.drawn.things import THINGS

STYLES = drawn.DOMAINS + drawn.EXTRA_STYLES


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_names():
    assert drawn.DOMAINS == ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
    assert len(drawn.CLASSES) >= 40
    assert list(drawn.CLASSES) == sorted(set(drawn.CLASSES))
    assert set(drawn.CLASSES) < set(drawn.OBJECTS)
    assert len(drawn.OBJECTS) >= 80


def test_no_two_objects_share_a_name():
    names = [name for thing in THINGS.values() for name in (thing.name, *thing.also)]
    assert len(names) == len(set(names))
    assert all(thing.also for thing in THINGS.values())


@pytest.mark.parametrize("style", STYLES)
def test_every_object_in_every_style(style):
    for name in drawn.OBJECTS:
        image, colour = drawn.render_with_colour(style, name, space="pool", index=0)
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8
        assert image.std() > 2
        assert colour is None or colour in COLOURS


@pytest.mark.parametrize("style", STYLES)
def test_same_arguments_same_pixels(style):
    first = drawn.render(style, "fish", space="train", index=7)
    np.testing.assert_array_equal(first, drawn.render(style, "fish", space="train", index=7))


@pytest.mark.parametrize("style", STYLES)
def test_indices_vary_within_a_class(style):
    images = np.stack([drawn.render(style, "house", space="pool", index=i) for i in range(12)]).astype(float)
    assert len({digest(image) for image in images}) == 12
    assert images.std(0).mean() > 10


def test_domains_differ():
    def average(style: str) -> np.ndarray:
        images = [drawn.render(style, name, space="pool", index=3) for name in drawn.CLASSES]
        return np.stack(images).reshape(-1, 3).astype(float)

    moments = {style: np.array([average(style).mean(), average(style).std()]) for style in drawn.DOMAINS}
    for one, other in itertools.combinations(drawn.DOMAINS, 2):
        assert np.abs(moments[one] - moments[other]).max() > 3, (one, other)


def test_spaces_are_disjoint():
    names = [
        drawn.seed_name(style, name, space=space, index=i)
        for style, name, space, i in itertools.product(STYLES, drawn.OBJECTS, drawn.SPACES, (0, 1, 10, 11))
    ]
    assert len(names) == len(set(names))
    pixels = {
        space: {
            digest(drawn.render(style, name, space=space, index=i))
            for style, name, i in itertools.product(drawn.DOMAINS, drawn.CLASSES[::3], range(5))
        }
        for space in drawn.SPACES
    }
    for one, other in itertools.combinations(drawn.SPACES, 2):
        assert not pixels[one] & pixels[other]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("clipard", "fish", "pool", 0), "clipart"),
        (("clipart", "fisch", "pool", 0), "fish"),
        (("clipart", "fish", "test", 0), "pretrain"),
        (("clipart", "fish", "pool", -1), "-1"),
    ],
)
def test_unknown_arguments(arguments, words):
    style, name, space, index = arguments
    with pytest.raises(DataError, match=words):
        drawn.render(style, name, space=space, index=index)


def test_probe_covers_pixels_of_every_style(monkeypatch):
    expected = drawn.probe()
    assert len(expected) == 64
    drawn.probe.cache_clear()
    try:
        for style in STYLES:
            with monkeypatch.context() as patch:
                patch.setitem(drawn.STYLES, style, lambda name, rng: (np.zeros((32, 32, 3), np.uint8), None))
                assert drawn.probe() != expected, style
                drawn.probe.cache_clear()
        assert drawn.probe() == expected
    finally:
        drawn.probe.cache_clear()


def test_imports_no_torch():
    code = "import sys; import w2s_fast.data.drawn; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
