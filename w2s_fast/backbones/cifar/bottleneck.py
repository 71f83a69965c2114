"""ResNet-50 for 32-pixel images: a 3x3 stem without pooling.

He et al. 2016, arXiv 1512.03385; names of parameters as in mdistiller (a08d46f).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, initialise, through

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS, BLOCKS, EXPANSION = (64, 128, 256, 512), (3, 4, 6, 3), 4


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 up; returns the sum before its ReLU."""

    def __init__(self, channels: int, mid: int, stride: int) -> None:
        super().__init__()
        out = mid * EXPANSION
        self.conv1, self.bn1 = conv1(channels, mid), nn.BatchNorm2d(mid)
        self.conv2, self.bn2 = conv3(mid, mid, stride), nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = conv1(mid, out), nn.BatchNorm2d(out)
        changes = stride > 1 or channels != out
        self.shortcut = nn.Sequential(*([conv1(channels, out, stride), nn.BatchNorm2d(out)] if changes else []))

    def forward(self, x: Tensor) -> Tensor:
        out = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))
        return self.bn3(self.conv3(out)) + self.shortcut(x)


class ResNet50(Staged):
    classifier_name = "linear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3(3, 64), nn.BatchNorm2d(64)
        channels = 64
        for number, (mid, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True), start=1):
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(Bottleneck(channels, mid, 2 if number > 1 and i == 0 else 1))
                channels = mid * EXPANSION
            setattr(self, f"layer{number}", nn.ModuleList(blocks))
        self.linear = nn.Linear(channels, num_classes)
        initialise(self)

    def stages(self, x: Tensor) -> Stages:
        pre = [self.bn1(self.conv1(x))]
        post = [relu(pre[0])]
        for layer in self.layers():
            before, after = through(layer, post[-1])
            pre.append(before)
            post.append(after)
        pooled = post[-1].mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.linear(pooled))
