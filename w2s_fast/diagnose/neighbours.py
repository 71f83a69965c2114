"""Exact nearest neighbours among feature rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import DataError, UsageError

CHUNK = 4096
"""Queries searched at a time, so that what is held beside the result stays small."""


def neighbours(
    x: Tensor,
    queries: Tensor | None = None,
    *,
    k: int,
    metric: Literal["cosine", "inner"] = "cosine",
    exclude_self: bool = True,
) -> tuple[Tensor, Tensor]:
    """The k rows of x f[n, d] most similar to each query f[q, d] (None: to each row of x), most similar first.

    Returns row numbers i[q, k] and similarities f[q, k], in single precision on the host. metric: `cosine`, or `inner`
    products of the rows as they are; an all-zero row has cosine 0 with every other. exclude_self: whether a row of x
    may not be its own neighbour; of no effect with `queries`. The search is exhaustive (faiss IndexFlatIP), so it is
    exact but for rounding; which of equally similar rows come first is left open. It runs on CPU cores, with the
    faiss-gpu package too, whose index of this kind needs no GPU. Raises `UsageError` for a k that the rows cannot
    give, `DataError` for rows that are not finite or of unequal width.
    """
    import faiss

    if metric not in ("cosine", "inner"):
        raise UsageError(f"metric={metric!r} is neither 'cosine' nor 'inner'")
    alone = exclude_self and queries is None
    most = len(x) - int(alone)
    if not 1 <= k <= most:
        raise UsageError(f"k={k} neighbours of {len(x)} rows: give 1 to {most}")
    table = _rows(x, "x", metric)
    asked = table if queries is None else _rows(queries, "queries", metric)
    if asked.shape[1] != table.shape[1]:
        raise DataError(f"queries are {asked.shape[1]} wide, x is {table.shape[1]}; take features of one encoder")
    index = faiss.IndexFlatIP(table.shape[1])
    index.add(table.numpy())  # pyright: ignore[reportCallIssue]
    ids = torch.empty(len(asked), k, dtype=torch.int64)
    near = torch.empty(len(asked), k)
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        found = index.search(part.numpy(), k + int(alone))  # pyright: ignore[reportCallIssue]
        similar, rows = (torch.from_numpy(one) for one in found)
        if alone:
            similar, rows = _without_self(similar, rows, first=start)
        ids[start : start + CHUNK], near[start : start + CHUNK] = rows, similar
    return ids, near


def _without_self(similar: Tensor, rows: Tensor, *, first: int) -> tuple[Tensor, Tensor]:
    """One column less: the row itself where it is among its neighbours, else (behind k equal ones) the last."""
    own = rows == torch.arange(first, first + len(rows)).unsqueeze(1)
    own[~own.any(dim=1), -1] = True
    shape = (len(rows), rows.shape[1] - 1)
    return similar[~own].view(shape), rows[~own].view(shape)


def _rows(x: Tensor, what: str, metric: str) -> Tensor:
    found = x.detach().to(device="cpu", dtype=torch.float32)
    if found.ndim != 2:
        raise DataError(f"{what} has shape {list(x.shape)}; neighbours are searched among rows [n, d]")
    bad = (~found.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise DataError(f"row {int(bad[0])} of {what} is not finite; leave it out, or extract it anew")
    return (normalize(found, dim=-1) if metric == "cosine" else found).contiguous()
