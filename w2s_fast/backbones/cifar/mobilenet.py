"""MobileNetV2 of half width for 32-pixel images, stem of stride 2.

Sandler et al. 2018, arXiv 1801.04381; ReLU (not ReLU6), settings and names as in mdistiller (a08d46f).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, initialise

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels at full width, blocks, stride of the first."""
STAGE_ENDS = (1, 2, 4, 6)
"""The last group of each stage."""
LAST = 1280


class Inverted(nn.Module):
    """1x1 up, depthwise 3x3, 1x1 down without activation; added to the input where the shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = channels * expansion
        self.adds = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *(conv1(channels, mid), nn.BatchNorm2d(mid), nn.ReLU()),
            *(conv3(mid, mid, stride, groups=mid), nn.BatchNorm2d(mid), nn.ReLU()),
            *(conv1(mid, out), nn.BatchNorm2d(out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x if self.adds else self.conv(x)


class MobileNetV2(Staged):
    """Its stages end without an activation, so that `pre` and `post` are the same."""

    classifier_name = "classifier.0"

    def __init__(self, num_classes: int, *, width: float = 0.5) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Sequential(conv3(3, channels, 2), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList()
        for expansion, full, count, stride in SETTINGS:
            out = int(full * width)
            blocks = [
                Inverted(channels if i == 0 else out, out, stride if i == 0 else 1, expansion) for i in range(count)
            ]
            self.blocks.append(nn.Sequential(*blocks))
            channels = out
        self.conv2 = nn.Sequential(conv1(channels, LAST), nn.BatchNorm2d(LAST), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(LAST, num_classes))
        initialise(self)
        nn.init.normal_(self.classifier[0].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.classifier[0].bias)  # type: ignore[arg-type]

    def stages(self, x: Tensor) -> Stages:
        seen = [self.conv1(x)]
        x = seen[0]
        for number, group in enumerate(self.blocks):
            x = group(x)
            if number in STAGE_ENDS:
                seen.append(x)
        pooled = self.conv2(x).mean((2, 3))
        return Stages(post=tuple(seen), pre=tuple(seen), pooled=pooled, logits=self.classifier(pooled))
