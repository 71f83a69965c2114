"""The matrix products of a stack: logits from features, and gradients of class weights from gradients of logits.

Operands have the type of the features (half as wide under `bf16`), results the type of the parameters.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

ONEDNN_FROM = 1 << 23
"""Multiplications of a product from which oneDNN is ahead of MKL where MKL is slow."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """What a run computes in: `master` for parameters, softmax, targets and optimiser, `operand` for products."""

    name: str
    master: torch.dtype = torch.float32
    operand: torch.dtype = torch.float32
    tf32: bool = False


PRECISIONS = {
    p.name: p
    for p in (
        Precision(name="fp32"),
        Precision(name="tf32", tf32=True),
        Precision(name="bf16", operand=torch.bfloat16),
        Precision(name="fp64", master=torch.float64, operand=torch.float64),
    )
}


@contextmanager
def single_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside the block products of single precision are IEEE, or TF32 if asked and on CUDA; then as they were.

    torch keeps two settings of it, per library and for all of them, and raises where they disagree and something asks
    for the second, such as a user's code or torch.compile: for a CUDA device both are set.
    """
    tf32 = precision.tf32 and device.type == "cuda"
    wanted = {"cuda": "tf32" if tf32 else "ieee", "mkldnn": "ieee"}
    settings = {name: getattr(torch.backends, name).matmul for name in wanted}
    was = {name: setting.fp32_precision for name, setting in settings.items()}
    overall = _overall_precision() if device.type == "cuda" else None
    if overall is not None:
        _set_overall_precision("high" if tf32 else "highest")
    for name, setting in settings.items():
        setting.fp32_precision = wanted[name]
    try:
        yield
    finally:
        if overall is not None:
            _set_overall_precision(overall)
        for name, setting in settings.items():
            setting.fp32_precision = was[name]


def _overall_precision() -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.get_float32_matmul_precision()
    except RuntimeError:
        # the caller has set a library's alone, which leaves this one at its default
        return "highest"


def _set_overall_precision(value: str) -> None:
    # some versions warn that it is old, while others still read it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(value)


def logits(x: Tensor, w: Tensor, b: Tensor | None, runs: int) -> Tensor:
    """x w^T + b as f[R, b, k] in the type of w; x [b, d] or [R, b, d] and w [k, d] or [R, k, d] may lack the lead."""
    if runs == 1:
        x = x if x.ndim == 2 else x[0]
        w = w if w.ndim == 2 else w[0]
        offset = b if b is None or b.ndim == 1 else b[0]
        return _product(x, w, offset).unsqueeze(0)
    x = x.expand(runs, *x.shape) if x.ndim == 2 else x
    w = w.expand(runs, *w.shape) if w.ndim == 2 else w
    if x.dtype != w.dtype:
        z = batched(x, w.to(x.dtype).mT, w.dtype)
        return z if b is None else z.add_(b if b.ndim == 1 else b.unsqueeze(1))
    if b is None:
        return torch.bmm(x, w.mT)
    return torch.baddbmm(b if b.ndim == 1 else b.unsqueeze(1), x, w.mT)


def outer(dz: Tensor, x: Tensor) -> Tensor:
    """dz^T x as f[R, k, d] in the type of dz; x may lack the lead."""
    if dz.shape[0] == 1:
        x = x if x.ndim == 2 else x[0]
        return _transposed(dz[0], x).unsqueeze(0)
    x = x.expand(dz.shape[0], *x.shape) if x.ndim == 2 else x
    if x.dtype != dz.dtype:
        return batched(dz.to(x.dtype).mT, x, dz.dtype)
    return torch.bmm(dz.mT, x)


def batched(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """The products a b of stacks of matrices of one type, in `dtype`."""
    if a.dtype == dtype:
        return torch.bmm(a, b)
    return torch.bmm(a, b, out_dtype=dtype) if a.is_cuda else torch.bmm(a, b).to(dtype)


def _product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    if x.dtype != w.dtype:
        z = _plain(x, w.to(x.dtype).t(), w.dtype)
        return z if b is None else z.add_(b)
    if _by_onednn(x, w.shape[0]):
        return torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")
    return x @ w.t() if b is None else torch.addmm(b, x, w.t())


def _transposed(dz: Tensor, x: Tensor) -> Tensor:
    if x.dtype != dz.dtype:
        return _plain(dz.to(x.dtype).t(), x, dz.dtype)
    if _by_onednn(x, dz.shape[1]):
        return torch.ops.mkldnn._linear_pointwise(dz.t().contiguous(), x.t(), None, "none", [], "")
    return dz.t() @ x


def _plain(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    # on a CPU the product leaves in the operands' type: its rounding is part of what the accuracy gate measures
    return torch.mm(a, b, out_dtype=dtype) if a.is_cuda else torch.mm(a, b).to(dtype)


def _by_onednn(x: Tensor, k: int) -> bool:
    """Whether a single-precision product goes to oneDNN: about twice as fast as MKL on AMD; it has no autograd."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.shape[0] * x.shape[1] * k >= ONEDNN_FROM
        and not torch.is_grad_enabled()
        and _onednn_is_faster()
    )


@cache
def _onednn_is_faster() -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return torch.backends.mkl.is_available() and "AuthenticAMD" in _cpu()


def _cpu() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return platform.processor()
