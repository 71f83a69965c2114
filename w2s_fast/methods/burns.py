"""Presets of Burns et al. 2023 on cached features: bootstrapping, salience, adaptation, simulation, OpenAI's probe."""

from __future__ import annotations

from typing import Any

from w2s_fast.core.specs import parse
from w2s_fast.methods.papers import RAW
from w2s_fast.methods.presets import WEAK, Method

_BURNS = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390)"


def _method(name: str, head: str, loss: str, source: str, supervision: str = str(WEAK), **settings: Any) -> Method:
    return Method(
        name=name,
        head=parse(head),
        loss=parse(loss),
        source=source,
        settings=dict(settings),
        supervision=parse(supervision),
    )


BOOTSTRAP_LP = _method(
    "bootstrap+lp", "linear", "kd", _BURNS + ", bootstrapping; here through the weak model's own encoder", "bootstrap"
)
GT_SALIENCE_LP = _method(
    "gt_salience+lp", "linear", "ce", _BURNS + ", linear-probe salience: an adapter for fine-tuning", "gt_salience"
)
SALIENCE_LP = _method("salience+lp", "linear", "kd", "control of gt_salience+lp: weak labels again", "salience")
WHITEN_LP = _method(
    "whiten+lp", "linear", "kd", "after " + _BURNS + ", generative supervision: whitened features", "adapted"
)
CENTRE_LP = _method(
    "center+lp", "linear", "kd", "after " + _BURNS + ", generative supervision: means removed", "adapted(whiten=0.0)"
)
DOMAIN_CENTRE_LP = _method(
    "domain_center+lp",
    "linear",
    "kd",
    "after " + _BURNS + ", generative supervision: every domain's mean removed",
    "adapted(center='domain', whiten=0.0)",
)
NEIGHBOUR_LP = _method(
    "smooth_features+lp",
    "linear",
    "kd",
    "after " + _BURNS + ", generative supervision: features smoothed over their neighbours",
    "adapted(center='none', whiten=0.0, smooth=0.5)",
)
GT_NOISE_LP = _method(
    "gt_noise+lp", "linear", "ce", _BURNS + ", simulation difficulty: as many errors at random", "gt_noise"
)
GT_CONFUSION_LP = _method(
    "gt_noise_confusion+lp",
    "linear",
    "ce",
    _BURNS + ", simulation difficulty: errors of the same confusion matrix on other rows",
    "gt_noise(kind='confusion')",
)
SIMULATE_LP = _method("simulate+lp", "linear", "kd", _BURNS + ", simulation difficulty, on features", "simulate")
# the cosine's half-period is the number of epochs, and it is stepped once a batch
OPENAI_LP = _method(
    "openai+lp",
    RAW,
    "kd",
    "github.com/openai/weak-to-strong, vision/run_weak_strong.py: Adam, raw features, soft labels; its cosine falls "
    "and rises every 10 steps (T_max = epochs, stepped once a batch); offsets start at 0, there at random",
    lr=1e-3,
    epochs=10,
    batch_size=100,
    schedule="cosine(period=10, warmup=0.0)",
)
