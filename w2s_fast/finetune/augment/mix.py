"""Mixup and cutmix: the partner of an image in an epoch is drawn from all training images, like everything from
(seed, epoch, image), and so are the shares: a mixed image too is a function of these, whatever its batch.

Published code mixes with the reversed batch and one share per batch; the distribution over images is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.fields import Limits

Shares = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """share x + (1 - share) partner, share ~ Beta(alpha, alpha). Zhang et al. 2018, arXiv 1710.09412."""

    alpha: float = 0.1
    draws: ClassVar[int] = 2
    limits: ClassVar[Limits] = {"alpha": "(0, inf)"}

    def __call__(self, x: Tensor, partner: Tensor, u: Shares) -> tuple[Tensor, Shares]:
        """Pixels [b, h, w, 3] of both, and draws -> mixed pixels, and the shares f64[b] of the first."""
        share = beta(u, self.alpha)
        by = torch.from_numpy(share.astype(np.float32)).to(x.device)[:, None, None, None]
        return x.float() * by + partner.float() * (1 - by), share


@dataclass(frozen=True, kw_only=True)
class Cutmix:
    """A box of 1 - share of the area is the partner's, share ~ Beta(alpha, alpha). Yun et al., arXiv 1905.04899."""

    alpha: float = 1.0
    draws: ClassVar[int] = 4
    limits: ClassVar[Limits] = {"alpha": "(0, inf)"}

    def __call__(self, x: Tensor, partner: Tensor, u: Shares) -> tuple[Tensor, Shares]:
        h, w = x.shape[1:3]
        side = np.sqrt(1 - beta(u[:, :2], self.alpha))

        def span(centre: Shares, size: int) -> NDArray[np.bool_]:
            low = np.clip(np.floor(centre * size - side * size / 2), 0, size)
            high = np.clip(np.floor(centre * size + side * size / 2), 0, size)
            at = np.arange(size)
            return (at >= low[:, None]) & (at < high[:, None])

        box = span(u[:, 2], h)[:, :, None] & span(u[:, 3], w)[:, None, :]
        mixed = torch.where(torch.from_numpy(box).to(x.device)[..., None], partner, x)
        return mixed, 1 - box.mean((1, 2))


@dataclass(frozen=True, kw_only=True)
class MixupOrCutmix:
    """One of the two for each image, evenly (MAE's fine-tuning: .8 and 1)."""

    mixup: float = 0.8
    cutmix: float = 1.0
    draws: ClassVar[int] = 5
    limits: ClassVar[Limits] = {"mixup": "(0, inf)", "cutmix": "(0, inf)"}

    def __call__(self, x: Tensor, partner: Tensor, u: Shares) -> tuple[Tensor, Shares]:
        first, share = Mixup(alpha=self.mixup)(x, partner, u[:, 1:3])
        second, other = Cutmix(alpha=self.cutmix)(x, partner, u[:, 1:5])
        cut = u[:, 0] < 0.5
        mixed = torch.where(torch.from_numpy(cut).to(x.device)[:, None, None, None], second.float(), first)
        return mixed, np.where(cut, other, share)


def beta(u: Shares, alpha: float) -> Shares:
    """Beta(alpha, alpha) numbers f64[b] from the first uniform number of each row, by a table of the distribution."""
    grid, cdf = _half(alpha)
    low = np.interp(2 * np.minimum(u[:, 0], 1 - u[:, 0]), cdf, grid)
    return np.where(u[:, 0] < 0.5, low, 1 - low)


@lru_cache(maxsize=8)
def _half(alpha: float) -> tuple[Shares, Shares]:
    """Values of x <= 1/2 and their distribution given that. With x = sin(t)^2 and t = pi / 4 s^(1 / (2 alpha)) the
    density over s is (sin(2 t) / (2 t))^(2 alpha - 1), without a pole at either end."""
    s = np.linspace(0.0, 1.0, 4097)
    middle = np.pi / 4 * ((s[1:] + s[:-1]) / 2) ** (1 / (2 * alpha))
    cdf = np.concatenate([[0.0], np.cumsum(np.sinc(2 * middle / np.pi) ** (2 * alpha - 1))])
    return np.sin(np.pi / 4 * s ** (1 / (2 * alpha))) ** 2, cdf / cdf[-1]
