"""Presets of other supervisions on a linear probe: several teachers, boosted teachers, selected rows."""

from __future__ import annotations

from w2s_fast import supervisions
from w2s_fast.core.specs import parse
from w2s_fast.methods.presets import Method


def _probe(name: str, supervision: str, loss: str = "kd", *, source: str = "") -> Method:
    """A linear probe under a supervision, by default with that one's source."""
    spec = parse(supervision)
    return Method(
        name=name,
        head=parse("linear"),
        loss=parse(loss),
        supervision=spec,
        source=source or supervisions.find(spec.name).source,
    )


ENSEMBLE_LP = _probe("ensemble+lp", "ensemble")
ENSEMBLE_ENTROPY_LP = _probe("ensemble_entropy+lp", "ensemble(mode='entropy')")
ENSEM_W2S_LP = _probe("ensem_w2s_like+lp", "ensem_w2s_like")
RAVEN_LP = _probe(
    "raven+lp", "teachers", "raven", source="Jeon et al. 2025, RAVEN (arXiv 2510.21332); our head and settings"
)
EDL_LP = _probe(
    "edl+lp", "teachers", "edl", source="Cui et al. 2025, Bayesian WeakS-to-Strong (arXiv 2406.03199); our head"
)
SELECT_CONFIDENCE_LP = _probe("select_confidence+lp", "select_confidence")
SELECT_SMALL_LOSS_LP = _probe("select_small_loss+lp", "select_small_loss")
SELECT_KNN_LP = _probe("select_knn+lp", "select_knn")
SELECT_OVERLAP_LP = _probe("select_overlap+lp", "select_overlap")
SELECT_RANDOM_LP = _probe("select_random+lp", "select_random", source="control: as many rows, drawn at random")
