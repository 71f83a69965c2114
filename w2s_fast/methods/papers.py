"""Presets beside the main ones: papers taken at their literal text, and published adapters taught by a weak model.

A literal preset trains what a paper's sentences say where `presets` decides otherwise: raw features, text rows of
their own length, one temperature of 1. Epochs and batch size stay those of the data.
"""

from __future__ import annotations

from typing import Any

from w2s_fast.core.specs import parse
from w2s_fast.methods.presets import Method


def _method(name: str, head: str, loss: str, source: str, *, verified: bool = True, **settings: Any) -> Method:
    return Method(
        name=name, head=parse(head), loss=parse(loss), source=source, verified=verified, settings=dict(settings)
    )


RAW = "linear(unit_x=False, x_scale=1.0)"
_TEXT = "Li et al. 2025 (arXiv 2511.18396), as its text says: "
_RAW = _TEXT + "raw features, tau 1, lr 1e-2; "

CPL_LITERAL = _method(
    "cpl_literal",
    "prototype(init='text', init_norm=0.0)",
    "cpl(tau_s=1.0, tau_w=1.0)",
    _TEXT + "text rows of their own length, one tau (not given there; 1 here), lr 1e-2",
    lr=1e-2,
)
CE_LP_LITERAL = _method("ce+lp_literal", RAW, "ce", _RAW + "hard weak labels", lr=1e-2)
KD_LP_LITERAL = _method("kd+lp_literal", RAW, "kd", _RAW + "Hinton et al. 2015 (arXiv 1503.02531)", lr=1e-2)
AUX_LP_LITERAL = _method(
    "aux+lp_literal", RAW, "aux_conf_argmax", _RAW + "Guo et al. 2024 (arXiv 2402.03749), Eq. 1", lr=1e-2
)
ADAPT_LP_LITERAL = _method(
    "adapt+lp_literal", RAW, "adapt_conf", _RAW + "Guo et al. 2024 (arXiv 2402.03749), Eq. 2", lr=1e-2
)

AUX_ARGMAX_PROTO = _method(
    "aux_argmax+proto", "prototype(init='text')", "aux_conf_argmax", "control: CPL's head, Guo et al. 2024, Eq. 1"
)
KD_TEXT_ENCODER = _method(
    "kd+text_encoder",
    "text_encoder",
    "kd",
    "Li et al. 2025 (arXiv 2511.18396), Table 7, which states neither the tuned weights nor the recipe",
    verified=False,
)

_GAO = "Gao et al. 2021, CLIP-Adapter (arXiv 2110.04544)"
_ZHANG = "Zhang et al. 2022, Tip-Adapter (arXiv 2111.03930)"
KD_ADAPTER = _method("kd+adapter", "adapter", "kd", "control: a low-rank residual before zero-shot's classes")
CLIP_ADAPTER = _method(
    "clip_adapter",
    "adapter(form='clip_adapter', tau_s=0.01)",
    "ce",
    _GAO + ", its image adapter on weak labels; under the common recipe",
)
TIP = _method(
    "tip",
    "tip(tune=False)",
    "ce",
    _ZHANG + ", training-free; the cache holds weak labels, alpha and beta are not searched",
    epochs=1,
)
TIP_F = _method(
    "tip_f",
    "tip",
    "ce",
    _ZHANG
    + ", Tip-Adapter-F: AdamW, cosine, 20 epochs of 256; weak labels of all train rows, no augmented views, no search",
    solver="adamw(eps=0.0001)",
    schedule="cosine(warmup=0.0)",
    lr=1e-3,
    weight_decay=0.01,
    epochs=20,
    batch_size=256,
)
