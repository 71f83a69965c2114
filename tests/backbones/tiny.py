"""Tiny but real models on disk, and images, for the tests of backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}
PREPROCESS = {"size": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}


def photo(seed: int = 0, size: tuple[int, int] = (57, 43)) -> Image.Image:
    """A smooth random RGB image, so that resizing has something to do."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def clip_config(**changes: Any) -> dict[str, Any]:
    """A `model_cfg` for a CLIP of a few thousand parameters beside its vocabulary."""
    base: dict[str, Any] = {"embed_dim": 20, "vision_cfg": dict(VISION), "text_cfg": dict(TEXT)}
    for key, value in changes.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) else value
    return base


def built(config: dict[str, Any], *, seed: int = 0) -> Any:
    """The open_clip model of a configuration; embeddings are larger than its own, whose 0.01 would hide errors."""
    plain = {k: v for k, v in config.items() if k != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**plain)
        for name, p in net.named_parameters():
            if "embedding" in name:
                p.data.normal_(std=0.5)
    return net.eval()


def clip_folder(folder: Path, *, seed: int = 0, kept: list[int] | None = None, **changes: Any) -> Any:
    """Write an open_clip checkpoint folder and return the model that it holds."""
    config = clip_config(**changes)
    net = built(config, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
    if kept is not None:
        (folder / "vocabulary.json").write_text(json.dumps(kept))
    return net
