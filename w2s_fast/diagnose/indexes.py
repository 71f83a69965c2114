"""Neighbours through a choice of indexes: exact torch, or faiss Flat, IVF, HNSW and GPU; a measured cost decides."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.diagnose.index_files import kept_index
from w2s_fast.diagnose.neighbours import BLOCK, Metric, check, neighbours, widened

KINDS = ("exact", "flat", "ivf", "hnsw", "gpu")
"""`exact` is torch's; the others are faiss indexes: Flat, IVF with flat lists, HNSW, and Flat on a CUDA device."""
PROBED = 128
"""Queries that an index answers twice, once exactly, to tell its recall."""
SAMPLE, ASKED = 4096, 256
"""Rows and queries that the cost model is measured with."""
SEED = 123


@dataclass(frozen=True, kw_only=True)
class Found:
    """Neighbours with what they cost.

    `ids` i64[q, k] and `near` f32[q, k], most similar first; `kind` is the index that answered; `recall` the share of
    the exact neighbours that it names, over `probed` queries (1 for exact search); `seconds` to build and to search;
    `estimates` kind -> seconds that the cost model expected (empty where none was asked).
    """

    ids: Tensor
    near: Tensor
    kind: str
    recall: float
    probed: int
    seconds: dict[str, float]
    estimates: dict[str, float] = field(default_factory=dict[str, float])


def search(
    x: Tensor,
    queries: Tensor | None = None,
    *,
    k: int,
    metric: Metric = "cosine",
    exclude_self: bool = True,
    index: str = "exact",
    probes: int = 16,
    ef: int = 64,
    beside: Path | None = None,
) -> Found:
    """The k rows of x f[n, d] most similar to each query (None: to each row of x), by the index named.

    index: one of `KINDS`, or `auto`, the cheapest by a cost model measured on these rows (its estimates come with the
    answer). probes: lists that IVF searches; ef: candidates that HNSW keeps. beside: a folder in which a built index is
    kept and found again, by the content of x; its files are checked by digest. The other arguments and errors are those
    of `neighbours`. An index may name fewer than k rows; the exact search then answers those queries.
    """
    if index not in (*KINDS, "auto"):
        raise UsageError(f"there is no index {index!r}{nearest(index, (*KINDS, 'auto'))}")
    check(x, queries, k=k, metric=metric, exclude_self=exclude_self)
    estimates: dict[str, float] = {}
    if index == "auto":
        estimates = estimated(x, q=len(x if queries is None else queries), k=k, probes=probes, ef=ef)
        index = min(estimates, key=lambda kind: estimates[kind])
    clock = time.perf_counter()
    if index == "exact":
        ids, near = neighbours(x, queries, k=k, metric=metric, exclude_self=exclude_self)
        took = {"build": 0.0, "search": time.perf_counter() - clock}
        return Found(ids=ids, near=near, kind=index, recall=1.0, probed=0, seconds=took, estimates=estimates)
    built = kept_index(lambda: build(x, kind=index, metric=metric), x, kind=f"{index}-{metric}", beside=beside)
    if index == "gpu":
        built = _on_gpu(built)
    built_at = time.perf_counter()
    alone = exclude_self and queries is None
    asked = x if queries is None else queries
    ids, near = _ask(built, asked, k=k, metric=metric, alone=alone, probes=probes, ef=ef)
    searched = time.perf_counter()
    probe = torch.from_numpy(np.random.default_rng(SEED).permutation(len(asked))[:PROBED].copy())
    exact, _ = _exactly(x, asked, probe, k=k, metric=metric, alone=alone)
    recall = float(
        np.mean([len(set(a) & set(b)) / k for a, b in zip(ids[probe].tolist(), exact.tolist(), strict=True)])
    )
    short = (ids < 0).any(dim=1).nonzero()[:, 0]
    if len(short):
        ids[short], near[short] = _exactly(x, asked, short, k=k, metric=metric, alone=alone)
    took = {"build": built_at - clock, "search": searched - built_at}
    return Found(ids=ids, near=near, kind=index, recall=recall, probed=len(probe), seconds=took, estimates=estimates)


def build(x: Tensor, *, kind: str, metric: Metric = "cosine") -> Any:
    """A faiss index of x f[n, d]: `flat` (`gpu` is built as flat), `ivf` with 4 sqrt(n) lists, `hnsw` with 32 links."""
    faiss = _faiss()
    n, d = x.shape
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "ivf":
        lists = lists_of(n)
        made = faiss.index_factory(d, f"IVF{lists},Flat", product)
        made.cp.min_points_per_centroid = 1  # few rows are a choice, not a fault to warn of
        made.cp.seed = SEED
        made.train(_host(x[torch.from_numpy(_sample(n, 256 * lists))], metric))
    elif kind == "hnsw":
        made = faiss.index_factory(d, "HNSW32,Flat", product)
        made.hnsw.efConstruction = 64
    else:
        made = faiss.IndexFlatIP(d)
    for start in range(0, n, BLOCK):
        made.add(_host(x[start : start + BLOCK], metric, first=start))
    return made


def lists_of(n: int) -> int:
    """Inverted lists for n rows: 4 sqrt(n), with eight rows a list at least."""
    return max(1, min(int(4 * n**0.5), n // 8))


def _ask(
    built: Any, asked: Tensor, *, k: int, metric: Metric, alone: bool, probes: int, ef: int
) -> tuple[Tensor, Tensor]:
    if hasattr(built, "nprobe"):
        built.nprobe = min(probes, built.nlist)
    if hasattr(built, "hnsw"):
        built.hnsw.efSearch = max(ef, k + 1)
    ids = torch.empty(len(asked), k, dtype=torch.int64)
    near = torch.empty(len(asked), k)
    for start in range(0, len(asked), BLOCK):
        part = slice(start, start + BLOCK)
        similar, rows = map(torch.from_numpy, built.search(_host(asked[part], metric, first=start), k + int(alone)))
        if alone:
            similar, rows = _without_self(similar, rows, first=start)
        ids[part], near[part] = rows, similar
    return ids, near


def _without_self(similar: Tensor, rows: Tensor, *, first: int) -> tuple[Tensor, Tensor]:
    """One column less: the row itself where it is among its neighbours, else (behind k equal ones) the last."""
    own = rows == torch.arange(first, first + len(rows)).unsqueeze(1)
    own[~own.any(dim=1), -1] = True
    shape = (len(rows), rows.shape[1] - 1)
    return similar[~own].view(shape), rows[~own].view(shape)


def _exactly(x: Tensor, asked: Tensor, which: Tensor, *, k: int, metric: Metric, alone: bool) -> tuple[Tensor, Tensor]:
    """The exact neighbours of some of the queries; a row of x is left out of its own."""
    ids, near = neighbours(x, asked[which], k=k + int(alone), metric=metric)
    if not alone:
        return ids, near
    own = ids == which.unsqueeze(1)
    own[~own.any(dim=1), -1] = True
    return ids[~own].view(len(ids), k), near[~own].view(len(ids), k)


def _host(rows: Tensor, metric: Metric, *, first: int = 0) -> np.ndarray:
    return np.ascontiguousarray(widened(rows.cpu(), metric, "x", first=first).numpy())


def _sample(n: int, most: int) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).permutation(n)[:most])


def _on_gpu(built: Any) -> Any:
    faiss = _faiss()
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        raise UsageError("index='gpu' needs faiss-gpu and a CUDA device; take index='exact', which uses x's device")
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, built)


def _faiss() -> Any:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def estimated(x: Tensor, *, q: int, k: int, probes: int, ef: int) -> dict[str, float]:
    """kind -> seconds to build an index of x f[n, d] and ask it q queries, from rates measured on a sample of x.

    Exact search is linear in n q d, so is Flat. IVF trains, adds (each n x lists x d) and searches lists and the share
    of the rows in `probes` of them; HNSW's insertion and search grow as log n. Sample: SAMPLE rows and ASKED queries,
    built and searched once each; k does not enter. Kinds that this machine lacks are absent; `gpu` is never estimated,
    as torch's exact search runs on the device of x (and is the faster of the two there: facebookresearch/faiss#3045).
    """
    rows = x[torch.from_numpy(_sample(len(x), SAMPLE))]
    asked = rows[:ASKED]
    n, m, a = len(x), len(rows), len(asked)
    k = min(k, m - 1)
    if m < 2 or k < 1:
        return {"exact": 0.0}

    def timed(what: Callable[[], Any]) -> tuple[float, Any]:
        clock = time.perf_counter()
        made = what()
        return time.perf_counter() - clock, made

    neighbours(rows[:64], k=1) if m > 64 else None  # the first product starts the library's threads
    exact, _ = timed(lambda: neighbours(rows, asked, k=k))
    out = {"exact": exact * (n * q) / (m * a)}
    for kind in ("flat", "ivf", "hnsw"):
        made_in, made = timed(lambda kind=kind: build(rows, kind=kind))
        took, _ = timed(lambda made=made: _ask(made, asked, k=k, metric="cosine", alone=False, probes=probes, ef=ef))
        if kind == "flat":
            grow_build, grow_search = n / m, n / m
        elif kind == "ivf":
            of, all_ = lists_of(m), lists_of(n)
            grow_build = n * all_ / (m * of)
            grow_search = (all_ + n * min(1, probes / all_)) / (of + m * min(1, probes / of))
        else:
            grow_build = (n / m) * math.log(n) / math.log(m)
            grow_search = math.log(n) / math.log(m)
        out[kind] = made_in * grow_build + took * grow_search * q / a
    return out
