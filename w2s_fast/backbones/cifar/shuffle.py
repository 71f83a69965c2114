"""ShuffleNet V1 (groups 3) and V2 (x1) for 32-pixel images: a 1x1 stem and no first pooling.

Zhang et al. 2018, arXiv 1707.01083, and Ma et al. 2018, arXiv 1807.11164; names as in mdistiller (a08d46f).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, shuffled, through

if TYPE_CHECKING:
    from torch import Tensor

STEM = 24
V1_WIDTHS, V1_BLOCKS, V1_GROUPS = (240, 480, 960), (4, 8, 4), 3
V2_WIDTHS, V2_BLOCKS, V2_LAST = (116, 232, 464), (3, 7, 3), 1024


class Grouped(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a stride of 2 appends the pooled input. Before its ReLU."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        mid = out // 4
        self.groups, self.stride = 1 if channels == STEM else V1_GROUPS, stride
        self.conv1, self.bn1 = conv1(channels, mid, groups=self.groups), nn.BatchNorm2d(mid)
        self.conv2, self.bn2 = conv3(mid, mid, stride, groups=mid), nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = conv1(mid, out, groups=V1_GROUPS), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        out = shuffled(relu(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(relu(self.bn2(self.conv2(out)))))
        return torch.cat([out, avg_pool2d(x, 3, 2, padding=1)], 1) if self.stride == 2 else out + x


class ShuffleNetV1(Staged):
    classifier_name = "linear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1(3, STEM), nn.BatchNorm2d(STEM)
        channels = STEM
        for number, (out, count) in enumerate(zip(V1_WIDTHS, V1_BLOCKS, strict=True), start=1):
            first = Grouped(channels, out - channels, 2)
            setattr(self, f"layer{number}", nn.ModuleList([first, *(Grouped(out, out, 1) for _ in range(count - 1))]))
            channels = out
        self.linear = nn.Linear(channels, num_classes)

    def stages(self, x: Tensor) -> Stages:
        pre = [self.bn1(self.conv1(x))]
        post = [relu(pre[0])]
        for layer in self.layers():
            before, after = through(layer, post[-1])
            pre.append(before)
            post.append(after)
        pooled = post[-1].mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.linear(pooled))


class Unit(nn.Module):
    """Half of the channels pass by, the others go through 1x1, depthwise 3x3, 1x1; out, and out before its ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv1(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv3(half, half, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv1(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, x = x.chunk(2, 1)
        x = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        before = self.bn3(self.conv3(x))
        return shuffled(torch.cat([kept, relu(before)], 1), 2), shuffled(torch.cat([kept, before], 1), 2)


class Down(nn.Module):
    """Both branches halve the side; their outputs are joined and shuffled. Returns what `Unit` does."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        mid = out // 2
        self.conv1, self.bn1 = conv3(channels, channels, 2, groups=channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv1(channels, mid), nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = conv1(channels, mid), nn.BatchNorm2d(mid)
        self.conv4, self.bn4 = conv3(mid, mid, 2, groups=mid), nn.BatchNorm2d(mid)
        self.conv5, self.bn5 = conv1(mid, mid), nn.BatchNorm2d(mid)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.bn5(self.conv5(self.bn4(self.conv4(relu(self.bn3(self.conv3(x)))))))
        before = shuffled(torch.cat([left, right], 1), 2)
        return relu(before), before


class ShuffleNetV2(Staged):
    classifier_name = "linear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1(3, STEM), nn.BatchNorm2d(STEM)
        channels = STEM
        for number, (out, count) in enumerate(zip(V2_WIDTHS, V2_BLOCKS, strict=True), start=1):
            setattr(self, f"layer{number}", nn.ModuleList([Down(channels, out), *(Unit(out) for _ in range(count))]))
            channels = out
        self.conv2, self.bn2 = conv1(channels, V2_LAST), nn.BatchNorm2d(V2_LAST)
        self.linear = nn.Linear(V2_LAST, num_classes)

    def stages(self, x: Tensor) -> Stages:
        pre = [self.bn1(self.conv1(x))]
        post = [relu(pre[0])]
        for layer in self.layers():
            x = before = post[-1]
            for part in layer.children():
                x, before = part(x)
            pre.append(before)
            post.append(x)
        pooled = relu(self.bn2(self.conv2(x))).mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.linear(pooled))
