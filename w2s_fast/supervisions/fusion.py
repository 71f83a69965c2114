"""Weak labels and zero-shot together: as supervision of a student, and as a classifier that learns nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import Spec
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import share_right, weak_log_probs
from w2s_fast.supervisions.strategy import Strategy

NOTHING = Spec(name="linear", args={"init": "text", "tau0": 1.0, "unit_x": False, "x_scale": 1.0})
"""On k features whose class rows are the unit vectors this head is the identity."""


@dataclass(frozen=True, kw_only=True)
class Fused(Strategy):
    """The fusion of weak labels and zero-shot as labels; with its defaults it has no tuned weight.

    a: exponent of the weak probabilities.
    b: exponent of the zero-shot probabilities.
    tau_0: temperature of the cosines; None is the encoder's own, 1 / logit_scale.

    Needs text features. The labels are those of every row, hold-val too.
    """

    a: float = 1.0
    b: float = 1.0
    tau_0: float | None = None

    limits: ClassVar[Limits] = {"a": "[0, inf)", "b": "[0, inf)", "tau_0": "(0, inf)"}
    source: ClassVar[str] = "control: the product of experts p_w^a p_0^b, as in the reference row `fusion`"
    equation: ClassVar[str] = "w ~ softmax(z_w)^a softmax(cos / tau_0)^b"
    verified: ClassVar[bool] = True

    def requests(self, context: Context) -> FitRequests:
        made = context.shared.once((self, context.weak_seed), lambda: context.shared.supervision(self.table(context)))
        request = FitRequest(supervision=made)
        (fit,) = yield [request]
        detail = {"stage": "fused", "acc_labels": share_right(context, made.weak, context.split.train)}
        return Student(fit=fit, request=request, details=(detail,))

    def table(self, context: Context) -> Tensor:
        """Log-probabilities f[N, k] of the fusion."""
        prior = context.shared.zero_shot
        if self.tau_0 is not None:
            # log softmax of scaled logits, and so of scaled log-probabilities
            prior = (prior / (self.tau_0 * context.task.logit_scale)).log_softmax(-1)
        return (self.a * weak_log_probs(context) + self.b * prior).log_softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Fusion(Fused):
    """The fusion itself as classifier: nothing is learned, and the weak model is asked about test images too.

    Parameters as in `fused`. Whatever head and loss are named, the row's predictions are the argmax of the fusion, for
    every selection. To tune, give lists, and choose by the agreement with weak labels on hold-val, which is all that
    `sweep` shows; it grows without bound as a / b does, to the weak model itself, so it can choose tau_0 and the ratio
    no better than that.
    """

    source: ClassVar[str] = "the reference row `fusion` with its exponents and its temperature as parameters"
    equation: ClassVar[str] = "argmax a log softmax(z_w) + b log softmax(cos / tau_0)"

    def requests(self, context: Context) -> FitRequests:
        table = context.shared.once((self, context.weak_seed), lambda: self.table(context))
        request = FitRequest(
            supervision=context.weak,
            head=NOTHING,
            loss=Spec(name="kd"),
            # a step of length 0, so that selections exist
            settings={"epochs": 1, "lr": 0.0, "solver": "adam", "weight_decay": 0.0, "w_gt": 0.0},
            features=table,
            text=context.shared.once("unit vectors", lambda: torch.eye(len(context.task.classes))),
        )
        (fit,) = yield [request]
        return Student(fit=fit, request=request, details=({"stage": "fusion", "learned": 0},))
