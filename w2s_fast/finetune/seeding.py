"""Torch's own generators, lent a seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within the block torch's own generators start from `seed`; afterwards they are as they were before.

    Modules draw their initial weights, and dropout its masks, from torch's global generators only. This lends them a
    seeded state without leaving a trace: `with seeded(3): model = DrawnCNN(40)`.
    """
    d = torch.device(device)
    devices = [d.index or 0] if d.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
