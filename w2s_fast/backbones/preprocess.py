"""Evaluation transforms rebuilt from a plain description, so that the cache key says exactly what ran.

Each function `of_<library>` reads the description off a model; `Transform` turns one back into that library's own code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from w2s_fast.core.errors import ModelError, nearest

_COMMON = {"colour": "RGB", "exif": "applied", "antialias": True}
"""EXIF and colour are settled when the image is decoded; Pillow's resize is always antialiased."""


def of_open_clip(cfg: dict[str, Any]) -> dict[str, Any]:
    """From a visual tower's `preprocess_cfg`."""
    return _plain({"route": "open_clip", **cfg})


def of_timm(config: dict[str, Any]) -> dict[str, Any]:
    """From `timm.data.resolve_data_config`."""
    return _plain({"route": "timm", **config})


def of_torchvision(preset: Any) -> dict[str, Any]:
    """From the `ImageClassification` preset of a weights enum."""
    return _plain(
        {
            "route": "torchvision",
            "crop_size": preset.crop_size[0],
            "resize_size": preset.resize_size[0],
            "mean": preset.mean,
            "std": preset.std,
            "interpolation": preset.interpolation.value,
            "antialias": preset.antialias,
        }
    )


def of_drawn(size: int, mean: float, std: float) -> dict[str, Any]:
    """For the small CNN: pixels in 0..1, squashed to a square if they are not one already, then (x - mean) / std."""
    return _plain({"route": "drawn", "size": size, "mean": mean, "std": std, "interpolation": "bicubic"})


def of_square(size: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """For networks of small images: black edges up to `size` where at most an eighth is lacking on each axis (28
    pixels become 32), else the short side resized and the centre cut out; then (x - mean) / std of RGB in 0..1."""
    return _plain({"route": "square", "size": size, "mean": mean, "std": std, "interpolation": "bicubic"})


class Transform:
    """RGB `PIL.Image` -> f[3, h, w], by the library that `described["route"]` names; pickled as its description.

    So a process that decodes images can be started afresh (spawn, forkserver) without the network.
    """

    def __init__(self, described: dict[str, Any]) -> None:
        """Errors: `ModelError` for a route that is not known."""
        self.described = described
        build = _ROUTES.get(described.get("route", ""))
        if build is None:
            raise ModelError(f"unknown preprocessing route {described.get('route')!r}{nearest('', _ROUTES)}")
        common = {"route", *(_COMMON.keys() - {"antialias"})}
        self._prepare = build({k: v for k, v in described.items() if k not in common})

    def __reduce__(self) -> tuple[type[Transform], tuple[dict[str, Any]]]:
        return Transform, (self.described,)

    def __call__(self, image: Any) -> Tensor:
        return self._prepare(image)


def _open_clip(cfg: dict[str, Any]) -> Callable[[Any], Tensor]:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in cfg.items() if k != "antialias"}
    made: Any = image_transform_v2(PreprocessCfg(**values), is_train=False)
    return made


def _timm(config: dict[str, Any]) -> Callable[[Any], Tensor]:
    from timm.data.transforms_factory import create_transform

    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "antialias"}
    made: Any = create_transform(**values, is_training=False)
    return made


def _torchvision(preset: dict[str, Any]) -> Callable[[Any], Tensor]:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    return ImageClassification(**{**preset, "interpolation": InterpolationMode(preset["interpolation"])})


def _drawn(cfg: dict[str, Any]) -> Callable[[Any], Tensor]:
    from PIL.Image import Resampling
    from torchvision.transforms.functional import pil_to_tensor

    side, mean, std = int(cfg["size"]), float(cfg["mean"]), float(cfg["std"])

    def prepare(image: Any) -> Tensor:
        if image.size != (side, side):
            image = image.resize((side, side), Resampling.BICUBIC)
        return (pil_to_tensor(image).float() / 255 - mean) / std

    return prepare


def _square(cfg: dict[str, Any]) -> Callable[[Any], Tensor]:
    from PIL import Image, ImageOps
    from torchvision.transforms.functional import normalize, pil_to_tensor

    side, mean, std = int(cfg["size"]), list(cfg["mean"]), list(cfg["std"])

    def prepare(image: Any) -> Tensor:
        w, h = image.size
        if max(w, h) <= side and min(w, h) >= side - side // 8:
            framed = Image.new("RGB", (side, side))
            framed.paste(image, ((side - w) // 2, (side - h) // 2))
        else:
            framed = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
        return normalize(pil_to_tensor(framed).float() / 255, mean, std)

    return prepare


def _plain(described: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({**_COMMON, **described}))


_ROUTES = {"open_clip": _open_clip, "timm": _timm, "torchvision": _torchvision, "drawn": _drawn, "square": _square}
