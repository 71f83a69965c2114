"""Presets of co-supervised learning: specialists in place of one generalist (supervisions/csl.py)."""

from __future__ import annotations

from w2s_fast.core.specs import parse
from w2s_fast.methods.papers import RAW
from w2s_fast.methods.presets import Method

_LIU = "Liu & Alahi 2024, co-supervised learning (arXiv 2402.15505)"
_COMMON = "; its assignment and denoising, our head and settings"

CSL_LP = Method(
    name="csl+lp",
    head=parse("linear"),
    loss=parse("kd"),
    supervision=parse("csl"),
    source=_LIU + ", probabilities of the teachers" + _COMMON,
)
CSL_HARD_LP = Method(
    name="csl_hard+lp",
    head=parse("linear"),
    loss=parse("ce"),
    supervision=parse("csl(hard=True)"),
    source=_LIU + ", labels of the teachers, as its script has them" + _COMMON,
)
CSL_ORACLE_LP = Method(
    name="csl_oracle+lp",
    head=parse("linear"),
    loss=parse("kd"),
    supervision=parse("csl(assign='oracle')"),
    source=_LIU + ", teachers assigned by the true class: an upper bound",
)
CSL_DOMAIN_LP = Method(
    name="csl_domain+lp",
    head=parse("linear"),
    loss=parse("kd"),
    supervision=parse("csl(by='domain', levels='1-2-3-6', assign='kl')"),
    source=_LIU + ", domain specialists on pooled domains; unreleased, after the port in Jeon et al. 2025 (RAVEN)",
)
CSL_LP_LITERAL = Method(
    name="csl+lp_literal",
    head=parse(RAW),
    loss=parse("ce"),
    supervision=parse("csl(hard=True)"),
    source=_LIU + ", its script: labels, raw features, Adam at 1e-4 with cosine decay, 20 epochs of 100",
    settings={"solver": "adam", "schedule": "cosine(warmup=0.0)", "lr": 1e-4, "epochs": 20, "batch_size": 100},
)
