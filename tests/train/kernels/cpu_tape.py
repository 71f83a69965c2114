"""A CPU stand-in for a CUDA graph: operations are recorded with their very tensors, and done again as they were."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS_HOST = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")
"""What needs a value on the host, or a shape that depends on values: a CUDA graph cannot hold it."""


def storages(tree):
    return {x.untyped_storage().data_ptr() for x in tree_leaves(tree) if isinstance(x, torch.Tensor)}


class _Listener(TorchDispatchMode):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in READS_HOST):
            raise RuntimeError(f"{func} during capture")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class Tape:
    """A recorder: Python runs once, floats and branches are frozen, and only what lies in memory can differ."""

    def __init__(self, state=()):
        self.state = state
        self.warmed = 0
        self.captured = 0
        self.calls = []

    def warm(self, work):
        self.warmed += 1
        return work()

    def capture(self, work):
        """Unlike a CUDA graph this has to do the work in order to record it, so it puts back `state`."""
        self.captured += 1
        before = [x.clone() for x in self.state]
        try:
            with _Listener(self.calls):
                out = work()
        finally:
            for x, old in zip(self.state, before, strict=True):
                x.copy_(old)
        return out, self.replay

    def replay(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            given = storages((args, kwargs))
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                # what aliases an input, a view or something done in place, is in the right place already
                if isinstance(old, torch.Tensor) and not storages(old) & given:
                    old.copy_(new)
