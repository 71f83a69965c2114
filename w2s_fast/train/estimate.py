"""How long a stack will take: its arithmetic over rates that are measured here, on its own shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from w2s_fast.train.gemm import Precision, logits, outer, single_precision
from w2s_fast.train.memory import run_bytes
from w2s_fast.train.run import Setup
from w2s_fast.train.solver import Lbfgs, Solver

CALIBRATION = 0.02
"""Seconds of calibration per rate and shape, at least."""
LOGIT_PASSES = 12
"""Times that a step reads or writes a logit: softmax, target, value, gradient."""
STATE_PASSES = 14
"""Times that a step reads or writes a parameter's worth: solver, and the pull-back of a normalised head."""
SEARCH = 1.1
"""Evaluations per iteration of L-BFGS, with those of its line search."""
CALLS = 80
CALLS_PER_LOSS = 70
"""Tensor operations of a step, and what each further loss of a stack adds."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """GEMM in flops per second, elementwise work in bytes per second, seconds per call of a small operation."""

    flops: float
    bytes: float
    call: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a stack takes: bytes of its runs, and seconds from its first step to its last evaluation."""

    bytes: int
    seconds: float


def estimate(
    stack: Sequence[Setup], *, n_train: int, scored: int, d: int, k: int, precision: Precision, device: torch.device
) -> Estimate:
    """The cost of training a stack on `n_train` rows, scoring `scored` rows (val and test) after every epoch.

    It is an estimate: compilation, memory traffic of other programs and heads without closed forms are not in it.
    """
    full = stack[0].solver.full_batch
    runs, batch = len(stack), n_train if full else min(n_train, stack[0].run.batch_size)
    rates = measure(runs, batch, d, k, device=device, precision=precision, threads=torch.get_num_threads())
    epochs = max(s.run.epochs for s in stack)
    steps = epochs * _passes(stack[0].solver) if full else epochs * math.ceil(n_train / batch)
    size, kinds = precision.master.itemsize, len({type(s.loss) for s in stack})
    batches = len({(s.run.split, s.run.seed) for s in stack})
    step = (
        4 * runs * batch * d * k / rates.flops
        + size * (runs * (LOGIT_PASSES * batch * k + STATE_PASSES * k * d) + 2 * batches * batch * d) / rates.bytes
        + (CALLS + CALLS_PER_LOSS * kinds) * rates.call
    )
    score = 2 * runs * scored * d * k / rates.flops + size * 3 * runs * scored * k / rates.bytes + CALLS * rates.call
    taken = sum(run_bytes(s, d=d, k=k, dtype=precision.master) for s in stack)
    return Estimate(bytes=taken, seconds=steps * step + (epochs + 1) * score)


def _passes(solver: Solver) -> float:
    """Evaluations of objective and gradient over all train rows in an epoch of a full-batch solver, at most, about."""
    return SEARCH * solver.iterations if isinstance(solver, Lbfgs) else 1


@lru_cache(maxsize=256)
def measure(
    runs: int, batch: int, d: int, k: int, *, device: torch.device, precision: Precision, threads: int
) -> Rates:
    """Rates of a step's own products on stacks [runs, k, d], and of passes over their logits.

    threads: those of torch at the time; what was measured with another number does not count.
    """
    dtype = precision.master
    x = torch.ones(batch, d, device=device, dtype=precision.operand)
    w = torch.ones(runs, k, d, device=device, dtype=dtype)
    z = torch.ones(runs, batch, k, device=device, dtype=dtype)
    tiny = torch.ones(1, device=device, dtype=dtype)
    with torch.no_grad(), single_precision(precision, device):
        products = _seconds(lambda: outer(logits(x, w, None, runs), x), device)
        passes = _seconds(lambda: z.log_softmax(-1).mul_(2.0), device)
        call = _seconds(lambda: tiny + tiny, device)
    return Rates(flops=4 * runs * batch * d * k / products, bytes=4 * z.numel() * dtype.itemsize / passes, call=call)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median seconds of a call: warmed up, then repeated in blocks for `CALIBRATION` seconds."""
    _timed(work, 1, device)
    once = max(_timed(work, 1, device), 1e-7)
    count = max(1, int(CALIBRATION / 5 / once))
    took = sorted(_timed(work, count, device) / count for _ in range(5))
    return took[2]


def _timed(work: Callable[[], object], count: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(count):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
