"""What cannot be gone below: the products alone on a CPU, and bytes and operations on a GPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.worlds import Shape
from w2s_fast.train.gemm import PRECISIONS, single_precision

ADAM_BYTES = 28
"""Per parameter and step: gradient, weight and two moments read, weight and two moments written, four bytes each."""


def flops(shape: Shape, recipe: Recipe) -> float:
    """Operations of the products of one run: forward and weight gradient on train rows, forward on val rows."""
    each = 2.0 * shape.d * shape.k
    return each * (2 * recipe.epochs * shape.n_train + (recipe.epochs + 1) * shape.n_val)


def cpu_floor(shape: Shape, recipe: Recipe, *, precision: str, tries: int = 15) -> tuple[float, str]:
    """Seconds of the products of one run by the fastest reachable library, and which one it was.

    tf32 has no CPU products of its own here and gets those of fp32.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    b = recipe.batch_size
    x = torch.randn(b, shape.d).to(dtype)
    w = torch.randn(shape.k, shape.d).to(dtype)
    dz = torch.randn(b, shape.k).to(dtype)
    forward = _best(_products(x, w), tries)
    backward = _best(_products(dz.t().contiguous(), x.t()) | {"torch.mm": lambda: dz.t() @ x}, tries)
    seconds = recipe.epochs * shape.n_train * (forward[0] + backward[0]) / b
    seconds += (recipe.epochs + 1) * shape.n_val * forward[0] / b
    return seconds, f"{forward[1]} forward, {backward[1]} backward"


def _products(a: Tensor, b: Tensor) -> dict[str, Callable[[], Tensor]]:
    """a b^T by every library there is."""
    ways: dict[str, Callable[[], Tensor]] = {"torch.mm": lambda: a @ b.t()}
    if torch.backends.mkldnn.is_available():
        ways["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return ways


def _best(ways: dict[str, Callable[[], Tensor]], tries: int) -> tuple[float, str]:
    found: list[tuple[float, str]] = []
    for name, way in ways.items():
        way()
        seconds = []
        for _ in range(tries):
            start = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - start)
        found.append((min(seconds), name))
    return min(found)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of a GPU: bytes moved and operations done per second."""

    bytes: float
    fp32: float
    tf32: float
    bf16: float


def cuda_floor(shape: Shape, recipe: Recipe, *, precision: str, rates: Rates) -> dict[str, float]:
    """Seconds per run by arithmetic, with many runs in flight.

    floor: products and Adam's traffic overlap, and everything else is fused away. unfused: the products, then Adam's
    traffic, the gathers (rows read, written, read by both products) and the logits (written, read with the weak
    logits, their gradient written and read) through memory.
    """
    products = flops(shape, recipe) / getattr(rates, precision)
    parameters = shape.k * shape.d + (shape.k if recipe.head == "linear" else 0)
    adam = ADAM_BYTES * parameters * recipe.steps(shape.n_train) / rates.bytes
    size = 2 if precision == "bf16" else 4
    seen = recipe.epochs * shape.n_train
    gathers = 4 * size * seen * shape.d / rates.bytes
    logits = (2 * size + 4 + 2 * size) * seen * shape.k / rates.bytes
    return {
        "products": products,
        "adam": adam,
        "floor": max(products, adam),
        "unfused": products + adam + gathers + logits,
    }


def cuda_rates(tries: int = 20) -> Rates:
    """Measured on this GPU: a copy of 1 GiB, and square products of 8192."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = _cuda_seconds(lambda: target.copy_(source), tries)
    found: dict[str, float] = {}
    for name in ("fp32", "tf32", "bf16"):
        precision = PRECISIONS[name]
        with single_precision(precision, source.device):
            # random numbers: zeros cost less power, and so less time
            a = torch.randn(8192, 8192, device="cuda").to(precision.operand)
            found[name] = 2 * 8192**3 / _cuda_seconds(lambda a=a: a @ a, tries)
    return Rates(bytes=2 * source.nbytes / copy, **found)


def _cuda_seconds(job: Callable[[], Any], tries: int) -> float:
    job()
    best = math.inf
    for _ in range(tries):
        torch.cuda.synchronize()
        start = time.perf_counter()
        job()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
