"""Whether a task's features lie in memory or are streamed, and reading them either way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.errors import UsageError
from w2s_fast.store.bank import Bank
from w2s_fast.store.blocks import BankBlocks
from w2s_fast.tasks.task import Say, log
from w2s_fast.train.memory import free_bytes, gib
from w2s_fast.train.stream import CHUNK, WINDOW, ArrayBlocks, Stream

COPIES = 3
"""Single-precision tables that a resident task takes at most: raw, with unit rows, and one on its way to either."""

Streaming = bool | int | None
"""True: streamed; a number: streamed, with so many rows shuffled together; False: in memory; None: what fits."""


def open_features(bank: Bank, rows: np.ndarray, *, stream: Streaming, name: str, say: Say) -> Tensor | Stream:
    """Raw features of the given rows of a bank: f32 [n, d] in memory, or a `Stream` where that takes too much.

    Too much is more than half of the free memory for a table, one with unit rows, and a copy on the way. `say` is told.
    """
    if _streams(stream, COPIES * 4 * len(rows) * bank.dim, torch.device("cpu"), name, say):
        whole = np.array_equal(rows, np.arange(bank.rows))
        return Stream(blocks=BankBlocks(bank=bank), rows=None if whole else rows, window=_window(stream))
    features = bank.features()
    return features if np.array_equal(rows, np.arange(bank.rows)) else features[torch.from_numpy(rows)]


def weak_logits(bank: Bank, rows: np.ndarray, *, as_stored: bool) -> Tensor | None:
    """Raw logits [n, k] of the given rows: f32, or in the type of the bank; None where it has none."""
    low = as_stored and "logits" in bank.parts[0].arrays and bank.dtype("logits") == np.float16
    logits = bank.logits(dtype=torch.float16 if low else torch.float32)
    if logits is None or np.array_equal(rows, np.arange(bank.rows)):
        return logits
    return logits[torch.from_numpy(rows)]


def for_device(features: Tensor | Stream, *, stream: Streaming, device: str) -> Tensor | Stream:
    """The features as `fit` trains on them: a table is streamed if asked for, or if the device has no room for it."""
    if isinstance(features, Stream):
        if stream is False:
            raise UsageError("this task was opened to stream its features; open it with stream=False (--no-stream)")
        return features
    place = torch.device(device)
    # on a CPU they are where they are
    needed = 0 if place.type == "cpu" else 2 * 4 * features.numel()
    if not _streams(stream, needed, place, "features", log):
        return features
    return Stream(blocks=ArrayBlocks(table=features.numpy()), window=_window(stream))


def parts(features: Tensor | Stream, rows: Tensor | None = None) -> Iterator[tuple[slice | Tensor, Tensor]]:
    """(which rows, their raw features f32 [b, d]) of all rows in order, or of `rows`: at once, or as they stream."""
    if isinstance(features, Tensor):
        yield (slice(None), features) if rows is None else (rows, features[rows])
        return
    wanted = torch.arange(features.n) if rows is None else features.as_stored(rows)
    for part, x in features.batches(wanted, CHUNK):
        yield part, x.float()


def _streams(stream: Streaming, needed: int, device: torch.device, name: str, say: Say) -> bool:
    if stream is False:
        return False
    if stream is None:
        free = free_bytes(device)
        if free is None or 2 * needed <= free:
            return False
        say(
            f"{name}: features are streamed ({gib(needed)} in single precision, {gib(free)} free on {device}); "
            "keep them in memory with --no-stream (stream=False)"
        )
    elif needed:
        say(f"{name}: features are streamed, {_window(stream):,} rows shuffled together")
    return True


def _window(stream: Streaming) -> int:
    if stream is None or isinstance(stream, bool):
        return WINDOW
    if stream < 1:
        raise UsageError(f"stream={stream}: give True, False, or how many rows are shuffled together")
    return int(stream)
