"""How much memory runs take, how much is free, and the error where one run does not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.heads.head import Features
from w2s_fast.train.features import Resident
from w2s_fast.train.run import Setup
from w2s_fast.train.step import shape_of
from w2s_fast.train.stream import Stream

PARAMETER_COPIES = 6
"""Parameter-sized tensors per run beside the solver's state: weights, gradients, and up to four selections."""
LOGIT_COPIES = 12
"""Logit-sized tensors that a step of a loss holds at most."""
MOST_TABLES = 1 << 31
GIB = 1 << 30


def run_bytes(setup: Setup, *, d: int, k: int, dtype: torch.dtype = torch.float32) -> int:
    """Bytes that one run adds to a stack: parameters, solver state, held selections, a step's logits and rows.

    A head is counted with the parameters of a linear one, k * (d + 1).
    """
    batch = min(setup.run.batch_size, setup.n_train or setup.run.batch_size)
    parameters = (PARAMETER_COPIES + len(setup.solver.slots)) * k * (d + 1)
    return dtype.itemsize * (parameters + LOGIT_COPIES * batch * k + 2 * batch * d)


def shared_bytes(
    x: Tensor | Features,
    setups: Sequence[Setup],
    *,
    k: int,
    scored: int,
    teachers: int,
    chunk: int,
    dtype: torch.dtype,
    device: torch.device,
) -> int:
    """Bytes that a call takes once: tables as they lie on the device, rows to be scored, and their logits.

    scored: val and test rows of the largest split. teachers: weak tables [N, k]. chunk: logits of one evaluation.
    """
    source = x.table if isinstance(x, Resident) else x
    total = dtype.itemsize * min(chunk, scored * k)
    if isinstance(source, Stream):
        # on a CPU weak logits stay where they are, in the type that they have
        weak = 0 if device.type == "cpu" and dtype == torch.float32 else dtype.itemsize * teachers * source.n * k
        return total + weak + source.held_bytes
    if not isinstance(source, Tensor):
        return total + dtype.itemsize * teachers * source.n * k
    n, d = source.shape
    moves = source.device.type != device.type or source.dtype != dtype
    tables = int(moves) + sum(shape[:2] != (False, 1.0) for shape in {shape_of(s.head) for s in setups})
    weak = teachers * n * k if moves else 0
    return total + dtype.itemsize * (tables * n * d + scored * d + weak)


def most_tables(device: torch.device) -> int:
    """Bytes that functions of whole weak tables may take: they save time, and are not needed."""
    free = free_bytes(device)
    return MOST_TABLES if free is None else min(MOST_TABLES, free // 4)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where the system does not say."""
    if device.type == "cuda":
        # what torch holds in reserve is free for torch
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - read once per call of the engine
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(
    setups: Sequence[Setup], *, shared: int, d: int, k: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Raise `TrainError` where the largest run alone does not fit beside what all runs share."""
    free = free_bytes(device)
    if free is None or not setups:
        return
    largest = max(setups, key=lambda s: run_bytes(s, d=d, k=k, dtype=dtype))
    own = run_bytes(largest, d=d, k=k, dtype=dtype)
    if own + shared > free:
        raise TrainError(
            f"one run needs {gib(own + shared)} on {device} ({gib(shared)} for features and weak labels, {gib(own)} "
            f"for the run: k={k}, d={d}, batch_size={largest.run.batch_size}) and {gib(free)} are free; "
            f"{_mending(device, dtype)}"
        )


@contextmanager
def in_memory(stack: Sequence[Setup], *, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within it, torch running out of device memory is a `TrainError` that says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        run = stack[0].run
        free = free_bytes(device)
        left = "" if free is None else f", {gib(free)} are free now"
        raise TrainError(
            f"out of memory on {device} while training {len(stack)} runs together (batch_size={run.batch_size}){left}; "
            f"{_mending(device, dtype)}"
        ) from error


def gib(count: int) -> str:
    """Bytes in words: 1.5 GiB, 20 MiB."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):,.1f} MiB"


def _mending(device: torch.device, dtype: torch.dtype) -> str:
    ways = ["lower batch_size"]
    ways += ["use precision='fp32'"] if dtype == torch.float64 else []
    ways += ["use device='cpu'"] if device.type == "cuda" else ["end other programs"]
    return ", ".join(ways) + ", or give features that are streamed in batches"
