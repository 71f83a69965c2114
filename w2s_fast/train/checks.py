"""Refuses inputs that do not fit together, before any run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.heads.head import Features, Start
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.features import Resident
from w2s_fast.train.run import Setup, SplitRows
from w2s_fast.train.stream import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class HostSplit:
    """A split's row numbers as int64 arrays."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def check_inputs(
    x: Tensor | Features,
    setups: Sequence[Setup],
    *,
    splits: Sequence[SplitRows],
    supervisions: Sequence[Supervision],
    start: Start,
    truth: Tensor,
) -> None:
    """Raise if shapes, class numbers or indices disagree, or if features or supervision in use are not finite."""
    table = x.table if isinstance(x, Resident) else x
    if isinstance(table, Tensor) and table.ndim != 2:
        raise TrainError(f"features have shape {tuple(table.shape)}; give one row per item, [N, d]")
    n, d = (table.shape[0], table.shape[1]) if isinstance(table, Tensor) else (table.n, table.d)
    if d != start.d:
        raise TrainError(f"features have {d} dimensions and the start says d={start.d}; give Start(d={d})")
    if start.text is not None and tuple(start.text.shape) != (start.k, d):
        raise TrainError(
            f"text features have shape {tuple(start.text.shape)}, not ({start.k}, {d}), one row per class; "
            "extract the text with the encoder of the features"
        )
    if truth.shape != (n,):
        raise TrainError(
            f"truth has shape {tuple(truth.shape)} for {n} rows of features; give one label per row, -1 = unknown"
        )
    if len(truth) and int(truth.max()) >= start.k:
        row = int(truth.argmax())
        raise TrainError(f"truth {int(truth[row])} of row {row} is outside 0..{start.k - 1}; correct the labels")
    for setup in setups:
        for name, count in (("split", len(splits)), ("supervision", len(supervisions))):
            place = getattr(setup.run, name)
            if place >= count:
                raise UsageError(f"run {setup.index}: {name}={place}, and {count} were given (counted from 0)")
    numbers = sorted({s.run.split for s in setups})
    parts = [check_rows(number, splits[number], n) for number in numbers]
    rows = (
        np.unique(np.concatenate([r for p in parts for r in (p.train, p.val, p.test)]))
        if parts
        else np.empty(0, np.int64)
    )
    for number in sorted({s.run.supervision for s in setups}):
        _check_tables(number, supervisions[number], n=n, k=start.k, rows=rows)
    if isinstance(table, Tensor | Stream):
        bad = _not_finite(table, rows) if isinstance(table, Tensor) else next(iter(rows[~table.finite[rows]]), None)
        if bad is not None:
            number = next(
                c for c, p in zip(numbers, parts, strict=True) if bad in np.concatenate([p.train, p.val, p.test])
            )
            raise TrainError(
                f"features of row {bad} are not finite, and split {number} uses that row; "
                "extract them again or leave it out"
            )


def check_rows(number: int, split: SplitRows, n: int, *, used: bool = True) -> HostSplit:
    """The split as int64 arrays; raises for a row number outside the table of n, or no train rows though it is used."""
    if not all(hasattr(split, name) for name in ("train", "val", "test")):
        raise UsageError(f"split {number} is a {type(split).__name__}; give an object with train, val and test rows")
    found = {name: _rows(getattr(split, name), f"split {number}: {name}") for name in ("train", "val", "test")}
    for name, rows in found.items():
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            raise TrainError(f"split {number}: {name} names row {outside[0]}, and the features have {n} rows")
    if used and not len(found["train"]):
        raise TrainError(f"split {number} has no train rows; make one with at least one row")
    return HostSplit(**found)


def _rows(rows: ArrayLike, what: str) -> NDArray[np.int64]:
    found = np.asarray(rows)
    if found.size and (found.dtype.kind not in "iu" or found.ndim != 1):
        raise TrainError(
            f"{what} has type {found.dtype} and shape {found.shape}; give row numbers, as np.nonzero(mask)[0]"
        )
    return found.astype(np.int64).reshape(-1)


def _check_tables(number: int, s: Supervision, *, n: int, k: int, rows: NDArray[np.int64]) -> None:
    where = f"supervision {number}"
    if not isinstance(s, Supervision):
        raise UsageError(f"{where} is a {type(s).__name__}; give Supervision(weak=...)")
    for name in ("weak", "pick", "weight", "prior", "labels"):
        table = getattr(s, name)
        if table is not None and not isinstance(table, Tensor):
            raise UsageError(f"{where}: {name} is a {type(table).__name__}; give a tensor (torch.as_tensor)")
    if s.weak.ndim not in (2, 3) or s.weak.shape[0] != n:
        raise TrainError(f"{where}: weak logits have shape {tuple(s.weak.shape)}; {n} rows of features need [{n}, {k}]")
    if s.k != k:
        raise TrainError(
            f"{where}: the weak model has {s.k} classes and the task has {k}; use a weak model of this task"
        )
    for name in ("pick", "weight", "labels", "prior"):
        table = getattr(s, name)
        shape = (n, k) if name == "prior" else (n,)
        if table is not None and tuple(table.shape) != shape:
            raise TrainError(f"{where}: {name} has shape {tuple(table.shape)}, not {shape}")
    if s.pick is not None and s.weak.ndim != 3:
        raise TrainError(f"{where}: pick chooses among teachers, and weak has one; leave pick out")
    if s.pick is not None:
        _check_range(f"{where}: pick", s.pick, 0, s.weak.shape[1] - 1)
    if s.labels is not None:
        _check_range(f"{where}: labels", s.labels, -1, k - 1)
    for name in ("weak", "weight", "prior"):
        table = getattr(s, name)
        if table is None:
            continue
        bad = _not_finite(table, rows)
        if bad is not None:
            raise TrainError(
                f"{where}: {name} of row {bad} is not finite, and a split uses that row; leave it out "
                "(zero probabilities enter by Supervision.from_probabilities)"
            )
        if name == "weight" and bool((table < 0).any()):
            raise TrainError(f"{where}: weight of row {int((table < 0).nonzero()[0, 0])} is negative")


def _not_finite(table: Tensor, rows: NDArray[np.int64]) -> int | None:
    """The first of the given rows that holds NaN or infinity."""
    # NaN and infinity survive a sum, and one pass of it is cheap; an overflow only costs the second look
    if bool(table.sum(dtype=torch.promote_types(table.dtype, torch.float32)).isfinite()):
        return None
    parts = torch.as_tensor(rows).to(table.device).split(1 << 16)
    fine = torch.cat([table.index_select(0, p).reshape(len(p), -1).isfinite().all(dim=1) for p in parts]).cpu().numpy()
    return None if bool(fine.all()) else int(rows[~fine][0])


def _check_range(what: str, table: Tensor, low: int, high: int) -> None:
    outside = ((table < low) | (table > high)).nonzero()
    if len(outside):
        row = int(outside[0, 0])
        raise TrainError(f"{what} {int(table[row])} of row {row} is outside {low}..{high}; correct it")
