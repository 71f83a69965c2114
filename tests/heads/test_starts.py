"""Where class rows start, against numpy loops over the same rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.heads import Start, make

K, D, N = 4, 6, 40


class Table:
    """A feature table that is read in parts of 7 rows, so that sums over parts are tested."""

    def __init__(self, x):
        self.x, (self.n, self.d) = x, x.shape

    def batches(self, rows, size):
        for i in range(0, len(rows), 7):
            yield rows[i : i + 7], self.x[rows[i : i + 7]]


class World:
    def __init__(self, *, text=True, labels=True, missing=None):
        g = torch.Generator().manual_seed(4)
        self.x = torch.randn(N, D, generator=g)
        self.weak = 2 * torch.randn(N, K, generator=g)
        self.labels = torch.randint(0, K, (N,), generator=g)
        if missing is not None:
            self.labels[self.labels == missing] = (missing + 1) % K
        self.labels[::9] = -1
        self.rows = torch.arange(3, N)
        self.text = 3 * torch.randn(K, D, generator=g)
        self.start = Start(k=K, d=D, text=self.text if text else None)
        self.supervision = SimpleNamespace(
            probs=lambda rows: self.weak[rows].softmax(-1), labels=self.labels if labels else None
        )

    def rows_of(self, spec):
        theta = make(spec).init(self.start, seed=0, x=Table(self.x), rows=self.rows, supervision=self.supervision)
        return next(iter(theta.values())).double().numpy()

    def hats(self):
        x = self.x.double().numpy()
        return x / np.linalg.norm(x, axis=1, keepdims=True)


def direction(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_class_means_are_those_of_the_train_rows_with_that_label():
    world = World(missing=2)
    expected = np.zeros((K, D))
    for c in range(K):
        mine = [r for r in world.rows.tolist() if int(world.labels[r]) == c]
        known = [r for r in world.rows.tolist() if int(world.labels[r]) >= 0]
        expected[c] = world.hats()[mine or known].mean(0)
    assert not (world.labels == 2).any()
    found = world.rows_of("prototype(init='class_mean', init_norm=0)")
    assert np.allclose(found, expected, atol=1e-6), "own lengths with init_norm=0"
    assert np.allclose(world.rows_of("prototype(init='class_mean', init_norm=5)"), 5 * direction(expected), atol=1e-5)
    linear = world.rows_of("linear(init='class_mean', tau0=0.1, x_scale=4)")
    assert np.allclose(linear, direction(expected) / 0.4, atol=1e-5)


def test_zero_shot_means_are_those_of_the_nearest_text():
    world = World()
    world.text[1] = world.text[0]  # ties go to class 0, so that 1 is nobody's nearest
    text = direction(world.text.double().numpy())
    nearest = (world.hats() @ text.T).argmax(1)
    expected = text.copy()
    for c in set(nearest[world.rows].tolist()):
        expected[c] = np.mean([world.hats()[r] for r in world.rows.tolist() if nearest[r] == c], axis=0)
    assert 1 not in nearest[world.rows]
    assert np.allclose(world.rows_of("prototype(init='zero_shot', init_norm=0)"), expected, atol=1e-5)


def test_text_keeps_its_own_length_only_where_asked():
    world = World()
    assert np.allclose(world.rows_of("prototype(init_norm=0)"), world.text.double().numpy())
    assert np.allclose(np.linalg.norm(world.rows_of("prototype"), axis=1), 10)


@pytest.mark.parametrize("head", ["prototype", "linear"])
def test_what_a_start_needs_is_told(head):
    with pytest.raises(MissingText, match="init='zero_shot' needs text"):
        World(text=False).rows_of(f"{head}(init='zero_shot')")
    with pytest.raises(UsageError, match=r"reads ground-truth labels.*init='weak_mean'"):
        World(labels=False).rows_of(f"{head}(init='class_mean')")
