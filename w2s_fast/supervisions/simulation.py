"""Are weak errors easy to imitate: students who see the weak model's output, errors of another kind, imitability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from w2s_fast.core.fields import Limits
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import one_hot, relabelled, share_right, weak_log_probs
from w2s_fast.supervisions.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Simulate(Strategy):
    """Weak labels for a student whose features hold the weak model's own probabilities.

    scale: s; 0 gives the same student without them. Features are unit rows; text features get zeros.

    The weak model is asked about test images too, so the head cannot be taken out.
    """

    scale: float = 1.0

    limits: ClassVar[Limits] = {"scale": "[0, inf)"}
    source: ClassVar[str] = "Burns et al. 2023 (arXiv 2312.09390), simulation difficulty, on features"
    equation: ClassVar[str] = "x' = [x_hat, s softmax(z_w)]"
    verified: ClassVar[bool] = False

    def requests(self, context: Context) -> FitRequests:
        task, shared = context.task, context.shared
        features = shared.once(
            (self, context.weak_seed),
            lambda: torch.cat([shared.unit_features(), self.scale * weak_log_probs(context).exp()], dim=1),
        )
        text = None
        if task.text is not None:
            given, k = task.text, len(task.classes)
            text = shared.once("padded text", lambda: pad(given, (0, k)))
        request = FitRequest(supervision=context.weak, features=features, text=text)
        (fit,) = yield [request]
        return Student(fit=fit, request=request)


@dataclass(frozen=True, kw_only=True)
class GtNoise(Strategy):
    """Hard weak labels whose errors are moved to other rows of hold-train, at the same accuracy.

    kind: `weak`, the errors as they are; `random`, as many rows drawn at random, each with a wrong class drawn at
    random; `confusion`, weak labels exchanged at random among the rows of one true class, which keeps the confusion
    matrix.
    draw: which of the draws of the run seed.

    Which rows are errors is read from ground truth, so rows say so. Draws depend on the run seed and `draw`. Rows
    without a known label, and all outside hold-train, keep their weak labels.
    """

    kind: str = "random"
    draw: int = 0

    limits: ClassVar[Limits] = {"kind": ("weak", "random", "confusion"), "draw": "[0, inf)"}
    source: ClassVar[str] = "Burns et al. 2023 (arXiv 2312.09390), simulation difficulty, by exchange of errors"
    equation: ClassVar[str] = "w = onehot(y_noisy), the share of y_noisy = y being that of argmax z_w = y"
    verified: ClassVar[bool] = False
    truth: ClassVar[bool] = True

    def requests(self, context: Context) -> FitRequests:
        rows = context.split.train
        truth = np.asarray(context.task.manifest.labels)[rows]
        said = weak_log_probs(context)[torch.from_numpy(rows)].argmax(-1).numpy()
        k = len(context.task.classes)
        seed = int(torch.randint(2**62, (1,), generator=context.generator(f"gt_noise {self.kind} {self.draw}")))
        labels = exchanged(said, truth, k=k, kind=self.kind, rng=np.random.default_rng(seed))
        made = relabelled(context, rows, one_hot(torch.from_numpy(labels), k))
        request = FitRequest(supervision=made)
        (fit,) = yield [request]
        detail = {
            "stage": self.kind,
            "acc_labels": share_right(context, made.weak, rows),
            "recall_weak_labels": float((labels == said).mean()),
        }
        return Student(fit=fit, request=request, details=(detail,))


def exchanged(
    said: NDArray[np.int64], truth: NDArray[np.int64], *, k: int, kind: str, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels i[n] as right as `said` i[n] is against `truth` i[n] (-1 unknown), with errors of the kind asked for."""
    labels, known = said.copy(), np.flatnonzero(truth >= 0)
    if kind == "random":
        labels[known] = truth[known]
        wrong = rng.choice(known, size=int((said[known] != truth[known]).sum()), replace=False)
        labels[wrong] = (truth[wrong] + rng.integers(1, k, size=len(wrong))) % k
    elif kind == "confusion":
        for c in range(k):
            mine = np.flatnonzero(truth == c)
            labels[mine] = rng.permutation(said[mine])
    return labels
