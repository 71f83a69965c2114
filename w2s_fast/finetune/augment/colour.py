"""Brightness, contrast, saturation and hue, and grey images: batches of pixels [b, h, w, 3], each row its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.fields import Limits

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """With probability `p` brightness, contrast and saturation by 1 +- their strength, and hue by +- `hue` turns.

    In this order; torchvision draws the order too. Hue turns in the YIQ plane instead of HSV.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    p: float = 0.8
    draws: ClassVar[int] = 5
    limits: ClassVar[Limits] = {"p": "[0, 1]", "hue": "[0, 0.5]"}

    def __call__(self, x: Tensor, u: NDArray[np.float64]) -> Tensor:
        out = x.float()
        strength = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        by = torch.from_numpy((strength * (2 * u[:, 1:] - 1)).astype(np.float32)).to(x.device)[:, :, None, None, None]
        out = (out * (1 + by[:, 0])).clamp(0, 255)
        middle = grey(out).mean((1, 2, 3), keepdim=True)
        out = (middle + (out - middle) * (1 + by[:, 1])).clamp(0, 255)
        flat = grey(out)
        out = (flat + (out - flat) * (1 + by[:, 2])).clamp(0, 255)
        out = _turned(out, by[:, 3] * (2 * torch.pi)).clamp(0, 255)
        taken = torch.from_numpy(u[:, 0] < self.p).to(x.device)
        return torch.where(taken[:, None, None, None], out, x.float())


@dataclass(frozen=True, kw_only=True)
class Gray:
    """Without colour, with probability `p`."""

    p: float = 0.2
    draws: ClassVar[int] = 1
    limits: ClassVar[Limits] = {"p": "[0, 1]"}

    def __call__(self, x: Tensor, u: NDArray[np.float64]) -> Tensor:
        taken = torch.from_numpy(u[:, 0] < self.p).to(x.device)
        return torch.where(taken[:, None, None, None], grey(x.float()).expand(x.shape), x.float())


def grey(x: Tensor) -> Tensor:
    """Luminance f[b, h, w, 1]."""
    return (x * torch.tensor(GREY, device=x.device)).sum(-1, keepdim=True)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    to_yiq = x.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    y, i, q = (x @ to_yiq.T).unbind(-1)
    cos, sin = angle[..., 0].cos(), angle[..., 0].sin()
    return torch.stack([y, i * cos - q * sin, i * sin + q * cos], -1) @ torch.linalg.inv(to_yiq).T
