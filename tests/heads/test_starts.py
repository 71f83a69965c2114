"""Where class rows start, against numpy loops over the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from head_worlds import World

from w2s_fast.core.errors import MissingText, UsageError


def rows_of(world, spec):
    return next(iter(world.begin(spec)[1].values())).double().numpy()


def direction(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_class_means_are_those_of_the_train_rows_with_that_label():
    world = World(missing=2)
    expected = np.zeros((world.K, world.D))
    for c in range(world.K):
        mine = [r for r in world.rows.tolist() if int(world.labels[r]) == c]
        known = [r for r in world.rows.tolist() if int(world.labels[r]) >= 0]
        expected[c] = world.hats().numpy()[mine or known].mean(0)
    assert not (world.labels == 2).any()
    found = rows_of(world, "prototype(init='class_mean', init_norm=0)")
    assert np.allclose(found, expected, atol=1e-6), "own lengths with init_norm=0"
    assert np.allclose(rows_of(world, "prototype(init='class_mean', init_norm=5)"), 5 * direction(expected), atol=1e-5)
    linear = rows_of(world, "linear(init='class_mean', tau0=0.1, x_scale=4)")
    assert np.allclose(linear, direction(expected) / 0.4, atol=1e-5)


def test_zero_shot_means_are_those_of_the_nearest_text():
    world = World()
    world.text[1] = world.text[0]  # ties go to class 0, so that 1 is nobody's nearest
    text = direction(world.text.double().numpy())
    nearest = (world.hats().numpy() @ text.T).argmax(1)
    expected = text.copy()
    for c in set(nearest[world.rows].tolist()):
        expected[c] = np.mean([world.hats().numpy()[r] for r in world.rows.tolist() if nearest[r] == c], axis=0)
    assert 1 not in nearest[world.rows]
    assert np.allclose(rows_of(world, "prototype(init='zero_shot', init_norm=0)"), expected, atol=1e-5)


def test_text_keeps_its_own_length_only_where_asked():
    world = World()
    assert np.allclose(rows_of(world, "prototype(init_norm=0)"), world.text.double().numpy())
    assert np.allclose(np.linalg.norm(rows_of(world, "prototype"), axis=1), 10)


@pytest.mark.parametrize("head", ["prototype", "linear"])
def test_what_a_start_needs_is_told(head):
    with pytest.raises(MissingText, match="init='zero_shot' needs text"):
        rows_of(World(text=False), f"{head}(init='zero_shot')")
    with pytest.raises(UsageError, match=r"reads ground-truth labels.*init='weak_mean'"):
        rows_of(World(labels=False), f"{head}(init='class_mean')")
