"""Where torch computes, and with how many threads on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from w2s_fast.core.errors import UsageError, nearest

DEVICES = ("auto", "cpu", "cuda")


def pick_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu; a device that is unknown or absent is a `UsageError`."""
    if device.partition(":")[0] not in DEVICES:
        raise UsageError(f"unknown device {device!r}{nearest(device, DEVICES)}")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is visible; use --device cpu")
    return device


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
