"""Weak labels refined by neighbours: smoothing over a graph of strong features, and relabelling by their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.losses import Supervision
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import relabelled, share_right, weak_probs
from w2s_fast.supervisions.strategy import Strategy

TOLERANCE = 1e-9
"""Residual, relative to the right-hand side, at which the solver stops."""
MOST = 5000
"""Iterations after which it gives up."""
COLUMNS = 64
"""Classes solved together, which bounds what the solver holds."""


@dataclass(frozen=True, kw_only=True)
class Refined(Strategy):
    """Weak labels replaced on the rows that may be seen; all others, hold-val among them, keep theirs."""

    def refined(self, context: Context) -> Supervision:
        """The new tables."""
        raise NotImplementedError

    def requests(self, context: Context) -> FitRequests:
        made = context.shared.once((self, context.weak_seed, context.split.digest), lambda: self.refined(context))
        request = FitRequest(supervision=made)
        (fit,) = yield [request]
        train = context.split.train
        detail = {
            "stage": "refined",
            "acc_weak": share_right(context, context.weak.weak, train),
            "acc_refined": share_right(context, made.weak, train),
        }
        return Student(fit=fit, request=request, details=(detail,))


@dataclass(frozen=True, kw_only=True)
class Smooth(Refined):
    """Weak labels smoothed over the graph of nearest neighbours among strong features.

    k: neighbours of a row, by cosine; two rows are joined if either is among the other's, with the mean of the two
    directed weights, each the cosine (negative ones 0).
    l: how far labels travel, 0 = not at all.
    transductive: whether D'_test images are rows of the graph.

    Solved by conjugate gradients in float64; rows of Y~ are normalised. The source gives the form of the smoothing; the
    graph's weights and both defaults are choices made here.
    """

    k: int = 20
    l: float = 0.9  # noqa: E741
    transductive: bool = False

    limits: ClassVar[Limits] = {"k": "[1, inf)", "l": "[0, 1)"}
    source: ClassVar[str] = (
        "Lang et al. 2025, selective weak-to-strong generalization (arXiv 2511.14166), its graph smoothing; "
        "Zhou et al. 2004, learning with local and global consistency"
    )
    equation: ClassVar[str] = "Y~ = (1-l) (I - l S)^-1 Y, S = D^-1/2 A D^-1/2, Y = softmax(z_w)"
    verified: ClassVar[bool] = False

    def refined(self, context: Context) -> Supervision:
        rows = context.seen(transductive=self.transductive)
        x = context.shared.features()[torch.from_numpy(rows)]
        near, similar = neighbours(x, k=min(self.k, len(rows) - 1))
        return relabelled(context, rows, smoothed(weak_probs(context, rows), near, similar, l=self.l))


@dataclass(frozen=True, kw_only=True)
class KnnRelabel(Refined):
    """Each weak label replaced by the mean weak probability of its nearest strong features, itself among them.

    k: how many rows are averaged.
    transductive: whether D'_test images are among them.

    As in the published code every row is its own first neighbour; there rows are compared by Euclidean distance of
    hidden states, here of unit features, and classes are k instead of two.
    """

    k: int = 20
    transductive: bool = False

    limits: ClassVar[Limits] = {"k": "[1, inf)"}
    source: ClassVar[str] = (
        "EleutherAI 2024, blog.eleuther.ai/weak-to-strong; github.com/EleutherAI/w2s, commit not at hand "
        "(probe_relabel, knn)"
    )
    equation: ClassVar[str] = "Y~_i = mean over the k rows nearest to x_i of softmax(z_w)"
    verified: ClassVar[bool] = True

    def refined(self, context: Context) -> Supervision:
        rows = context.seen(transductive=self.transductive)
        x = context.shared.features()[torch.from_numpy(rows)]
        p, total = weak_probs(context, rows), min(self.k, len(rows))
        if total == 1:
            return relabelled(context, rows, p)
        near, _ = neighbours(x, k=total - 1)
        found = p.clone()
        for place in range(total - 1):  # one neighbour at a time: [n, k, classes] at once may not fit
            found += p[near[:, place]]
        return relabelled(context, rows, found / total)


def smoothed(y: Tensor, near: Tensor, similar: Tensor, *, l: float) -> Tensor:  # noqa: E741
    """(1-l) (I - l S)^-1 Y with unit row sums, for Y f64[n, k] and directed neighbours i[n, m] with cosines f[n, m]."""
    s = normalised_graph(near, similar)
    found = torch.cat([solved(s, (1 - l) * part, l) for part in y.double().split(COLUMNS, dim=1)], dim=1).clamp_min(0)
    return found / found.sum(dim=1, keepdim=True)


def normalised_graph(near: Tensor, similar: Tensor) -> Tensor:
    """S = D^-1/2 A D^-1/2, sparse f64[n, n], where A = (B + B^T) / 2 and B holds each row's cosines, cut off at 0."""
    n, m = near.shape
    source = torch.arange(n).repeat_interleave(m)
    target, weight = near.reshape(-1), similar.reshape(-1).double().clamp_min(0) / 2
    at = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    both = torch.cat([weight, weight])
    degree = torch.zeros(n, dtype=torch.float64).index_add_(0, at[0], both)
    root = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return torch.sparse_coo_tensor(at, root[at[0]] * both * root[at[1]], (n, n), check_invariants=False).coalesce()


def solved(s: Tensor, b: Tensor, l: float) -> Tensor:  # noqa: E741
    """(I - l S)^-1 b f64[n, c] by conjugate gradients, every column with its own step."""
    x = b.clone()
    r = b - (x - l * torch.sparse.mm(s, x))
    p, rr = r.clone(), (r * r).sum(0)
    enough = TOLERANCE**2 * (b * b).sum(0)
    for _ in range(MOST):
        if bool((rr <= enough).all()):
            return x
        ap = p - l * torch.sparse.mm(s, p)
        step = rr / (p * ap).sum(0).clamp_min(1e-300)
        x += step * p
        r -= step * ap
        before, rr = rr, (r * r).sum(0)
        p = r + rr / before.clamp_min(1e-300) * p
    raise TrainError(f"graph smoothing did not converge in {MOST} iterations with l={l}; take a smaller l")
