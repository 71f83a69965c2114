"""The tasks that are timed: class-structured features, a noisy supervisor, and split sizes of DomainNet's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.train import Start, Supervision

FEAT_SCALE = 10.0
"""What linear probes multiply unit features by."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a task; rows in the order train, val, test."""

    case: str
    n_train: int
    n_val: int
    n_test: int
    k: int
    d: int

    @property
    def n(self) -> int:
        return self.n_train + self.n_val + self.n_test


CLIPART = Shape(case="clipart", n_train=9346, n_val=2337, n_test=2921, k=345, d=512)
CLIPART_768 = Shape(case="clipart", n_train=9346, n_val=2337, n_test=2921, k=345, d=768)
REAL = Shape(case="real", n_train=33305, n_val=8327, n_test=10409, k=345, d=768)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Row numbers of a split, as the engine takes them."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Features f[n, d], truth i[n], weak logits f[n, k] and text features f[k, d] of a shape, on one device."""

    shape: Shape
    x: Tensor
    truth: Tensor
    weak: Tensor
    text: Tensor

    @cached_property
    def unit(self) -> Tensor:
        return F.normalize(self.x, dim=1)

    @cached_property
    def scaled(self) -> Tensor:
        return self.unit * FEAT_SCALE

    def inputs(self, head: str) -> Tensor:
        """Features as a head reads them, made once and outside of every baseline's clock."""
        return self.scaled if head == "linear" else self.unit

    @property
    def train(self) -> slice:
        return slice(0, self.shape.n_train)

    @property
    def val(self) -> slice:
        return slice(self.shape.n_train, self.shape.n_train + self.shape.n_val)

    @property
    def test(self) -> slice:
        return slice(self.shape.n_train + self.shape.n_val, self.shape.n)

    @property
    def start(self) -> Start:
        names = tuple(f"class {c}" for c in range(self.shape.k))
        return Start(k=self.shape.k, d=self.shape.d, names=names, text=self.text)

    @property
    def supervision(self) -> Supervision:
        return Supervision(weak=self.weak)

    def rows(self, *, with_test: bool) -> Rows:
        """The split that the engine is given; without test rows it evaluates what the baselines evaluate: val."""
        every = np.arange(self.shape.n)
        test = every[self.test] if with_test else every[:0]
        return Rows(train=every[self.train], val=every[self.val], test=test)

    @cached_property
    def host(self) -> World:
        """The same on the CPU, where a DataLoader reads."""
        return self if self.x.device.type == "cpu" else self.to("cpu")

    def to(self, device: str) -> World:
        x, truth, weak, text = (t.to(device) for t in (self.x, self.truth, self.weak, self.text))
        return World(shape=self.shape, x=x, truth=truth, weak=weak, text=text)


def make_world(
    shape: Shape, *, seed: int = 0, noise: float = 1.0, weak_noise: float = 2.2, text_noise: float = 1.5
) -> World:
    """A task whose classes come in super-classes, in a narrow cone, under a supervisor that sees another view.

    With the default noise and "clipart" the supervisor is right on about six rows of ten, a student on about seven.
    """
    g = torch.Generator().manual_seed(seed)
    k, d, n = shape.k, shape.d, shape.n
    kind = torch.arange(k) % max(1, k // 15)

    def centres(width: int) -> Tensor:
        own, family = torch.randn(k, width, generator=g), torch.randn(int(kind.max()) + 1, width, generator=g)
        return F.normalize(own + family[kind], dim=1)

    def near(points: Tensor, spread: float) -> Tensor:
        return points + spread * torch.randn(points.shape, generator=g) / points.shape[1] ** 0.5

    truth = torch.arange(n)[torch.randperm(n, generator=g)] % k
    seen, told = centres(d), centres(64)
    cone = F.normalize(torch.randn(1, d, generator=g), dim=1)
    x = F.normalize(near(seen[truth], noise * (d / 64) ** 0.5) + cone, dim=1)
    x = x * (10 + torch.randn(n, 1, generator=g))
    weak = 36 * F.normalize(near(told[truth], weak_noise), dim=1) @ told.T
    return World(shape=shape, x=x, truth=truth, weak=weak, text=F.normalize(near(seen, text_noise) + cone, dim=1))
