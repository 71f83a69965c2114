"""Do probabilities mean what they say: calibration error, Brier score, likelihood, reliability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value, rounded
from w2s_fast.diagnose.students import top
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Calibration(Diagnostic):
    """How well do confidences meet accuracies, for the weak model, zero-shot and students that give probabilities?

    bins: equal widths of confidence. `ece` is the mean over rows of |accuracy - confidence| of their bin; `over` the
    mean confidence minus the accuracy; `brier` the mean over rows of the squared distance between the probabilities
    and the one-hot label (0 to 2); `nll` the mean negative log-likelihood.
    """

    bins: int = 15

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    limits: ClassVar[Limits] = {"bins": "[1, inf)"}
    source: ClassVar[str] = "Guo et al. 2017 (arXiv 1706.04599), equation 3; Brier 1950"

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = []
        for name, probs, truth in _forecasts(subject):
            sure, said = probs.max(-1)
            rows.append(
                (
                    name,
                    len(truth),
                    rounded((said == truth).double().mean()),
                    rounded(sure.mean()),
                    ece(probs, truth, bins=self.bins),
                    rounded(sure.mean() - (said == truth).double().mean()),
                    brier(probs, truth),
                    rounded(-probs.gather(1, truth.unsqueeze(1)).clamp_min(1e-30).log().mean()),
                    top(probs, truth, 5),
                )
            )
        return Diagnosis(
            name="calibration",
            title="Calibration on the test rows",
            columns=("system", "rows", "accuracy", "confidence", "ece", "over", "brier", "nll", "top-5"),
            rows=tuple(rows),
            reads_truth=True,
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class Reliability(Diagnostic):
    """What accuracy goes with which confidence: the reliability diagram as a table.

    bins: equal widths of confidence; bins without rows are left out.
    """

    bins: int = 10

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    limits: ClassVar[Limits] = {"bins": "[1, inf)"}
    source: ClassVar[str] = "DeGroot and Fienberg 1983; Niculescu-Mizil and Caruana 2005"

    def of(self, subject: Subject) -> Diagnosis:
        rows: list[tuple[Value, ...]] = [
            (name, at / self.bins, (at + 1) / self.bins, count, sure, right)
            for name, probs, truth in _forecasts(subject)
            for at, count, sure, right in bins_of(probs, truth, bins=self.bins)
        ]
        return Diagnosis(
            name="reliability",
            title="Reliability: accuracy by confidence",
            columns=("system", "from", "to", "rows", "confidence", "accuracy"),
            rows=tuple(rows),
            reads_truth=True,
            source=self.source,
        )


def bins_of(probs: Tensor, truth: Tensor, *, bins: int) -> list[tuple[int, int, float, float]]:
    """(bin, rows, mean confidence, accuracy) of the bins ](i / bins, (i + 1) / bins]] that hold rows."""
    sure, said = probs.double().max(-1)
    right = (said == truth).double()
    at = ((sure * bins).ceil() - 1).clamp(0, bins - 1).long()
    out: list[tuple[int, int, float, float]] = []
    for i in range(bins):
        here = at == i
        if here.any():
            out.append((i, int(here.sum()), float(sure[here].mean()), float(right[here].mean())))
    return out


def ece(probs: Tensor, truth: Tensor, *, bins: int) -> float | None:
    """The expected calibration error of probs f[n, k] against labels i[n]; None without rows."""
    found = bins_of(probs, truth, bins=bins)
    return sum(count * abs(right - sure) for _, count, sure, right in found) / len(truth) if len(truth) else None


def brier(probs: Tensor, truth: Tensor) -> float | None:
    """The mean squared distance of probs f[n, k] to the one-hot labels."""
    own = probs.double().gather(1, truth.unsqueeze(1))[:, 0]
    return rounded((probs.double().square().sum(-1) - 2 * own + 1).mean())


def _forecasts(subject: Subject) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(system, probabilities f64[m, k], labels i[m]) over the test rows with a known label, or the pool's."""
    rows = torch.from_numpy(subject.parts.get("test", subject.pool))
    given = {name: z[rows].double().softmax(-1) for name, z in subject.weak.items()}
    if subject.text is not None:
        cosines = normalize(subject.features[rows].double(), dim=-1) @ normalize(subject.text.double(), dim=-1).T
        given["zero-shot"] = (subject.logit_scale * cosines).softmax(-1)
    of = {name: (rows, probs) for name, probs in given.items()}
    of |= {
        name: (torch.from_numpy(said.rows), said.probs.double())
        for name, said in subject.students.items()
        if said.probs is not None
    }
    for name, (at, probs) in of.items():
        truth = subject.truth(at.numpy())
        if (truth >= 0).any():
            yield name, probs[truth >= 0], truth[truth >= 0]
