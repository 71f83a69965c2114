"""Prototypes to unit rows and back: forward, backward, and backward with Adam and the next forward in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.train.kernels.adam import moved
from w2s_fast.train.kernels.launch import on
from w2s_fast.train.solver import Adam, AdamW

WIDEST = 8192
"""The longest row that one program holds."""


def normalise(c: Tensor, *, w: Tensor | None = None, low: Tensor | None = None) -> Tensor:
    """w = c / max(|c|, 1e-12) row-wise, of c f32[..., d]; `low` receives w in its own type, bf16 say.

    Without `w` a new one is made, unless `low` is given: then only `low` is written, and returned.
    """
    if w is None and low is None:
        w = torch.empty_like(c)
    _check(c, w, low)
    with on(c):
        _normalise[(c[..., 0].numel(),)](c, w, low, c.shape[-1], **_launch(c))
    out = low if w is None else w
    assert out is not None
    return out


def pull(c: Tensor, dw: Tensor, *, out: Tensor | None = None) -> Tensor:
    """dc = (dw - (dw . w) w) / max(|c|, 1e-12) with w = c / max(|c|, 1e-12), for c f32[..., d] and dw f32 or bf16.

    `out` may be `dw` itself.
    """
    out = torch.empty_like(c) if out is None else out
    _check(c, dw, out)
    with on(c):
        _pull[(c[..., 0].numel(),)](c, dw, out, c.shape[-1], **_launch(c))
    return out


def step(
    solver: Adam,
    c: Tensor,
    dw: Tensor,
    state: Theta,
    numbers: Mapping[str, Tensor],
    active: Tensor | None = None,
    *,
    w: Tensor | None = None,
    low: Tensor | None = None,
) -> None:
    """`pull`, `adam.update` of c f32[R, k, d] in place, and `normalise` of the new c into `w` and `low`, in one pass.

    numbers: f32[R] each, as `adam.update` takes them. Runs whose `active` f32[R] is 0 keep everything.
    """
    _check(c, dw, state["m"], state["v"], w, low)
    runs, k, d = c.shape
    with on(c):
        _step[(k, runs)](
            c,
            dw,
            state["m"],
            state["v"],
            w,
            low,
            numbers["move"],
            numbers["root"],
            numbers.get("l2"),
            numbers.get("shrink") if isinstance(solver, AdamW) else None,
            active,
            k,
            d,
            1 - solver.beta1,
            solver.beta2,
            1 - solver.beta2,
            solver.eps,
            **_launch(c),
        )


def _launch(c: Tensor) -> dict[str, Any]:
    block = max(16, triton.next_power_of_2(c.shape[-1]))
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 256)), "enable_fp_fusion": True}


def _check(c: Tensor, *others: Tensor | None) -> None:
    if c.shape[-1] > WIDEST:
        raise ValueError(f"rows of {c.shape[-1]} numbers; the kernel holds at most {WIDEST}, use torch")
    if c.dtype != torch.float32 or not c.is_contiguous():
        raise ValueError(f"prototypes {tuple(c.shape)} of {c.dtype} are not contiguous float32")
    if any(x is not None and (x.shape != c.shape or not x.is_contiguous()) for x in others):
        raise ValueError(f"another tensor is not contiguous or not of the prototypes' shape {tuple(c.shape)}")


@triton.jit
def _length(c):
    """The row's length, at least 1e-12, in the shape of the row."""
    return tl.broadcast_to(tl.maximum(tl.sqrt_rn(tl.sum(c * c, axis=0)), 1e-12), c.shape)


@triton.jit
def _across(c, dw):
    """The part of dw across the row, divided by its length: what turns the row."""
    length = _length(c)
    w = tl.div_rn(c, length)
    return tl.div_rn(dw - w * tl.sum(dw * w, axis=0), length)


@triton.jit
def _normalise(c_ptr, w_ptr, low_ptr, d, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    mask = columns < d
    at = tl.program_id(0).to(tl.int64) * d + columns
    c = tl.load(c_ptr + at, mask=mask, other=0.0)
    w = tl.div_rn(c, _length(c))
    if w_ptr is not None:
        tl.store(w_ptr + at, w, mask=mask)
    if low_ptr is not None:
        tl.store(low_ptr + at, w.to(low_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _pull(c_ptr, dw_ptr, out_ptr, d, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    mask = columns < d
    at = tl.program_id(0).to(tl.int64) * d + columns
    c = tl.load(c_ptr + at, mask=mask, other=0.0)
    dw = tl.load(dw_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, _across(c, dw).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _step(
    c_ptr,
    dw_ptr,
    m_ptr,
    v_ptr,
    w_ptr,
    low_ptr,
    move_ptr,
    root_ptr,
    l2_ptr,
    shrink_ptr,
    active_ptr,
    k,
    d,
    lead,
    keep,
    gain,
    eps,
    BLOCK: tl.constexpr,
):
    r = tl.program_id(1).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < d
    if active_ptr is not None:  # noqa: SIM102  (Triton would load in either case)
        if tl.load(active_ptr + r) == 0:
            return
    at = (r * k + tl.program_id(0)) * d + columns
    c = tl.load(c_ptr + at, mask=mask, other=0.0)
    dw = tl.load(dw_ptr + at, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(m_ptr + at, mask=mask, other=0.0)
    v = tl.load(v_ptr + at, mask=mask, other=1.0)
    move = tl.load(move_ptr + r)
    root = tl.load(root_ptr + r)
    c, m, v = moved(c, _across(c, dw), m, v, move, root, l2_ptr, shrink_ptr, r, lead, keep, gain, eps)
    tl.store(c_ptr + at, c, mask=mask)
    tl.store(m_ptr + at, m, mask=mask)
    tl.store(v_ptr + at, v, mask=mask)
    if w_ptr is not None or low_ptr is not None:
        # columns beyond d hold no zeros once Adam has divided there
        w = tl.div_rn(c, _length(tl.where(mask, c, 0.0)))
        if w_ptr is not None:
            tl.store(w_ptr + at, w, mask=mask)
        if low_ptr is not None:
            tl.store(low_ptr + at, w.to(low_ptr.dtype.element_ty), mask=mask)
