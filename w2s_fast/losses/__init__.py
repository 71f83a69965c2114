"""Losses: logits and supervision to a per-sample value and its gradient.

Listing names imports no torch; classes are loaded when a loss is made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import UsageError
from w2s_fast.core.family import Family
from w2s_fast.core.specs import Spec

if TYPE_CHECKING:
    from w2s_fast.losses.loss import LogProbLoss, Loss, TargetLoss, stack
    from w2s_fast.losses.supervision import Batch, Supervision, ground_truth
    from w2s_fast.losses.weak import CallableLoss, Weak

LOSSES: dict[str, str] = {
    "ce": "w2s_fast.losses.hard:Ce",
    "ce_hard": "w2s_fast.losses.hard:Ce",
    "ce_soft": "w2s_fast.losses.soft:CeSoft",
    "kd": "w2s_fast.losses.soft:Kd",
    "cpl": "w2s_fast.losses.soft:Cpl",
    "aux_conf": "w2s_fast.losses.aux_conf:AuxConf",
    "aux_conf_argmax": "w2s_fast.losses.aux_conf:AuxConfArgmax",
    "adapt_conf": "w2s_fast.losses.adapt_conf:AdaptConf",
    "logconf_eleuther": "w2s_fast.losses.logconf:LogconfEleuther",
    "entropy_reg": "w2s_fast.losses.confidence:EntropyReg",
    "window": "w2s_fast.losses.confidence:Window",
    "product": "w2s_fast.losses.product:Product",
    "prior_product": "w2s_fast.losses.product:PriorProduct",
    "prior_anchor": "w2s_fast.losses.product:PriorAnchor",
    "reverse_kl": "w2s_fast.losses.divergences:ReverseKl",
    "reverse_ce": "w2s_fast.losses.divergences:ReverseCe",
    "js": "w2s_fast.losses.divergences:Js",
    "jeffreys": "w2s_fast.losses.divergences:Jeffreys",
    "hellinger": "w2s_fast.losses.divergences:Hellinger",
    "tv": "w2s_fast.losses.divergences:Tv",
    "chi2": "w2s_fast.losses.divergences:Chi2",
    "gce": "w2s_fast.losses.hard:Gce",
    "sce": "w2s_fast.losses.sce:Sce",
    "edl": "w2s_fast.losses.edl:Edl",
    "raven": "w2s_fast.losses.raven:Raven",
    "dkd": "w2s_fast.losses.dkd:Dkd",
    "brier": "w2s_fast.losses.brier:Brier",
}
GROUP = "w2s_fast.losses"

_EXPORTS = {
    "Loss": "loss",
    "LogProbLoss": "loss",
    "TargetLoss": "loss",
    "stack": "loss",
    "Batch": "supervision",
    "Supervision": "supervision",
    "ground_truth": "supervision",
    "CallableLoss": "weak",
    "Weak": "weak",
}

__all__ = [
    "FAMILY",
    "GROUP",
    "LOSSES",
    "Batch",
    "CallableLoss",
    "LogProbLoss",
    "Loss",
    "Supervision",
    "TargetLoss",
    "Weak",
    "describe",
    "find",
    "ground_truth",
    "make",
    "names",
    "stack",
]


FAMILY: Family[type[Loss]] = Family(
    what="loss", table=LOSSES, group=GROUP, listed=("equation", "source", "verified", "default_head")
)
names, find = FAMILY.names, FAMILY.find


def make(loss: str | Spec | Loss | Callable[..., Any]) -> Loss:
    """A loss from `kd(tau_w=2)`, a spec, a `Loss`, or a callable `(z, weak, batch) -> per-sample value`.

    Raises `SpecError` for unknown names and parameters, and for values outside their range.
    """
    from w2s_fast.losses.loss import Loss
    from w2s_fast.losses.weak import CallableLoss

    if isinstance(loss, Loss | str | Spec):
        return FAMILY.make(loss, kind=Loss)
    if isinstance(loss, type) or not callable(loss):
        raise UsageError(f"{loss!r} is not a loss: give a name such as 'kd', a Loss, or a function (z, weak, batch)")
    return CallableLoss(fn=loss)


def describe() -> list[dict[str, Any]]:
    """One record per loss for listings, with what it needs; imports every loss."""
    return FAMILY.describe(lambda name: {**FAMILY.record(name), "needs": sorted(_needs(find(name)))})


def _needs(cls: type[Loss]) -> frozenset[str]:
    """What a loss of that class with its defaults needs; a class may compute it from its fields."""
    needs: Any = cls.needs
    return cls().needs if isinstance(needs, property) else needs


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"w2s_fast.losses.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
