"""Views of whole networks against a DataLoader with torchvision's transforms, on CIFAR-shaped pictures.

    python benchmarks/finetune.py [--images 5000] [--epochs 3]

One process and one thread a side (the loader is also given two workers). Prints images a second and ratios: pad-crop,
mirror and normalisation of batches of 128, then an epoch of ResNet8x4 under ResNet8x4's logits with each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import kl_div, log_softmax
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from w2s_fast.backbones.cifar import MEAN, STD, build
from w2s_fast.finetune.augment import parse_augments
from w2s_fast.finetune.draws import keys_of
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.teachers import LiveTeacher
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.views import AugmentedViews, Resident, batches

BATCH = 128


class Pictures(Dataset):  # type: ignore[type-arg]
    """The usual data set: a PIL image, transformed when asked for."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(self.pixels[row])


def timed(run: Callable[[int], object], epochs: int) -> float:
    """The median seconds of an epoch, the first left out."""
    taken: list[float] = []
    for epoch in range(epochs + 1):
        began = time.perf_counter()
        run(epoch)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=5000)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--train", action="store_true", help="also an epoch of training on each side (minutes)")
    asked = options.parse_args()
    torch.set_num_threads(1)
    n = asked.images
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    views = AugmentedViews(
        source=Resident(data=torch.from_numpy(pixels)),
        mean=MEAN,
        std=STD,
        keys=keys_of([f"{i:032x}" for i in range(n)]),
        augments=parse_augments("crop(pad=4), flip"),
    )

    def ours(epoch: int) -> None:
        for rows in batches(0, epoch, n, BATCH):
            views.batch(rows, seed=0, epoch=epoch)

    seconds = timed(ours, asked.epochs)
    print(f"views             {n / seconds:10,.0f} images/s")
    for workers in (0, 2):
        loader = DataLoader(Pictures(pixels), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        theirs = timed(lambda _, loader=loader: [None for _ in loader], asked.epochs)
        print(
            f"DataLoader, {workers} workers {n / theirs:7,.0f} images/s: views are {theirs / seconds:.1f} times as fast"
        )
    if asked.train:
        train(pixels, views)


def train(pixels: np.ndarray, views: AugmentedViews) -> None:
    """An epoch of ResNet8x4 under another one's logits, both ways."""
    training = Training(epochs=1, batch_size=BATCH, loss="kd", gt=0.0, lr=0.05, schedule="constant")
    teacher = build("resnet8x4", 100)
    began = time.perf_counter()
    fit_network(build("resnet8x4", 100), views, None, training=training, seed=0, k=100,
                teacher=LiveTeacher(module=teacher.to(memory_format=torch.channels_last)))  # fmt: skip
    ours = time.perf_counter() - began
    student, weak = build("resnet8x4", 100).train(), build("resnet8x4", 100).eval()
    solver = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    began = time.perf_counter()
    for x in DataLoader(Pictures(pixels), BATCH, shuffle=True):
        with torch.no_grad():
            target = log_softmax(weak(x), 1)
        solver.zero_grad()
        kl_div(log_softmax(student(x), 1), target, reduction="batchmean", log_target=True).backward()
        solver.step()
    theirs = time.perf_counter() - began
    print(f"an epoch          {ours:.1f} s, the usual loop {theirs:.1f} s: {theirs / ours:.2f} times as fast")


if __name__ == "__main__":
    main()
