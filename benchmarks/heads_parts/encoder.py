"""What a script without a cache pays: the encoder, in every epoch. An estimate from a measured speed."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.timing import timed
from benchmarks.heads_parts.worlds import Shape

ENCODER = "ViT-B-32"


def images_per_second(*, device: str, batch: int = 16, tries: int = 3) -> float:
    """Of an open_clip ViT-B-32 with random weights in fp32, images already decoded and on the device."""
    import open_clip

    model: Any = open_clip.create_model(ENCODER, pretrained=None, device=device).eval()
    images = torch.randn(batch, 3, 224, 224, device=device)
    with torch.no_grad():
        model.encode_image(images)
        return batch / min(timed(lambda: model.encode_image(images), device=device)[0] for _ in range(tries))


def uncached_seconds(shape: Shape, recipe: Recipe, *, speed: float, loop: float) -> float:
    """Train images in every epoch and val images at every evaluation through the encoder, and the loop itself.

    Leaves out decoding and the weak model, and takes ViT-B-32's speed at every width: what a script pays is more.
    """
    images = recipe.epochs * shape.n_train + (recipe.epochs + 1) * shape.n_val
    return images / speed + loop
