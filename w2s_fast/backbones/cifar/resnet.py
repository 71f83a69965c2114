"""ResNet-20/32/44/56/110 and the wide 8x4 and 32x4 for 32-pixel images, with 1x1 projection shortcuts.

He et al. 2016, arXiv 1512.03385; widths and names of parameters as in mdistiller (commit a08d46f), whose
checkpoints load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, initialise, through

if TYPE_CHECKING:
    from torch import Tensor

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)


class Basic(nn.Module):
    """Two 3x3 convolutions; returns the sum before its ReLU."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3(channels, out, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv3(out, out), nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(conv1(channels, out, stride), nn.BatchNorm2d(out)) if stride > 1 or channels != out else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return out + (x if self.downsample is None else self.downsample(x))


class ResNet(Staged):
    """6n + 2 layers in three stages of n basic blocks; `widths` of the stem and the stages."""

    def __init__(self, num_classes: int, *, depth: int, widths: tuple[int, int, int, int] = NARROW) -> None:
        super().__init__()
        stem, *rest = widths
        self.conv1, self.bn1 = conv3(3, stem), nn.BatchNorm2d(stem)
        channels = stem
        for number, out in enumerate(rest, start=1):
            blocks = [
                Basic(channels if i == 0 else out, out, 2 if number > 1 and i == 0 else 1)
                for i in range((depth - 2) // 6)
            ]
            setattr(self, f"layer{number}", nn.ModuleList(blocks))
            channels = out
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def stages(self, x: Tensor) -> Stages:
        pre = [self.bn1(self.conv1(x))]
        post = [relu(pre[0])]
        for layer in self.layers():
            before, after = through(layer, post[-1])
            pre.append(before)
            post.append(after)
        pooled = post[-1].mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.fc(pooled))
