"""Salience by linear probes: what an adapter that learned from weak labels makes easy to read off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import parse
from w2s_fast.heads.classifier import classifier
from w2s_fast.losses import Supervision
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import share_right
from w2s_fast.supervisions.strategy import Strategy, head_on_the_way
from w2s_fast.train import Fit

CHUNK = 8192


@dataclass(frozen=True, kw_only=True)
class Salience(Strategy):
    """A head on what another, fitted on the weak labels and then frozen, has made of the features; weak labels again.

    via: the head that is frozen.
    reads: `features`, what it has moved them to (adapter; others leave them as they are), or `logits`, its k outputs at
    its own temperature.

    The control of `gt_salience`, with weak labels in its second stage. Text features stand for themselves beside moved
    ones of their width; beside others there are none.
    """

    via: str = "adapter"
    reads: str = "features"

    limits: ClassVar[Limits] = {"reads": ("features", "logits")}
    source: ClassVar[str] = (
        "control of: Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), linear-probe salience"
    )
    equation: ClassVar[str] = "theta = argmin sum l(f_theta(x), p_w); then a head on phi_theta(x), labels p_w"
    verified: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 2

    def check(self) -> None:
        head_on_the_way("salience", self.via)

    def labels(self, context: Context) -> Supervision:
        """Who teaches the second stage."""
        return context.weak

    def requests(self, context: Context) -> FitRequests:
        first = FitRequest(
            supervision=context.weak, head=parse(self.via), scored=False, key=("salience", context.weak_seed)
        )
        (fit,) = yield [first]
        said = context.shared.log_probs(fit, first)
        move = Moved(fit, logits=self.reads == "logits")
        features, text = moved(move, context.shared.features()), context.task.text
        request = FitRequest(
            supervision=self.labels(context),
            features=features,
            text=text if self.reads == "features" and text is not None and text.shape[1] == features.shape[1] else None,
            move=move,
        )
        (student,) = yield [request]
        detail = {
            "stage": self.via,
            "acc_train": share_right(context, said, context.split.train),
            "acc_test": share_right(context, said, context.split.test),
        }
        return Student(fit=student, request=request, details=(detail,))


@dataclass(frozen=True, kw_only=True)
class GtSalience(Salience):
    """A head with ground truth on what another, fitted on the weak labels and then frozen, has made of the features.

    Parameters as in `salience`. The other three of the comparison are `--supervision weak` and `gt` with the same head,
    and `weak` with the adapter. The source fine-tunes a language model on weak labels and probes it; here the adapter
    stands for it. The student reads ground truth of hold-train.
    """

    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), linear-probe salience"
    equation: ClassVar[str] = "theta = argmin sum l(f_theta(x), p_w); then a head on phi_theta(x), labels y"
    truth: ClassVar[bool] = True

    def labels(self, context: Context) -> Supervision:
        return context.shared.truth


class Moved(nn.Module):
    """What a frozen head makes of raw features f[b, d]: phi f[b, e], or logits over its temperature f[b, k]."""

    def __init__(self, fit: Fit, *, logits: bool) -> None:
        super().__init__()
        self.own = classifier(fit.head, fit.theta["last"])
        self.tau = float(fit.resolved.get("tau_s") or 1.0)
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x) / self.tau if self.logits else self.own.moved(x)


def moved(move: nn.Module, x: Tensor) -> Tensor:
    """A table of features through a module, part by part, f[N, e]."""
    with torch.inference_mode():
        found = torch.cat([move(part) for part in x.split(CHUNK)])
    return found.clone()  # no inference tensor, which autograd may not touch
