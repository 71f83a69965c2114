"""The named methods: one row each, a head and a loss, under which supervision, after which paper, with which settings.

The common recipe (settings of the data, else of `core.settings`) is what a row without settings runs. A `_literal` row
trains what a paper's sentences or its script say where the common recipe decides otherwise: raw features, text rows of
their own length, one temperature of 1; epochs and batch size stay those of the data unless the row has its own.
"""

from __future__ import annotations

from typing import Any

from w2s_fast.core.specs import parse
from w2s_fast.methods.method import Method

LP = "linear"
RAW = "linear(unit_x=False, x_scale=1.0)"
PROTO = "prototype(init='text')"

LI = "Li et al. 2025, class prototype learning (arXiv 2511.18396)"
LI_TEXT = "Li et al. 2025 (arXiv 2511.18396), as its text says: "
LI_RAW = LI_TEXT + "raw features, tau 1, lr 1e-2; "
BURNS = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390)"
AFTER_BURNS = "after " + BURNS + ", generative supervision: "
GUO = "Guo et al. 2024, vision superalignment (arXiv 2402.03749)"
HINTON = "Hinton et al. 2015, knowledge distillation (arXiv 1503.02531)"
COOP = "Zhou et al. 2022, CoOp (arXiv 2109.01134)"
ON_COOP = "; text prompts of " + COOP
GAO = "Gao et al. 2021, CLIP-Adapter (arXiv 2110.04544)"
ZHANG = "Zhang et al. 2022, Tip-Adapter (arXiv 2111.03930)"
LIU = "Liu & Alahi 2024, co-supervised learning (arXiv 2402.15505)"
OPENAI = "vision/run_weak_strong.py of github.com/openai/weak-to-strong"
CSL_CODE = "github.com/YuejiangLIU/csl, commit not at hand"
OUR_HEAD = "; its assignment and denoising, our head and settings"


def _row(
    name: str, head: str, loss: str, source: str = "", *, by: str = "weak", verified: bool = True, **settings: Any
) -> Method:
    """One preset; `by` is its supervision, and without a source it has that one's."""
    return Method(
        name=name,
        head=parse(head),
        loss=parse(loss),
        source=source,
        verified=verified,
        settings=settings,
        supervision=parse(by),
    )


_ROWS = (
    # what the field compares
    _row("cpl", PROTO, "cpl", LI),
    _row("ce+lp", LP, "ce", BURNS),
    _row("kd+lp", LP, "kd", HINTON),
    _row("aux+lp", LP, "aux_conf", BURNS),
    _row("aux_argmax+lp", LP, "aux_conf_argmax", GUO + ", Eq. 1"),
    _row("adapt+lp", LP, "adapt_conf", GUO + ", Eq. 2"),
    _row("ce+proto", PROTO, "ce", "control: CPL's head, hard labels"),
    _row("aux+proto", PROTO, "aux_conf", "control: CPL's head, auxiliary confidence"),
    _row("adapt+proto", PROTO, "adapt_conf", "control: CPL's head, adaptive confidence"),
    _row("ce+tp", "prompt", "ce", BURNS + ON_COOP),
    _row("kd+tp", "prompt", "kd", "Hinton et al. 2015, on text prompts of " + COOP),
    _row("aux+tp", "prompt", "aux_conf", BURNS + ON_COOP),
    _row("aux_argmax+tp", "prompt", "aux_conf_argmax", GUO + ", Eq. 1" + ON_COOP),
    _row("adapt+tp", "prompt", "adapt_conf", GUO + ", Eq. 2" + ON_COOP),
    _row(
        "tp_coop",
        "prompt(tail='.')",
        "ce",
        COOP + ", its optimiser, schedule and epochs; on cached features, so without its augmentation, and the first "
        "epoch rises linearly where theirs stays at 1e-5",
        solver="sgd",
        schedule="cosine(warmup=0.02)",
        lr=2e-3,
        weight_decay=5e-4,
        epochs=50,
        batch_size=32,
    ),
    _row("tp_cpl", "prompt", "kd", LI + ", KD+TP under its common recipe (Adam, lr 1e-2)", lr=1e-2),
    _row("aux_argmax+proto", PROTO, "aux_conf_argmax", "control: CPL's head, Guo et al. 2024, Eq. 1"),
    # adapters
    _row("kd+adapter", "adapter", "kd", "control: a low-rank residual before zero-shot's classes"),
    _row(
        "clip_adapter",
        "adapter(form='clip_adapter', tau_s=0.01)",
        "ce",
        GAO + ", its image adapter on weak labels; under the common recipe",
    ),
    _row(
        "tip",
        "tip(tune=False)",
        "ce",
        ZHANG + ", training-free; the cache holds weak labels, alpha and beta are not searched",
        epochs=1,
    ),
    _row(
        "tip_f",
        "tip",
        "ce",
        ZHANG + ", Tip-Adapter-F: AdamW, cosine, 20 epochs of 256; weak labels of all train rows, no augmented views, "
        "no search",
        solver="adamw(eps=0.0001)",
        schedule="cosine(warmup=0.0)",
        lr=1e-3,
        weight_decay=0.01,
        epochs=20,
        batch_size=256,
    ),
    _row(
        "kd+text_encoder",
        "text_encoder",
        "kd",
        "Li et al. 2025 (arXiv 2511.18396), Table 7, which states neither the tuned weights nor the recipe",
        verified=False,
    ),
    # co-supervised learning: specialists in place of one generalist
    _row("csl+lp", LP, "kd", LIU + ", probabilities of the teachers" + OUR_HEAD, by="csl"),
    _row(
        "csl_hard+lp",
        LP,
        "ce",
        LIU + ", labels of the teachers, as its script has them (" + CSL_CODE + ")" + OUR_HEAD,
        by="csl(hard=True)",
    ),
    _row(
        "csl_oracle+lp",
        LP,
        "kd",
        LIU + ", teachers assigned by the true class: an upper bound",
        by="csl(assign='oracle')",
    ),
    _row(
        "csl_domain+lp",
        LP,
        "kd",
        LIU + ", domain specialists on pooled domains; unreleased, after the port in Jeon et al. 2025 (RAVEN)",
        by="csl(by='domain', levels='1-2-3-6', assign='kl')",
    ),
    _row(
        "csl+lp_literal",
        RAW,
        "ce",
        LIU + ", its script (" + CSL_CODE + "): labels, raw features, Adam at 1e-4 with cosine decay, 20 epochs of 100",
        by="csl(hard=True)",
        solver="adam",
        schedule="cosine(warmup=0.0)",
        lr=1e-4,
        epochs=20,
        batch_size=100,
    ),
    # Li et al. 2025 to the letter
    _row(
        "cpl_literal",
        "prototype(init='text', init_norm=0.0)",
        "cpl(tau_s=1.0, tau_w=1.0)",
        LI_TEXT + "text rows of their own length, one tau (not given there; 1 here), lr 1e-2",
        lr=1e-2,
    ),
    _row("ce+lp_literal", RAW, "ce", LI_RAW + "hard weak labels", lr=1e-2),
    _row("kd+lp_literal", RAW, "kd", LI_RAW + "Hinton et al. 2015 (arXiv 1503.02531)", lr=1e-2),
    _row("aux+lp_literal", RAW, "aux_conf_argmax", LI_RAW + "Guo et al. 2024 (arXiv 2402.03749), Eq. 1", lr=1e-2),
    _row("adapt+lp_literal", RAW, "adapt_conf", LI_RAW + "Guo et al. 2024 (arXiv 2402.03749), Eq. 2", lr=1e-2),
    # weak labels refined before or between students
    _row("smooth+lp", LP, "kd", by="smooth"),
    _row("knn_relabel+lp", LP, "kd", by="knn_relabel"),
    _row("two_stage+lp", LP, "kd", by="two_stage"),
    _row("channel_em+lp", LP, "kd", by="channel_em"),
    _row("channel_em+proto", PROTO, "kd", by="channel_em"),
    _row("fused+lp", LP, "kd", by="fused"),
    _row("fused+proto", PROTO, "kd", by="fused"),
    _row("fusion+none", LP, "kd", by="fusion"),  # not `fusion`, which is the name of the reference row
    _row("self_train+lp", LP, "kd", by="self_train"),
    _row("retrain_confident_like+lp", LP, "kd", by="retrain_confident_like"),
    # Burns et al. 2023 on cached features
    _row(
        "bootstrap+lp",
        LP,
        "kd",
        BURNS + ", bootstrapping; here through the weak model's own encoder",
        by="bootstrap",
    ),
    _row("salience+lp", LP, "kd", "control of gt_salience+lp: weak labels again", by="salience"),
    _row(
        "gt_salience+lp",
        LP,
        "ce",
        BURNS + ", linear-probe salience: an adapter for fine-tuning",
        by="gt_salience",
    ),
    _row("whiten+lp", LP, "kd", AFTER_BURNS + "whitened features", by="adapted"),
    _row("center+lp", LP, "kd", AFTER_BURNS + "means removed", by="adapted(whiten=0.0)"),
    _row(
        "domain_center+lp",
        LP,
        "kd",
        AFTER_BURNS + "every domain's mean removed",
        by="adapted(center='domain', whiten=0.0)",
    ),
    _row(
        "smooth_features+lp",
        LP,
        "kd",
        AFTER_BURNS + "features smoothed over their neighbours",
        by="adapted(center='none', whiten=0.0, smooth=0.5)",
    ),
    _row("gt_noise+lp", LP, "ce", BURNS + ", simulation difficulty: as many errors at random", by="gt_noise"),
    _row(
        "gt_noise_confusion+lp",
        LP,
        "ce",
        BURNS + ", simulation difficulty: errors of the same confusion matrix on other rows",
        by="gt_noise(kind='confusion')",
    ),
    _row("simulate+lp", LP, "kd", BURNS + ", simulation difficulty, on features", by="simulate"),
    _row(
        "openai+lp",
        RAW,
        "kd",
        OPENAI + "@0a6d4ab: Adam, raw features, soft labels, cosine to 0 over all steps; offsets start at 0, "
        "there at random",
        lr=1e-3,
        epochs=10,
        batch_size=100,
        schedule="cosine(warmup=0.0)",
    ),
    _row(
        "openai+lp_periodic",
        RAW,
        "kd",
        OPENAI + "@1dbfbd6, which 0a6d4ab corrects: its cosine falls and rises every 10 steps (T_max = epochs, "
        "stepped once a batch)",
        lr=1e-3,
        epochs=10,
        batch_size=100,
        schedule="cosine(period=10, warmup=0.0)",
    ),
    # several teachers, boosted teachers, selected rows
    _row("ensemble+lp", LP, "kd", by="ensemble"),
    _row("ensemble_entropy+lp", LP, "kd", by="ensemble(mode='entropy')"),
    _row("ensem_w2s_like+lp", LP, "kd", by="ensem_w2s_like"),
    _row("raven+lp", LP, "raven", "Jeon et al. 2025, RAVEN (arXiv 2510.21332); our head and settings", by="teachers"),
    _row("edl+lp", LP, "edl", "Cui et al. 2025, Bayesian WeakS-to-Strong (arXiv 2406.03199); our head", by="teachers"),
    _row("select_confidence+lp", LP, "kd", by="select_confidence"),
    _row("select_small_loss+lp", LP, "kd", by="select_small_loss"),
    _row("select_knn+lp", LP, "kd", by="select_knn"),
    _row("select_random+lp", LP, "kd", "control: as many rows, drawn at random", by="select_random"),
    _row("select_overlap+lp", LP, "kd", by="select_overlap"),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
"""Name -> method. Installed packages may add a `methods.method.Method` each to the entry-point group
`w2s_fast.methods`."""
