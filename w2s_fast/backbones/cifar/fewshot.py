"""ResNet-12, -18 and -36 of few-shot classification, for images of 80 pixels.

Chen et al. 2021, arXiv 2003.04390 (commit 779fae3); the bottleneck-free 18 and 36 as in Guo et al.
(ggjy, commit c020783): further blocks of a stage keep the side, and pooling follows the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import leaky_relu, max_pool2d

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, initialise

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS, SLOPE = (64, 128, 256, 512), 0.1


class FewShotBlock(nn.Module):
    """Three 3x3 convolutions and a shortcut, projected where `first`; returns the sum before its activation."""

    def __init__(self, channels: int, out: int, *, first: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3(channels, out), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv3(out, out), nn.BatchNorm2d(out)
        self.conv3, self.bn3 = conv3(out, out), nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(conv1(channels, out), nn.BatchNorm2d(out)) if first else None

    def forward(self, x: Tensor) -> Tensor:
        out = leaky_relu(self.bn1(self.conv1(x)), SLOPE)
        out = leaky_relu(self.bn2(self.conv2(out)), SLOPE)
        return self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x))


class FewShotResNet(Staged):
    """`num_classes` 0 leaves the classifier out: logits are then the pooled features f[b, 512]."""

    side = 80

    def __init__(self, num_classes: int, *, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        channels = 3
        for number, (out, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
            parts = [FewShotBlock(channels if i == 0 else out, out, first=i == 0) for i in range(count)]
            setattr(self, f"layer{number}", nn.ModuleList(parts))
            channels = out
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        initialise(self, nonlinearity="leaky_relu")

    def stages(self, x: Tensor) -> Stages:
        pre: list[Tensor] = []
        post: list[Tensor] = []
        for layer in self.layers():
            before = x
            for number, block in enumerate(layer.children()):
                before = block(x)
                x = leaky_relu(before, SLOPE)
                if number == 0:
                    before, x = max_pool2d(before, 2), max_pool2d(x, 2)
            pre.append(before)
            post.append(x)
        pooled = post[-1].mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.fc(pooled))
