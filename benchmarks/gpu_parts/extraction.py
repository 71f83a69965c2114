"""Stage 5: pictures through a ViT-B/32 with random weights: the encoder alone, and with decoding in front of it."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts.timing import median, timed
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.preprocess import of_torchvision
from w2s_fast.data.folder import open_folder
from w2s_fast.data.manifest import Manifest
from w2s_fast.extract.images import batches

SIDES = ((500, 375), (640, 480), (333, 500))


def stage(settings: Settings) -> dict[str, Any]:
    """Images a second by precision; `pipeline` reads JPEGs as `extract` does, and leaves out the writing of parts."""
    if find_spec("torchvision") is None:
        return {"left_out": "torchvision is not installed"}
    count, batch = (24, 8) if settings.quick else (4096, 256)
    encoder = vit(settings)
    images = torch.randn(batch, 3, 224, 224, device=settings.device)
    found: dict[str, Any] = {"encoder": {}, "batch": batch, "images": count, "sides": SIDES}
    for compute in ("fp32",) if settings.device == "cpu" else ("fp32", "bf16"):
        work = _encoded(encoder, images, compute)
        work()
        seconds = [timed(work, device=settings.device)[0] for _ in range(settings.repeats)]
        found["encoder"][compute] = batch / (median(seconds) or 1.0)
    settings.into.update(found)
    with tempfile.TemporaryDirectory() as folder:
        manifest = pictures(Path(folder), 16 if settings.quick else 512)
        span = [row % len(manifest.ids) for row in range(count)]
        workers = 0 if settings.quick else max(1, (os.cpu_count() or 2) - 1)
        compute = "fp32" if settings.device == "cpu" else "bf16"
        seconds, read = timed(
            lambda: _pipeline(manifest, span, encoder, batch, workers, compute), device=settings.device
        )
    return {**found, "pipeline": count / seconds, "pipeline_compute": compute, "workers": workers, "read": read}


def vit(settings: Settings) -> FrozenEncoder:
    """torchvision's ViT-B/32 without weights, its classifier taken off; with `quick` a small one."""
    from torchvision.models import VisionTransformer, ViT_B_32_Weights, vit_b_32

    torch.manual_seed(0)
    if settings.quick:
        net = VisionTransformer(
            image_size=224, patch_size=32, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=4
        )
    else:
        net = vit_b_32(weights=None)
    net.heads = torch.nn.Identity()
    net = net.to(settings.device)
    preset = ViT_B_32_Weights.IMAGENET1K_V1.transforms()
    return FrozenEncoder(
        name="vit_b_32, random weights",
        module=net,
        forward=lambda x: (net(x), None),
        dim=net.hidden_dim,
        config={},
        preprocess=of_torchvision(preset),
    )


def pictures(folder: Path, count: int) -> Manifest:
    """A folder of JPEGs as cameras make them: smooth shapes, a little noise, three sizes, two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        width, height = SIDES[i % len(SIDES)]
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, np.int16) + rng.integers(-8, 9, (height, width, 3), np.int16)
        place = folder / f"class{i % 2}" / f"{i:05d}.jpg"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place, quality=90)
    return open_folder(str(folder), root=None, identity="path", class_names=None, cache=None)


def _encoded(encoder: FrozenEncoder, images: torch.Tensor, compute: str) -> Any:
    kind = images.device.type

    def work() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=compute == "bf16"):
            return encoder.encode(images)[0].float().cpu()

    return work


def _pipeline(
    manifest: Manifest, span: list[int], encoder: FrozenEncoder, size: int, workers: int, compute: str
) -> int:
    read = 0
    device = next(encoder.module.parameters()).device
    for batch in batches(manifest, span, [encoder], batch_size=size, workers=workers):
        _encoded(encoder, batch.input_of(0).to(device), compute)()
        read += len(batch.rows) - len(batch.reasons)
    return read
