"""Where torch computes, and with how many threads on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from functools import cache

import torch

from w2s_fast.core.errors import UsageError, nearest

DEVICES = ("auto", "cpu", "cuda")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_TUNED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD")
LARGEST = 32 << 20
"""The largest threshold that glibc takes: what is larger is mapped and unmapped each time it is asked for."""


def pick_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu; a device that is unknown or absent is a `UsageError`.

    Where that is the CPU, this process keeps its pages from here on (`keep_pages`).
    """
    if device.partition(":")[0] not in DEVICES:
        raise UsageError(f"unknown device {device!r}{nearest(device, DEVICES)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_pages()
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is visible; use --device cpu")
    return device


@cache
def keep_pages() -> bool:
    """Let malloc keep blocks of up to 32 MiB instead of giving each back to the system; whether it was set.

    Activations are allocated and freed at every layer: mapped anew each time, two thirds of an EfficientNet's time went
    into page faults. Nothing is done where the user's environment sets the allocator, or it is not glibc's.
    """
    if any(name in os.environ for name in _TUNED):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, LARGEST), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 2 * LARGEST))
    done = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings]
    return all(done)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch uses `count` intra-operator threads.

    More threads than free cores cost far more than they give: OpenMP's wait for each other by spinning.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
