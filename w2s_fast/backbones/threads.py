"""How many threads torch computes with on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


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
