"""What a network is trained on: the view of each image in an epoch, prepared for the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import DataError
from w2s_fast.finetune.augment import MIXES, total_draws
from w2s_fast.finetune.augment.geometry import Crop, Flip, moved
from w2s_fast.finetune.draws import Keys, order, uniforms

Rows = NDArray[np.int64]
MIX_STREAM = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A batch: inputs f[b, 3, h, w]; with mixing, the row number of each partner and the share f64[b] of the first."""

    x: Tensor
    partner: Rows | None = None
    share: NDArray[np.float64] | None = None


class Views(Protocol):
    """Views of n images."""

    @property
    def n(self) -> int: ...

    def batch(self, rows: Rows, *, seed: int, epoch: int) -> View:
        """The views of these rows in an epoch, on the device."""
        ...


class Source(Protocol):
    """Pixels of n images of one size, in memory or decoded when asked for."""

    @property
    def n(self) -> int: ...

    def pixels(self, rows: Rows) -> Tensor:
        """Bytes [b, h, w, 3]."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """Pixels in memory or on a GPU, bytes [m, h, w, 3], and which of them these n images are (None: all)."""

    data: Tensor
    rows: Rows | None = None

    @property
    def n(self) -> int:
        return len(self.data) if self.rows is None else len(self.rows)

    def at(self, rows: Rows) -> Rows:
        """Their places in `data`."""
        return rows if self.rows is None else self.rows[rows]

    def pixels(self, rows: Rows) -> Tensor:
        return moved(self.data, self.at(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class AugmentedViews:
    """Views of `source`'s images: `augments` in order by draws of (seed, epoch, key), then (x / 255 - mean) / std.

    keys: u64[n] (draws.keys_of). Consecutive shifting and mirroring is one pass over the data.
    """

    source: Source
    mean: Sequence[float]
    std: Sequence[float]
    keys: Keys
    augments: Sequence[Any] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if len(self.keys) != self.source.n:
            raise DataError(f"{len(self.keys)} keys for {self.source.n} images")

    @property
    def n(self) -> int:
        return self.source.n

    def batch(self, rows: Rows, *, seed: int, epoch: int) -> View:
        mixes = self.augments and type(self.augments[-1]).__name__ in _MIXERS
        plain = list(self.augments[:-1] if mixes else self.augments)
        x = self._augmented(rows, plain, seed, epoch)
        if not mixes:
            return View(x=self.prepared(x))
        mix = self.augments[-1]
        partner = self.partners(seed, epoch)[rows]
        other = self._augmented(partner, plain, seed, epoch)
        u = uniforms(seed, epoch, self.keys[rows], mix.draws, stream=MIX_STREAM)
        mixed, share = mix(x, other, u)
        return View(x=self.prepared(mixed), partner=partner, share=share)

    def partners(self, seed: int, epoch: int) -> Rows:
        """The partner of every row in an epoch: the one before it in the epoch's ring of sorted hashes."""
        ring = np.argsort(uniforms(seed, epoch, self.keys, 1, stream=MIX_STREAM + 1)[:, 0], kind="stable")
        partner = np.empty(self.n, np.int64)
        partner[ring] = np.roll(ring, 1)
        return partner

    def plain(self, rows: Rows) -> Tensor:
        """Without augmentation, prepared for the network: what is evaluated."""
        return self.prepared(self.source.pixels(rows))

    def prepared(self, x: Tensor) -> Tensor:
        """Pixels [b, h, w, 3] -> f[b, 3, h, w], channels last."""
        return prepared(x, self.mean, self.std, self.device)

    def _augmented(self, rows: Rows, augments: list[Any], seed: int, epoch: int) -> Tensor:
        u = uniforms(seed, epoch, self.keys[rows], total_draws(augments))
        at = 0
        first: Callable[[], Tensor] = lambda: self.source.pixels(rows)  # noqa: E731
        if augments and isinstance(self.source, Resident) and isinstance(augments[0], Crop | Flip):
            x, used = self._moved(rows, augments, u)
            at = total_draws(augments[:used])
            augments = augments[used:]
        else:
            x = first()
        for one in augments:
            x = one(x, u[:, at : at + one.draws])
            at += one.draws
        return x

    def _moved(self, rows: Rows, augments: list[Any], u: NDArray[np.float64]) -> tuple[Tensor, int]:
        """The first shift and the mirroring after it in one pass, and how many augmentations that were."""
        assert isinstance(self.source, Resident)
        data, leading, rows = self.source.data, augments[0], self.source.at(rows)
        if isinstance(leading, Flip):
            return moved(data, rows, flip=leading.mirrored(u[:, :1])), 1
        down, right = leading.shifts(u[:, :2], data.shape[1], data.shape[2])
        follows = len(augments) > 1 and isinstance(augments[1], Flip)
        flip = augments[1].mirrored(u[:, 2:3]) if follows else None
        edge = leading.fill == "edge"
        return moved(data, rows, down=down, right=right, flip=flip, edge=edge), 2 if follows else 1


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedViews:
    """Images that are prepared already: f[n, 3, h, w], or a function of row numbers that gives such a batch."""

    images: Tensor | Callable[[Tensor], Tensor]
    count: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def n(self) -> int:
        return self.count

    def batch(self, rows: Rows, *, seed: int, epoch: int) -> View:
        return View(x=self.plain(rows))

    def plain(self, rows: Rows) -> Tensor:
        """f[b, 3, h, w] of the rows."""
        numbers = torch.from_numpy(rows)
        x = self.images[numbers] if isinstance(self.images, Tensor) else self.images(numbers)
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def prepared(x: Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Tensor:
    """Pixels [b, h, w, 3] in 0..255 -> (x / 255 - mean) / std, f[b, 3, h, w] on the device, channels last."""
    b, h, w, c = x.shape
    x = x.to(device, non_blocking=True)
    # a row of w pixels at a time, so that the inner loop is long
    centre, spread = (torch.tensor(list(v) * w, dtype=torch.float32, device=device) for v in (mean, std))
    rows = x.to(torch.float32).reshape(b * h, w * c)
    rows = rows.clone() if rows.data_ptr() == x.data_ptr() else rows
    return rows.div_(255).sub_(centre).div_(spread).view(b, h, w, c).permute(0, 3, 1, 2)


def batches(seed: int, epoch: int, n: int, size: int) -> list[Rows]:
    """The rows of each step of an epoch; a last batch of one, which batch norm cannot take, joins the one before."""
    found = np.split(order(seed, epoch, n), np.arange(size, n, size))
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [np.concatenate(found[-2:])]
    return found


_MIXERS = ("Mixup", "Cutmix", "MixupOrCutmix")
assert len(_MIXERS) == len(MIXES)
