"""Supervisions: who teaches a student, with which labels, on which rows, in how many stages.

Listing names imports no torch; classes are loaded when a supervision is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from w2s_fast.core.family import Family
from w2s_fast.core.specs import Spec

if TYPE_CHECKING:
    from w2s_fast.supervisions.strategy import Strategy

SUPERVISIONS: dict[str, str] = {
    "weak": "w2s_fast.supervisions.plain:WeakLabels",
    "gt": "w2s_fast.supervisions.plain:GroundTruth",
    "csl": "w2s_fast.supervisions.csl:CSL",
    "smooth": "w2s_fast.supervisions.graph:Smooth",
    "knn_relabel": "w2s_fast.supervisions.graph:KnnRelabel",
    "two_stage": "w2s_fast.supervisions.two_stage:TwoStage",
    "channel_em": "w2s_fast.supervisions.noisy_channel:ChannelEm",
    "fused": "w2s_fast.supervisions.fusion:Fused",
    "fusion": "w2s_fast.supervisions.fusion:Fusion",
    "self_train": "w2s_fast.supervisions.self_training:SelfTrain",
    "retrain_confident_like": "w2s_fast.supervisions.self_training:RetrainConfidentLike",
    "bootstrap": "w2s_fast.supervisions.bootstrap:Bootstrap",
    "salience": "w2s_fast.supervisions.salience:Salience",
    "gt_salience": "w2s_fast.supervisions.salience:GtSalience",
    "adapted": "w2s_fast.supervisions.adapted:Adapted",
    "simulate": "w2s_fast.supervisions.simulation:Simulate",
    "gt_noise": "w2s_fast.supervisions.simulation:GtNoise",
    "ensemble": "w2s_fast.supervisions.ensemble:Ensemble",
    "teachers": "w2s_fast.supervisions.ensemble:Teachers",
    "ensem_w2s_like": "w2s_fast.supervisions.boosting:EnsemW2SLike",
    "select_confidence": "w2s_fast.supervisions.selection:ByConfidence",
    "select_small_loss": "w2s_fast.supervisions.selection:BySmallLoss",
    "select_knn": "w2s_fast.supervisions.selection:ByNeighbours",
    "select_random": "w2s_fast.supervisions.selection:AtRandom",
    "select_overlap": "w2s_fast.supervisions.overlap:ByOverlap",
}
"""Name -> "module:attribute" of a `strategy.Strategy`; others may add to the entry-point group below."""
GROUP = "w2s_fast.supervisions"


FAMILY: Family[type[Strategy]] = Family(what="supervision", table=SUPERVISIONS, group=GROUP)
names, find, canonical, describe = FAMILY.names, FAMILY.find, FAMILY.canonical, FAMILY.describe


def make(supervision: str | Spec) -> Strategy:
    """A supervision from `csl(keep='top3')` or a spec; `SpecError` for unknown names, parameters and ranges."""
    return FAMILY.make(supervision)
