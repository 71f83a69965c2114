"""The weak model as a noisy channel: zero-shot says what is likely, a confusion matrix what the weak label means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import relabelled, share_right, weak_log_probs
from w2s_fast.supervisions.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class ChannelEm(Strategy):
    """The posterior of a noisy channel, from the zero-shot prior and a confusion matrix that EM finds.

    b: exponent of the prior.
    iterations: EM steps before a student is fitted.
    rounds: how many students; from the second on, the last student's predictions stand in place of p_0.
    smoothing: pseudo-counts spread evenly over each row of T.
    transductive: whether D'_test images are counted too.

    EM starts from q ~ p_0^b. Rows outside keep their weak labels. Needs text features. The source is a list of ideas:
    it names neither b, steps nor smoothing, nor how the student re-enters.
    """

    b: float = 1.0
    iterations: int = 10
    rounds: int = 1
    smoothing: float = 1.0
    transductive: bool = False

    limits: ClassVar[Limits] = {
        "b": "(0, inf)",
        "iterations": "[1, inf)",
        "rounds": "[1, inf)",
        "smoothing": "(0, inf)",
    }
    source: ClassVar[str] = "Anthropic 2026, automated weak-to-strong research, its list of ideas"
    equation: ClassVar[str] = "q(y|x) ~ p_0(y|x)^b T[y, argmax p_w(x)], T[y, l] ~ sum of q(y|x) over x with label l"
    verified: ClassVar[bool] = False

    @property
    def stages(self) -> int:
        return self.rounds

    def requests(self, context: Context) -> FitRequests:
        rows = context.seen(transductive=self.transductive)
        at = torch.from_numpy(rows)
        said = weak_log_probs(context)[at].argmax(-1)
        prior = context.shared.zero_shot[at].double()
        details: list[dict[str, object]] = []
        for number in range(1, self.rounds + 1):
            q, channel = em(prior, said, b=self.b, iterations=self.iterations, smoothing=self.smoothing)
            last = number == self.rounds
            key = ("channel_em", self.b, self.iterations, self.smoothing, self.transductive, context.weak_seed, number)
            request = FitRequest(supervision=relabelled(context, rows, q), scored=last, key=key)
            (fit,) = yield [request]
            details.append(
                {
                    "stage": number,
                    "diagonal": float(channel.diagonal().mean()),
                    "acc_labels": share_right(context, request.supervision.weak, context.split.train),
                }
            )
            if last:
                return Student(fit=fit, request=request, details=tuple(details))
            prior = context.shared.log_probs(fit)[at].double()
        raise AssertionError("at least one round")


def em(log_prior: Tensor, said: Tensor, *, b: float, iterations: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """(q f64[n, k], T f64[k, k]) after so many steps, from log p_0 f64[n, k] and weak labels i[n]."""
    k = log_prior.shape[-1]
    start = b * log_prior
    q = start.softmax(-1)
    channel = torch.empty(k, k, dtype=q.dtype)
    for _ in range(iterations):
        counts = torch.zeros(k, k, dtype=q.dtype).index_add_(0, said, q).T + smoothing / k
        channel = counts / counts.sum(dim=1, keepdim=True)
        q = (start + channel.log().T[said]).softmax(-1)
    return q, channel
