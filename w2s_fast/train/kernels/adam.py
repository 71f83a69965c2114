"""One step of Adam, AdamW or SGD for every run of a stack, each parameter read and written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.train.kernels.launch import on
from w2s_fast.train.solver import Adam, AdamW, Sgd, Solver

_BLOCK = 1024
_LAUNCH: dict[str, Any] = {"BLOCK": _BLOCK, "num_warps": 4, "enable_fp_fusion": True}


def serves(solver: Solver) -> bool:
    """Whether `update` is this solver; a subclass may compute anything, and goes through torch."""
    return type(solver) in (Adam, AdamW, Sgd)


def update(
    solver: Solver,
    p: Tensor,
    g: Tensor,
    state: Theta,
    numbers: Mapping[str, Tensor],
    active: Tensor | None = None,
    *,
    low: Tensor | None = None,
) -> None:
    """`solver.update` in place on p f32[R, ...], its state and, if given, `low` = p in bf16.

    g: the gradient, f32 or bf16, of the same shape. numbers: f32[R] each, a missing `l2` or `shrink` leaves p as it is.
    Runs whose `active` f32[R] is 0 keep p, state and low.
    """
    whole = (p, g, low, *state.values())
    if any(x is not None and (x.shape != p.shape or not x.is_contiguous()) for x in whole):
        raise ValueError(f"gradient, state and low must be contiguous and of the parameter's shape {tuple(p.shape)}")
    _check(p, state, numbers, active)
    n = p[0].numel()
    grid = (triton.cdiv(n, _BLOCK), p.shape[0])
    with on(p):
        if isinstance(solver, Sgd):
            nesterov: dict[str, Any] = {**_LAUNCH, "NESTEROV": solver.nesterov}
            _sgd[grid](
                p,
                g,
                state["m"],
                low,
                numbers["move"],
                numbers.get("l2"),
                active,
                n,
                solver.momentum,
                **nesterov,
            )
            return
        assert isinstance(solver, Adam)
        _adam[grid](
            p,
            g,
            state["m"],
            state["v"],
            low,
            numbers["move"],
            numbers["root"],
            numbers.get("l2"),
            numbers.get("shrink") if isinstance(solver, AdamW) else None,
            active,
            n,
            1 - solver.beta1,
            solver.beta2,
            1 - solver.beta2,
            solver.eps,
            **_LAUNCH,
        )


def _check(p: Tensor, state: Theta, numbers: Mapping[str, Tensor], active: Tensor | None) -> None:
    for x in (p, *state.values(), *numbers.values(), *(() if active is None else (active,))):
        if x.dtype != torch.float32 or x.shape[:1] != p.shape[:1] or not x.is_contiguous():
            raise ValueError(
                f"a tensor {tuple(x.shape)} of {x.dtype} is not contiguous float32 with a lead of {len(p)}"
            )


@triton.jit
def moved(p, g, m, v, move, root, l2_ptr, shrink_ptr, r, lead, keep, gain, eps):
    """Parameter and moments after one step of Adam, as torch computes it; lead = 1 - beta1, gain = 1 - beta2."""
    if shrink_ptr is not None:
        p = p * tl.load(shrink_ptr + r)
    if l2_ptr is not None:
        g = g + p * tl.load(l2_ptr + r)
    m = tl.where(lead < 0.5, m + lead * (g - m), g - (g - m) * (1.0 - lead))
    v = v * keep + gain * g * g
    wide_root = tl.broadcast_to(root, p.shape)
    p = p - tl.div_rn(m * move, tl.div_rn(tl.sqrt_rn(v), wide_root) + eps)
    return p, m, v


@triton.jit
def _adam(
    p_ptr,
    g_ptr,
    m_ptr,
    v_ptr,
    low_ptr,
    move_ptr,
    root_ptr,
    l2_ptr,
    shrink_ptr,
    active_ptr,
    n,
    lead,
    keep,
    gain,
    eps,
    BLOCK: tl.constexpr,
):
    r = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    if active_ptr is not None:  # noqa: SIM102  (Triton would load in either case)
        if tl.load(active_ptr + r) == 0:
            return
    at = r * n + at
    p = tl.load(p_ptr + at, mask=mask, other=0.0)
    g = tl.load(g_ptr + at, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(m_ptr + at, mask=mask, other=0.0)
    v = tl.load(v_ptr + at, mask=mask, other=1.0)
    move = tl.load(move_ptr + r)
    root = tl.load(root_ptr + r)
    p, m, v = moved(p, g, m, v, move, root, l2_ptr, shrink_ptr, r, lead, keep, gain, eps)
    tl.store(p_ptr + at, p, mask=mask)
    tl.store(m_ptr + at, m, mask=mask)
    tl.store(v_ptr + at, v, mask=mask)
    if low_ptr is not None:
        tl.store(low_ptr + at, p.to(low_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _sgd(
    p_ptr,
    g_ptr,
    m_ptr,
    low_ptr,
    move_ptr,
    l2_ptr,
    active_ptr,
    n,
    momentum,
    NESTEROV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    r = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    if active_ptr is not None:  # noqa: SIM102  (Triton would load in either case)
        if tl.load(active_ptr + r) == 0:
            return
    at = r * n + at
    p = tl.load(p_ptr + at, mask=mask, other=0.0)
    g = tl.load(g_ptr + at, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(m_ptr + at, mask=mask, other=0.0)
    if l2_ptr is not None:
        g = g + p * tl.load(l2_ptr + r)
    m = m * momentum + g
    if NESTEROV:
        p = p - (g + momentum * m) * tl.load(move_ptr + r)
    else:
        p = p - m * tl.load(move_ptr + r)
    tl.store(p_ptr + at, p, mask=mask)
    tl.store(m_ptr + at, m, mask=mask)
    if low_ptr is not None:
        tl.store(low_ptr + at, p.to(low_ptr.dtype.element_ty), mask=mask)
