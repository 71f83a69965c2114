"""Batches for tests of losses, without lead."""

from __future__ import annotations

import torch

from w2s_fast.losses import Batch, make


def batch(weak, t=0.0, **rest):
    weak = torch.as_tensor(weak, dtype=torch.float64)
    return Batch(weak=weak, t=torch.full((*weak.shape[:-2], 1, 1), t, dtype=torch.float64), **rest)


def value(spec, z, weak, t=0.0, **rest):
    """Per-sample values as a list."""
    return make(spec).value(torch.as_tensor(z, dtype=torch.float64), batch(weak, t, **rest)).tolist()


def slope(spec, z, weak, t=0.0, **rest):
    return make(spec).value_and_dz(torch.as_tensor(z, dtype=torch.float64), batch(weak, t, **rest))[1]
