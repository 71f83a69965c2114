"""Exact nearest neighbours among feature rows, block by block, on the device that holds them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from w2s_fast.core.errors import DataError, UsageError

BLOCK = 8192
"""Rows of x that are compared at a time."""
CHUNK = 1024
"""Queries compared at a time: with BLOCK, 32 MiB of similarities beside the rows and the result."""
GROUP = 32
"""Columns whose maximum stands for them in a first choice."""
Metric = Literal["cosine", "inner"]


def neighbours(
    x: Tensor, queries: Tensor | None = None, *, k: int, metric: Metric = "cosine", exclude_self: bool = True
) -> tuple[Tensor, Tensor]:
    """The k rows of x f[n, d] most similar to each query f[q, d] (None: to each row of x), most similar first.

    Returns row numbers i64[q, k] and similarities f32[q, k], on the host. metric: `cosine`, or `inner` products of the
    rows as they are; an all-zero row has cosine 0 with every other. exclude_self: whether a row of x may not be its own
    neighbour; of no effect with `queries`. Every pair is compared, in single precision on x's device, so the search is
    exact but for rounding; which of equally similar rows come first is left open. Rows may be of any float type and are
    widened a block at a time: beside x and the result it holds about 60 MB. Raises `UsageError` for a k that the rows
    cannot give, `DataError` for rows that are not finite or of unequal width.
    """
    alone = exclude_self and queries is None
    asked = x if queries is None else queries
    check(x, queries, k=k, metric=metric, exclude_self=exclude_self)
    near = torch.full((len(asked), k), -torch.inf, device=x.device)
    ids = torch.zeros(len(asked), k, dtype=torch.int32, device=x.device)
    for first in range(0, len(x), BLOCK):
        block = widened(x[first : first + BLOCK], metric, "x", first=first)
        for start in range(0, len(asked), CHUNK):
            part = slice(start, start + CHUNK)
            similar = widened(asked[part].to(x.device), metric, "queries", first=start) @ block.T
            if alone and first < start + CHUNK and start < first + BLOCK:
                own = torch.arange(max(start, first), min(start + len(similar), first + len(block)), device=x.device)
                similar[own - start, own - first] = -torch.inf
            best, at = _largest(similar, min(k, len(block)))
            best = torch.cat([near[part], best], dim=1)
            at = torch.cat([ids[part], at.to(torch.int32) + first], dim=1)
            near[part], kept = best.topk(k)
            ids[part] = at.gather(1, kept)
    return ids.long().cpu(), near.cpu()


def check(x: Tensor, queries: Tensor | None, *, k: int, metric: str, exclude_self: bool) -> None:
    """Refuse what cannot be searched: see `neighbours`."""
    if metric not in ("cosine", "inner"):
        raise UsageError(f"metric={metric!r} is neither 'cosine' nor 'inner'")
    for what, rows in (("x", x), ("queries", queries)):
        if rows is not None and rows.ndim != 2:
            raise DataError(f"{what} has shape {list(rows.shape)}; neighbours are searched among rows [n, d]")
    if queries is not None and queries.shape[1] != x.shape[1]:
        raise DataError(f"queries are {queries.shape[1]} wide, x is {x.shape[1]}; take features of one encoder")
    most = len(x) - int(exclude_self and queries is None)
    if not 1 <= k <= most:
        raise UsageError(f"k={k} neighbours of {len(x)} rows: give 1 to {most}")


def _largest(similar: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row f[q, n] and their columns; n a multiple of GROUP takes the short way.

    The k largest lie in the k groups with the largest maxima, so most columns are only ever compared within a group.
    """
    rows, columns = similar.shape
    if columns % GROUP or columns < 4 * k * GROUP:
        return similar.topk(k)
    grouped = similar.view(rows, -1, GROUP)
    at = grouped.amax(dim=2).topk(k, sorted=False).indices
    best, place = grouped.gather(1, at.unsqueeze(2).expand(-1, -1, GROUP)).view(rows, -1).topk(k)
    return best, at.gather(1, place // GROUP) * GROUP + place % GROUP


def widened(rows: Tensor, metric: str, what: str, *, first: int = 0) -> Tensor:
    """Rows in single precision, of unit length for cosines; a row that is not finite is a `DataError`."""
    found = rows.detach().to(torch.float32)
    norms = torch.linalg.vector_norm(found, dim=1, keepdim=True)
    if not norms.isfinite().all():
        bad = (~found.isfinite().all(dim=1)).nonzero()
        if len(bad):
            raise DataError(f"row {first + int(bad[0])} of {what} is not finite; leave it out, or extract it anew")
        norms = torch.linalg.vector_norm(found.double(), dim=1, keepdim=True).float()
    return found / norms.clamp_min(1e-12) if metric == "cosine" else found
