"""The small CNN that is the weak supervisor of the drawn world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SIZE = 32
"""Side of the input in pixels."""
MEAN = STD = 0.5
"""Inputs are (x - MEAN) / STD of RGB in 0..1: values in -1..1."""


class DrawnCNN(nn.Module):
    """Three strided 3x3 convolutions with batch norm, global average pooling and a linear head.

    Arguments: `num_classes` k; `width` w, the channels of the first convolution (then 2 w, and d = 4 w features).
    With 40 classes and width 16 it has 26,408 parameters: 53 KB in half precision.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.width = width
        self.features = nn.Sequential(_block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width))
        self.head = nn.Linear(4 * width, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """f[b, 3, 32, 32] in -1..1 -> features f[b, d]."""
        return self.features(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """f[b, 3, 32, 32] in -1..1 -> logits f[b, k]."""
        return self.head(self.forward_features(x))


def _block(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )
