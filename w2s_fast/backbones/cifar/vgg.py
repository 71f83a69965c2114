"""VGG-8 and VGG-13 with batch norm for 32-pixel images.

Simonyan and Zisserman 2015, arXiv 1409.1556; five groups and one linear layer as in mdistiller (a08d46f), where
the fourth pooling is skipped at 32 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import max_pool2d, relu

from w2s_fast.backbones.cifar.staged import Staged, Stages, initialise

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = (64, 128, 256, 512, 512)
POOLED_AFTER = (0, 1, 2)


class Vgg(Staged):
    """Five groups of `convolutions` 3x3 convolutions each."""

    classifier_name = "classifier"

    def __init__(self, num_classes: int, *, convolutions: int) -> None:
        super().__init__()
        channels = 3
        for number, out in enumerate(CHANNELS):
            parts: list[nn.Module] = []
            for i in range(convolutions):
                parts += [nn.ReLU()] if i else []
                parts += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)]
                channels = out
            setattr(self, f"block{number}", nn.Sequential(*parts))
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def stages(self, x: Tensor) -> Stages:
        pre: list[Tensor] = []
        post: list[Tensor] = []
        for number in range(len(CHANNELS)):
            pre.append(self.get_submodule(f"block{number}")(x))
            post.append(relu(pre[-1]))
            x = max_pool2d(post[-1], 2) if number in POOLED_AFTER else post[-1]
        pooled = x.mean((2, 3))
        return Stages(post=tuple(post), pre=tuple(pre), pooled=pooled, logits=self.classifier(pooled))
