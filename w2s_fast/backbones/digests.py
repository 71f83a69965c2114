"""The identity of weights: a sha256 over names, dtypes, shapes and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over the sorted (name, dtype, shape, little-endian bytes) of a state dict, wherever it lies."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        head = f"{name}\0{str(value.dtype).removeprefix('torch.')}\0{tuple(value.shape)}\0"
        digest.update(head.encode())
        # bfloat16 and float8 have no numpy dtype, so bytes are read through a view.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
