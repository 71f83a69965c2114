"""What open_clip's weights need beside themselves: their activation, their preprocessing, their names."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CONFIG = "open_clip_config.json"
_PREPROCESS = ("mode", "mean", "std", "interpolation", "resize_mode", "fill_color")
"""Fields of open_clip's PreprocessCfg but the size, which is the architecture's."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a pretrained tag or a checkpoint's folder says about its weights; None leaves the activation."""

    preprocess: dict[str, Any]
    quick_gelu: bool | None = None

    def applied(self, cfg: dict[str, Any], *, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The `model_cfg` with this activation, and what `open_clip.create_model` is told; a change is logged once."""
        cfg = deepcopy(cfg)
        more: dict[str, Any] = {"force_preprocess_cfg": self.preprocess}
        if self.quick_gelu is not None and self.quick_gelu != bool(cfg.get("quick_gelu")):
            cfg["quick_gelu"] = more["quick_gelu"] = self.quick_gelu
            name = "QuickGELU" if self.quick_gelu else "GELU"
            logging.getLogger("w2s_fast").info(f"{text}: activation {name}, as its weights declare")
        return cfg, more


def of_tag(name: str, tag: str) -> Declared:
    """What open_clip declares for a tag of an architecture."""
    import open_clip

    cfg: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    return Declared(preprocess={k: cfg[k] for k in _PREPROCESS if k in cfg}, quick_gelu=cfg.get("quick_gelu"))


def of_folder(folder: Path) -> Declared | None:
    """What `open_clip_config.json` in a folder declares; None without such a file, or without mean and std in it."""
    try:
        both: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        cfg: dict[str, Any] = {k: v for k, v in both["preprocess_cfg"].items() if k in _PREPROCESS}
        quick = both["model_cfg"].get("quick_gelu", False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Declared(preprocess=cfg, quick_gelu=bool(quick)) if {"mean", "std"} <= cfg.keys() else None


def converted(net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of `net`: other releases' names and shapes of single numbers are changed."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = dict(convert_state_dict(net, state))
    if "positional_embedding" in state and not hasattr(net, "positional_embedding"):
        state = dict(convert_to_custom_text_state_dict(state))
    for name in ("logit_scale", "logit_bias"):
        own = getattr(net, name, None)
        if own is not None and name in state and state[name].numel() == own.numel():
            state[name] = state[name].reshape(own.shape)
    if getattr(net, "logit_bias", None) is not None:
        state.setdefault("logit_bias", torch.zeros_like(net.logit_bias))
    # transformers below 4.31 kept these numbers among the weights
    state.pop("text.transformer.embeddings.position_ids", None)
    return state


def resized(net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings at the resolution and context length of `net`, as open_clip resizes them."""
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    state = dict(state)
    resize_pos_embed(state, net)
    resize_text_pos_embed(state, net)
    return state
