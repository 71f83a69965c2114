"""The stages of any network: its own where it shows them, timm's intermediates, else pooled features and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from w2s_fast.backbones.cifar.staged import Staged, Stages
from w2s_fast.backbones.drawn_cnn import DrawnCNN
from w2s_fast.backbones.taps import Watch
from w2s_fast.backbones.torchvision import last_layer


def stages_of(module: nn.Module) -> Callable[[Tensor], Stages]:
    """A function from images f[b, 3, h, w] to the network's `Stages`.

    timm's convolutional networks show their reductions, its transformers the last layer's patch tokens as a map; there
    `pre` is `post`. Others show no maps, so that only distillers of pooled features and losses of logits can be had.
    """
    if isinstance(module, Staged):
        return module.stages
    if isinstance(module, DrawnCNN):
        return lambda x: _of_drawn(module, x)
    if hasattr(module, "forward_intermediates") and hasattr(module, "forward_head"):
        return lambda x: _of_timm(module, x)
    watch = Watch(module, last_layer(module), model=type(module).__name__, entering=True)

    def plain(x: Tensor) -> Stages:
        logits, pooled = watch.run(x)
        return Stages(post=(), pre=(), pooled=pooled, logits=logits)

    return plain


def _of_drawn(module: DrawnCNN, x: Tensor) -> Stages:
    maps: list[Tensor] = []
    for block in module.features:
        x = block(x)
        maps.append(x)
    pooled = x.mean((2, 3))
    return Stages(post=tuple(maps), pre=tuple(maps), pooled=pooled, logits=module.head(pooled))


def _of_timm(module: Any, x: Tensor) -> Stages:
    tokens = hasattr(module, "blocks") and hasattr(module, "patch_embed")
    last, maps = module.forward_intermediates(x, indices=1 if tokens else None, output_fmt="NCHW")
    pooled = module.forward_head(last, pre_logits=True)
    if pooled.ndim == 4:
        pooled = pooled.mean((2, 3))
    return Stages(post=tuple(maps), pre=tuple(maps), pooled=pooled, logits=module.forward_head(last))
