"""Uniform numbers that are a function of (seed, epoch, image): no generator, no order, no state to resume.

A view of an image is therefore the same in whatever batch, process or run it is made, which is what lets a weak
teacher's logits on views be stored once (teachers.py), and an interrupted run go on to the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys_of(ids: Sequence[str]) -> Keys:
    """One u64 per image id, from its content: rows that are moved keep theirs."""
    digests = (hashlib.sha256(one.encode()).digest()[:8] for one in ids)
    return np.frombuffer(b"".join(digests), np.uint64).copy()


def uniforms(seed: int, epoch: int, keys: Keys, count: int, *, stream: int = 0) -> NDArray[np.float64]:
    """f64[b, count] in [0, 1): splitmix64 (Steele et al. 2014) of key, seed, epoch and the draw's number."""
    with np.errstate(over="ignore"):
        base = np.uint64(_mixed_int(seed, epoch, stream))
        counter = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        mixed = _mixed(_mixed(keys ^ base)[:, None] + counter)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of the rows in an epoch, i[n]."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def step_seed(seed: int, step: int) -> int:
    """A seed for what torch draws within a step (dropout, stochastic depth)."""
    return _mixed_int(seed, step, 1) >> 1


def _mixed_int(*numbers: int) -> int:
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def _mixed(z: Keys) -> Keys:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
