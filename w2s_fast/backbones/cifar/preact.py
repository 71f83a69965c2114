"""Pre-activation ResNet-18 and -34 with a second, normalised head: the networks of Sel-CL.

Li et al. 2022, arXiv 2203.04181 (commit 98cc41e): no norm and no ReLU before the global pooling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import normalize, relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv1, conv3

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS, EMBEDDING = (64, 128, 256, 512), 128


class PreActBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv3(channels, out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), conv3(out, out)
        self.shortcut = conv1(channels, out, stride) if stride > 1 or channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.bn1(x))
        out = self.conv2(relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class PreActResNet(Staged):
    """Logits f[b, k] from `linear`; `embed` gives unit rows f[b, 128] of the contrastive head too."""

    classifier_name = "linear"

    def __init__(self, num_classes: int, *, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3(3, 64), nn.BatchNorm2d(64)
        channels = 64
        for number, (out, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
            parts: list[nn.Module] = []
            for i in range(count):
                parts.append(PreActBlock(channels, out, 2 if number > 1 and i == 0 else 1))
                channels = out
            setattr(self, f"layer{number}", nn.Sequential(*parts))
        self.linear = nn.Linear(channels, num_classes)
        self.embedding = nn.Linear(channels, EMBEDDING)

    def stages(self, x: Tensor) -> Stages:
        seen = [relu(self.bn1(self.conv1(x)))]
        for layer in self.layers():
            seen.append(layer(seen[-1]))
        pooled = seen[-1].mean((2, 3))
        return Stages(post=tuple(seen), pre=tuple(seen), pooled=pooled, logits=self.linear(pooled))

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits f[b, k] and unit embeddings f[b, 128] of f[b, 3, h, w], in one pass."""
        seen = self.stages(x)
        return seen.logits, normalize(self.embedding(seen.pooled), dim=-1)
