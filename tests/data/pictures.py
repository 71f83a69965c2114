"""Real image files for the tests of data and backbones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (24, 20), channels: int = 3) -> np.ndarray:
    """u8 [h, w, channels] (or [h, w] for one channel) of random pixels."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, seed: int, **options: object) -> Path:
    """Write a random RGB image under `path`, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path, **options)
    return path


def class_folders(root: Path, counts: dict[str, int], *, seed: int = 0) -> Path:
    """Write `counts[name]` images into each `root / name`; no two images are equal."""
    number = seed * 100_000
    for name, count in counts.items():
        for index in range(count):
            number += 1
            save(root / name / f"{index:03d}.png", number)
    return root
