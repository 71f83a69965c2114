"""The two plain supervisions: a weak model's labels as they are, and ground truth for ceilings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class WeakLabels(Strategy):
    """The weak model's logits on every row of hold-train."""

    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), naive fine-tuning"
    equation: ClassVar[str] = "w = softmax(z_w / tau_w)"
    verified: ClassVar[bool] = True

    def requests(self, context: Context) -> FitRequests:
        request = FitRequest(supervision=context.weak)
        (fit,) = yield [request]
        return Student(fit=fit, request=request)


@dataclass(frozen=True, kw_only=True)
class GroundTruth(Strategy):
    """Ground truth on every row of hold-train: a strong ceiling."""

    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), strong ceiling"
    equation: ClassVar[str] = "w = onehot(y)"
    verified: ClassVar[bool] = True
    truth: ClassVar[bool] = True

    def requests(self, context: Context) -> FitRequests:
        request = FitRequest(supervision=context.shared.truth)
        (fit,) = yield [request]
        return Student(fit=fit, request=request)
