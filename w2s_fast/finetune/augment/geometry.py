"""Mirror, shift, cut and erase: batches of pixels [b, h, w, 3], each row its own way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from w2s_fast.core.fields import Limits

Draws = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirrored left to right with probability `p`."""

    p: float = 0.5
    draws: ClassVar[int] = 1
    limits: ClassVar[Limits] = {"p": "[0, 1]"}

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        return moved(x, flip=self.mirrored(u))

    def mirrored(self, u: Draws) -> NDArray[np.bool_]:
        """Which rows are mirrored."""
        return u[:, 0] < self.p


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Shifted by up to `pad` pixels on each axis (0: an eighth of the side); what comes in is black or the edge's."""

    pad: int = 4
    fill: str = "black"
    draws: ClassVar[int] = 2
    limits: ClassVar[Limits] = {"pad": "[0, inf)", "fill": ("black", "edge")}

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        down, right = self.shifts(u, x.shape[1], x.shape[2])
        return moved(x, down=down, right=right, edge=self.fill == "edge")

    def shifts(self, u: Draws, h: int, w: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """By how many pixels each row is shifted down and to the right."""
        down, right = self.pad or h // 8, self.pad or w // 8
        return tuple(np.floor(u[:, i] * (2 * by + 1)).astype(np.int64) - by for i, by in enumerate((down, right)))  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A box of `low`..1 of the area and a side ratio of 3/4..4/3, bilinearly enlarged to the image's size.

    torchvision and timm try ten boxes and take a centre crop if none fits; here one that does not fit is clipped to
    the image, and interpolation is bilinear (timm's `random` also takes bicubic).
    """

    low: float = 0.08
    draws: ClassVar[int] = 4
    limits: ClassVar[Limits] = {"low": "(0, 1]"}

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        h, w = x.shape[1:3]
        area = (self.low + (1 - self.low) * u[:, 0]) * h * w
        ratio = np.exp((2 * u[:, 1] - 1) * math.log(4 / 3))
        high, wide = (np.minimum(np.sqrt(area / ratio), h), np.minimum(np.sqrt(area * ratio), w))
        top, left = u[:, 2] * (h - high), u[:, 3] * (w - wide)
        device = x.device

        def axis(start: NDArray[np.float64], length: NDArray[np.float64], size: int) -> Tensor:
            at = start[:, None] + (np.arange(size) + 0.5) / size * length[:, None]
            return torch.from_numpy((2 * at / size - 1).astype(np.float32)).to(device)

        ys, xs = axis(top, high, h), axis(left, wide, w)
        grid = torch.stack(torch.broadcast_tensors(xs[:, None, :], ys[:, :, None]), -1)
        pixels = x.permute(0, 3, 1, 2).float()
        out = grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return out.permute(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class Erase:
    """A rectangle of 2 to 33 % of the area made grey with probability `p`. timm's `pixel` mode fills it with noise."""

    p: float = 0.25
    draws: ClassVar[int] = 5
    limits: ClassVar[Limits] = {"p": "[0, 1]"}

    def __call__(self, x: Tensor, u: Draws) -> Tensor:
        h, w = x.shape[1:3]
        area = (0.02 + 0.31 * u[:, 1]) * h * w
        ratio = np.exp((2 * u[:, 2] - 1) * math.log(1 / 0.3))
        high, wide = np.minimum(np.sqrt(area / ratio), h), np.minimum(np.sqrt(area * ratio), w)
        top, left = u[:, 3] * (h - high), u[:, 4] * (w - wide)
        ys, xs = np.arange(h) + 0.5, np.arange(w) + 0.5
        rows = (ys >= top[:, None]) & (ys < (top + high)[:, None])
        columns = (xs >= left[:, None]) & (xs < (left + wide)[:, None])
        hit = rows[:, :, None] & columns[:, None, :] & (u[:, 0] < self.p)[:, None, None]
        grey = torch.tensor(128, dtype=x.dtype, device=x.device)
        return torch.where(torch.from_numpy(hit).to(x.device)[..., None], grey, x)


def moved(
    x: Tensor,
    rows: NDArray[np.int64] | None = None,
    *,
    down: NDArray[np.int64] | None = None,
    right: NDArray[np.int64] | None = None,
    flip: NDArray[np.bool_] | None = None,
    edge: bool = False,
) -> Tensor:
    """Images `rows` (None: all) of [n, h, w, 3], each taken from `down` and `right` pixels away, then mirrored where
    `flip`: one pass over the data. What lies outside is 0, or with `edge` the nearest pixel."""
    _, h, w, c = x.shape
    rows = np.arange(len(x)) if rows is None else rows
    if x.device.type == "cpu" and x.dtype == torch.uint8 and c == 3 and not edge and x.is_contiguous():
        return _copied(x, rows, _or_zero(down, len(rows)), _or_zero(right, len(rows)), flip)
    b = len(rows)
    ys, xs = np.arange(h)[None] + _or_zero(down, b)[:, None], np.arange(w)[None] + _or_zero(right, b)[:, None]
    if flip is not None:
        xs = np.where(flip[:, None], xs[:, ::-1], xs)
    inside_y, inside_x = np.clip(ys, 0, h - 1), np.clip(xs, 0, w - 1)
    pixel = (rows[:, None] * h + inside_y)[:, :, None] * w + inside_x[:, None, :]
    index = torch.from_numpy(pixel.reshape(-1)).to(x.device)
    out = x.reshape(-1, c).index_select(0, index).view(b, h, w, c)
    if edge or (np.array_equal(ys, inside_y) and np.array_equal(xs, inside_x)):
        return out
    outside = (ys != inside_y)[:, :, None] | (xs != inside_x)[:, None, :]
    return out.masked_fill_(torch.from_numpy(outside).to(x.device)[..., None], 0)


def _copied(
    x: Tensor,
    rows: NDArray[np.int64],
    down: NDArray[np.int64],
    right: NDArray[np.int64],
    flip: NDArray[np.bool_] | None,
) -> Tensor:
    """The same on a CPU, where copying boxes of 3-byte pixels is eight times as fast as a gather of them."""
    _, h, w, _ = x.shape
    source = x.numpy().view("V3")[..., 0]
    out = np.zeros((len(rows), h, w), "V3")
    mirrored = [False] * len(rows) if flip is None else flip.tolist()
    for number, (row, y, x_by, mirror) in enumerate(
        zip(rows.tolist(), down.tolist(), right.tolist(), mirrored, strict=True)
    ):
        top, bottom, left, end = max(0, -y), min(h, h - y), max(0, -x_by), min(w, w - x_by)
        if top < bottom and left < end:
            target = out[number, :, ::-1] if mirror else out[number]
            target[top:bottom, left:end] = source[row, top + y : bottom + y, left + x_by : end + x_by]
    return torch.from_numpy(out.view(np.uint8).reshape(len(rows), h, w, 3))


def _or_zero(shift: NDArray[np.int64] | None, b: int) -> NDArray[np.int64]:
    return np.zeros(b, np.int64) if shift is None else shift
