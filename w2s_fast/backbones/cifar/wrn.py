"""Wide residual networks for 32-pixel images: WRN-16-1/16-2/40-1/40-2.

Zagoruyko and Komodakis 2016, arXiv 1605.07146; without dropout, names of parameters as in mdistiller (a08d46f).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3, initialise

if TYPE_CHECKING:
    from torch import Tensor


class PreActivated(nn.Module):
    """Norm and ReLU before each convolution; a change of width is projected from the activated input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv3(channels, out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), conv3(out, out)
        self.convShortcut = None if channels == out else conv1(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.bn1(x))
        out = self.conv2(relu(self.bn2(self.conv1(active))))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Group(nn.Module):
    def __init__(self, count: int, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(PreActivated(channels if i == 0 else out, out, stride if i == 0 else 1) for i in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(Staged):
    """6n + 4 layers of `width` times 16, 32 and 64 channels. Stages are the groups' raw sums.

    `pre` of a stage is what the next norm makes of it, so that it too is a value about to enter a ReLU.
    """

    def __init__(self, num_classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        count, w = (depth - 4) // 6, [16 * width, 32 * width, 64 * width]
        self.conv1 = conv3(3, 16)
        self.block1, self.block2 = Group(count, 16, w[0], 1), Group(count, w[0], w[1], 2)
        self.block3, self.bn1 = Group(count, w[1], w[2], 2), nn.BatchNorm2d(w[2])
        self.fc = nn.Linear(w[2], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def stages(self, x: Tensor) -> Stages:
        f0 = self.conv1(x)
        f1 = self.block1(f0)
        f2 = self.block2(f1)
        f3 = self.block3(f2)
        last = self.bn1(f3)
        pooled = relu(last).mean((2, 3))
        next1, next2 = (self.get_submodule(f"block{number}.layer.0.bn1") for number in (2, 3))
        # in training a second pass through a norm would count its batch twice in the running statistics
        pre = (f0, _peek(next1, f1), _peek(next2, f2), last)
        return Stages(post=(f0, f1, f2, f3), pre=pre, pooled=pooled, logits=self.fc(pooled))


def _peek(norm: nn.Module, x: Tensor) -> Tensor:
    return x if norm.training else norm(x)
