"""Label-free predictors of the gain: what the strong features can express of what weak features cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.spectrum import views
from w2s_fast.diagnose.subject import Subject

ROWS = 2000
"""Rows of the pool that enter, evenly taken: the kernel measure is quadratic in them."""


@dataclass(frozen=True, kw_only=True)
class Discrepancy(Diagnostic):
    """How far do weak and strong features differ, in the ways that theory ties to the gain? Reads no label.

    tail: the share of variance that intrinsic dimensions leave out. Per weak view (its logits, or an encoder's
    features given as a space): the dimensions d_s and d_w; `overlap` = ||U_s' U_w||_F^2 of the principal directions in
    sample space; `apart` = d_w - overlap, the dimensions in which the weak model's variance is not inherited but cut by
    d_s / N; `reach` = ||P_s (I - P_w)|| (spectral norm) with P = K (K + r n I)^-1 and r the `ridge` times K's largest
    eigenvalue over n, what the strong model can learn but the weak one cannot.
    """

    tail: float = 0.01
    ridge: float = 0.01

    needs: ClassVar[frozenset[str]] = frozenset({"weak"})
    limits: ClassVar[Limits] = {"tail": "(0, 1)", "ridge": "(0, inf)"}
    source: ClassVar[str] = (
        "subspace overlap: Dong et al. 2025 (arXiv 2502.05075); reach: after Xue et al. 2025 (arXiv 2502.00620), "
        "with a ridge of our choice"
    )

    def of(self, subject: Subject) -> Diagnosis:
        at = torch.from_numpy(subject.pool[:: max(1, len(subject.pool) // ROWS)])
        every = views(subject)
        strong = every.pop("strong")[at]
        u_s, s_s = principal(strong)
        d_s = dimension(s_s, self.tail)
        rows: list[tuple[Value, ...]] = []
        for name, x in every.items():
            u_w, s_w = principal(x[at])
            d_w = dimension(s_w, self.tail)
            shared = float((u_s[:, :d_s].T @ u_w[:, :d_w]).square().sum())
            rows.append((name, len(at), d_s, d_w, shared, d_w - shared, reach(u_s, s_s, u_w, s_w, ridge=self.ridge)))
        return Diagnosis(
            name="discrepancy",
            title="Discrepancy of weak and strong features",
            columns=("weak view", "rows", "d_s", "d_w", "overlap", "apart", "reach"),
            rows=tuple(rows),
            notes=("larger `apart` and `reach` go with a larger gain in the theory; no label is read",),
            source=self.source,
        )


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors f64[n, r] and falling singular values f64[r] of centred rows f[n, d]."""
    centred = x.double() - x.double().mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    return u, s


def dimension(s: Tensor, tail: float) -> int:
    """The least number of falling singular values whose rest holds at most `tail` of the squared sum."""
    energy = s.square()
    rest = energy.sum() - energy.cumsum(0)
    return min(int((rest > tail * energy.sum()).sum()) + 1, len(s))


def reach(u_s: Tensor, s_s: Tensor, u_w: Tensor, s_w: Tensor, *, ridge: float) -> float:
    """||P_s (I - P_w)||_2 with P = K (K + ridge k_1 I)^-1, K the kernel of each view and k_1 its largest eigenvalue."""
    shrunk = [
        u * (s.square() / (s.square() + ridge * s[0].square().clamp_min(1e-300))) for u, s in ((u_s, s_s), (u_w, s_w))
    ]
    # within the span of U_s the left factor is diagonal: P_s (I - P_w) = U_s D_s (U_s' - (U_s' U_w) D_w U_w')
    left = shrunk[0].T
    return float(torch.linalg.matrix_norm(left - (left @ u_w) @ shrunk[1].T, ord=2))
