"""Small pictures, networks and teachers for tests of the loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from w2s_fast.backbones.cifar.staged import Staged, Stages, conv3
from w2s_fast.finetune.augment import parse_augments
from w2s_fast.finetune.draws import keys_of
from w2s_fast.finetune.loop import Evaluated
from w2s_fast.finetune.seeding import seeded
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.views import AugmentedViews, Resident

SIDE, K = 8, 3


class Small(Staged):
    """Two stages with batch norm, dropout and a classifier."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3(3, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3(channels, 2 * channels, 2), nn.BatchNorm2d(2 * channels)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(2 * channels, K)

    def stages(self, x: Tensor) -> Stages:
        a = self.bn1(self.conv1(x))
        b = self.bn2(self.conv2(a.relu()))
        pooled = b.relu().mean((2, 3))
        return Stages(post=(a.relu(), b.relu()), pre=(a, b), pooled=pooled, logits=self.fc(self.drop(pooled)))


def small(seed: int = 0, channels: int = 8) -> Small:
    with seeded(seed):
        return Small(channels)


def pictures(n: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bytes [n, 8, 8, 3] whose brightest channel is the class, with noise, and labels i[n]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, n)
    pixels = rng.integers(0, 160, (n, SIDE, SIDE, 3))
    pixels[np.arange(n), :, :, labels] += 60
    return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)


def views(pixels: Tensor, augment: str = "crop(pad=1), flip") -> AugmentedViews:
    keys = keys_of([f"{i:032x}" for i in range(len(pixels))])
    return AugmentedViews(
        source=Resident(data=pixels), mean=(0.4,) * 3, std=(0.25,) * 3, keys=keys, augments=parse_augments(augment)
    )


def judge(pixels: Tensor, labels: Tensor):
    """An evaluation on all pictures, as val and test."""
    seen = views(pixels, "none")

    def evaluate(model: nn.Module) -> Evaluated:
        found = model(seen.plain(np.arange(len(pixels)))).argmax(1)
        score = float((found == labels).double().mean())
        return Evaluated(
            predicted={"val": found.numpy(), "test": found.numpy()},
            scores={"acc_val": score, "agree_val": score, "acc_test": score},
        )

    return evaluate


SHORT = Training(
    batch_size=16, lr=0.05, epochs=4, optimizer="nesterov", schedule="cosine(warmup=0.1)", augment="crop(pad=1), flip"
)
