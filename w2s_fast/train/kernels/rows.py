"""Row softmax, target, gradient and value of a slice of runs in one pass over the logits."""

# pyright: reportOperatorIssue=false
# (Triton declares that its reductions may return tuples)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from w2s_fast.train.kernels.kinds import WIDEST, Kind
from w2s_fast.train.kernels.launch import on

_OUT = tl.constexpr(-1e30)
"""What stands in columns beyond k: a finite number, since differences of infinities are not numbers."""
_TILE = 256
"""Elements per warp: 8 in every thread, for each of the five row vectors that are alive at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The ground-truth term w_gt * CE(z / tau_gt, label): labels i64[M] (-1 = unknown), w and tau f32[R]."""

    labels: Tensor
    w: Tensor
    tau: Tensor


def value_and_dz(
    kind: Kind,
    numbers: Tensor,
    z: Tensor,
    weak: Tensor,
    rows: Tensor,
    *,
    k: int,
    t: Tensor,
    inverse: Tensor,
    factor: Tensor | None = None,
    own: Tensor | None = None,
    offset: Tensor | None = None,
    truth: Truth | None = None,
    value: Tensor | None = None,
    dz: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """factor * value f32[R, b], and factor * inverse * gradient by the logits [R, b, kp].

    z: logits f[R, b, kp], of which the first k columns count; offset f32[R, >= k] is added to them. numbers: from
    `kind.numbers`, f32[R, .]. weak: raw logits f[M, >= k] of all rows; rows: i64[b] or i64[R, b], those of the batch.
    t and inverse = 1 / B: f32[R]. factor: valid * weight f32[R, b]. own: self-labels i64[R, b] where
    `kind.hardens`. value and dz are written in place where given (dz f32 or bf16); columns of dz beyond k become 0.
    Every tensor needs unit stride in its last axis only, so parts of longer tables are fine.
    """
    runs, b, kp = z.shape
    value = torch.empty(runs, b, dtype=torch.float32, device=z.device) if value is None else value
    dz = torch.empty_like(z) if dz is None else dz
    _check(kind, numbers, z, weak, rows, k, own, dz, (t, inverse, factor, offset, value))
    block = max(16, triton.next_power_of_2(kp))
    tall = min(max(1, _TILE // block), triton.next_power_of_2(b))
    launch: dict[str, Any] = {
        "KIND": kind.name,
        "FLAG": kind.flag,
        "PLAIN": kind.plain,
        "TALL": tall,
        "BLOCK": block,
        "num_warps": min(16, max(1, tall * block // _TILE)),
        "enable_fp_fusion": True,
    }
    with on(z):
        _rows[(triton.cdiv(b, tall), runs)](
            z,
            dz,
            value,
            weak,
            rows,
            numbers,
            t,
            inverse,
            factor,
            own,
            offset,
            truth.labels if truth else None,
            truth.w if truth else None,
            truth.tau if truth else None,
            b,
            k,
            kp,
            weak.shape[-1],
            z.stride(0),
            z.stride(1),
            dz.stride(0),
            dz.stride(1),
            value.stride(0),
            weak.stride(0),
            rows.stride(0) if rows.ndim == 2 else 0,
            numbers.stride(0),
            factor.stride(0) if factor is not None else 0,
            own.stride(0) if own is not None else 0,
            offset.stride(0) if offset is not None else 0,
            **launch,
        )
    return value, dz


def _check(
    kind: Kind,
    numbers: Tensor,
    z: Tensor,
    weak: Tensor,
    rows: Tensor,
    k: int,
    own: Tensor | None,
    dz: Tensor,
    real: tuple[Tensor | None, ...],
) -> None:
    if not 1 <= k <= z.shape[-1] <= WIDEST or weak.shape[-1] < k:
        raise ValueError(f"k = {k} for logits {tuple(z.shape)} and weak logits {tuple(weak.shape)}; at most {WIDEST}")
    if numbers.shape != (z.shape[0], 2 + len(kind.fields)) or dz.shape != z.shape:
        raise ValueError(f"numbers {tuple(numbers.shape)} or dz {tuple(dz.shape)} do not fit logits {tuple(z.shape)}")
    if kind.hardens != (own is not None):
        raise ValueError(
            f"{kind.name}: own labels are {'missing; pass own' if kind.hardens else 'not read; pass none'}"
        )
    for x in (numbers, z, weak, rows, own, dz, *real):
        if x is not None and x.stride(-1) != 1 and x.shape[-1] != 1:
            raise ValueError(
                f"a tensor {tuple(x.shape)} has stride {x.stride(-1)} in its last axis; make it contiguous"
            )
    for x in (*real, numbers):
        if x is not None and x.dtype != torch.float32:
            raise ValueError(f"a tensor {tuple(x.shape)} is {x.dtype}; the row kernel computes in float32")


@triton.jit
def _log_softmax(x, tau, inside):
    """log softmax of x / tau over the columns inside; far below every real one outside."""
    x = tl.where(inside, tl.div_rn(x, tl.broadcast_to(tau, x.shape)), _OUT)
    x = x - tl.max(x, axis=1, keep_dims=True)
    total = tl.sum(tl.where(inside, tl.exp(x), 0.0), axis=1, keep_dims=True)
    return tl.where(inside, x - tl.log(total), _OUT)


@triton.jit
def _first_max(x, columns, BLOCK: tl.constexpr):
    """The column of the largest entry, the lowest where several are equal."""
    top = tl.max(x, axis=1, keep_dims=True)
    return tl.min(tl.where(x == top, columns, BLOCK), axis=1, keep_dims=True)


@triton.jit
def _ramp(t, warmup):
    """min(1, t / warmup), and 1 where warmup is 0; a literal below 2^-126 would be double precision."""
    return tl.where(t >= warmup, 1.0, tl.div_rn(t, tl.maximum(warmup, 2e-38)))


@triton.jit
def _expm1(x):
    """exp(x) - 1 for x <= 0, without the loss of digits near 0."""
    near = tl.maximum(x, -0.5)
    series = 1.0 + near / 8
    series = 1.0 + near / 7 * series
    series = 1.0 + near / 6 * series
    series = 1.0 + near / 5 * series
    series = 1.0 + near / 4 * series
    series = 1.0 + near / 3 * series
    series = 1.0 + near / 2 * series
    return tl.where(x > -0.5, near * series, tl.exp(x) - 1.0)


@triton.jit
def _rows(
    z_ptr,
    dz_ptr,
    value_ptr,
    weak_ptr,
    rows_ptr,
    number_ptr,
    t_ptr,
    inverse_ptr,
    factor_ptr,
    own_ptr,
    offset_ptr,
    label_ptr,
    w_gt_ptr,
    tau_gt_ptr,
    b,
    k,
    kp,
    weak_k,
    z_run,
    z_row,
    dz_run,
    dz_row,
    value_run,
    weak_row,
    rows_run,
    number_run,
    factor_run,
    own_run,
    offset_run,
    KIND: tl.constexpr,
    FLAG: tl.constexpr,
    PLAIN: tl.constexpr,
    TALL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    r = tl.program_id(1).to(tl.int64)
    i = (tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]).to(tl.int64)
    columns = tl.arange(0, BLOCK)[None, :]
    here = i < b
    inside = columns < k

    numbers = number_ptr + r * number_run
    tau_s = tl.load(numbers)
    tau_w = tl.load(numbers + 1)
    row = tl.load(rows_ptr + r * rows_run + i, mask=here, other=0)
    # masks that end with the stored row, not with k, leave wide loads whole
    stored = here & (columns < kp)
    z = tl.load(z_ptr + r * z_run + i * z_row + columns, mask=stored, other=0.0).to(tl.float32)
    if offset_ptr is not None:
        z += tl.load(offset_ptr + r * offset_run + columns, mask=inside, other=0.0)
    weak = tl.load(weak_ptr + row * weak_row + columns, mask=here & (columns < weak_k), other=0.0).to(tl.float32)

    # rows beyond b read zeros and compute on them; nothing of them is stored
    logp = _log_softmax(z, tau_s, inside)
    p = tl.exp(logp)

    if KIND == "ce":
        smooth = tl.load(numbers + 2)
        label = _first_max(tl.where(inside, weak, _OUT), columns, BLOCK)
        target = tl.where(columns == label, 1.0 - smooth, 0.0) + smooth / k
        target = tl.where(inside, target, 0.0)
        value = -tl.sum(target * logp, axis=1, keep_dims=True)
        h = -target
    elif KIND == "ce_soft":
        w = tl.exp(_log_softmax(weak, tau_w, inside))
        value = -tl.sum(w * logp, axis=1, keep_dims=True)
        h = -w
    elif KIND == "kd":
        log_w = _log_softmax(weak, tau_w, inside)
        w = tl.exp(log_w)
        value = tl.sum(w * (log_w - logp), axis=1, keep_dims=True)
        h = -w
        if FLAG:
            value = value * (tau_s * tau_s)
            h = h * (tau_s * tau_s)
    elif KIND == "aux_conf":
        share = _ramp(tl.load(t_ptr + r), tl.load(numbers + 3)) * tl.load(numbers + 2)
        w = tl.exp(_log_softmax(weak, tau_w, inside))
        if own_ptr is not None:
            label = tl.load(own_ptr + r * own_run + i, mask=here, other=0).to(tl.int32)
        else:
            label = _first_max(logp, columns, BLOCK)
        target = w * (1.0 - share) + tl.where(columns == label, share, 0.0)
        value = -tl.sum(target * logp, axis=1, keep_dims=True)
        h = -target
    elif KIND == "adapt_conf":
        T = tl.load(numbers + 2)
        kd_t = tl.load(numbers + 3)
        best = tl.max(logp, axis=1, keep_dims=True)
        label = _first_max(logp, columns, BLOCK)
        weak_label = _first_max(tl.where(inside, weak, _OUT), columns, BLOCK)
        gap = tl.sum(tl.where(columns == weak_label, logp, 0.0), axis=1, keep_dims=True) - best
        # the gap is never positive, so that its exponential cannot overflow
        e = tl.exp(tl.div_rn(gap, tl.broadcast_to(T, gap.shape)))
        beta = e / (1.0 + e)
        if FLAG:
            # where the labels agree the gap is 0, and this changes nothing
            beta = 1.0 - beta
        beta = beta * _ramp(tl.load(t_ptr + r), tl.load(numbers + 4))
        if PLAIN:
            log_q = _log_softmax(weak, tau_w, inside)
            q = tl.exp(log_q)
            kl = tl.sum(q * (log_q - logp), axis=1, keep_dims=True)
            h = (p - q) * (1.0 - beta)
        else:
            log_q = _log_softmax(tl.div_rn(weak, tl.broadcast_to(tau_w, weak.shape)), kd_t, inside)
            q = tl.exp(log_q)
            log_p = _log_softmax(tl.where(inside, logp, 0.0), kd_t, inside)
            kl = tl.sum(q * (log_q - log_p), axis=1, keep_dims=True) * (kd_t * kd_t)
            h = (tl.exp(log_p) - q) * ((1.0 - beta) * kd_t)
        value = (1.0 - beta) * kl - beta * best
        h = h - tl.where(columns == label, beta, 0.0)
    elif KIND == "reverse_kl":
        w = tl.exp(_log_softmax(weak, tau_w, inside))
        w = tl.where(inside, tl.maximum(w, tl.load(numbers + 2)), 0.0)
        total = tl.sum(w, axis=1, keep_dims=True)
        log_w = tl.log(tl.where(inside, tl.div_rn(w, tl.broadcast_to(total, w.shape)), 1.0))
        ratio = tl.where(inside, logp - log_w, 0.0)
        value = tl.sum(p * ratio, axis=1, keep_dims=True)
        h = p * (ratio + 1.0)
    else:
        tl.static_assert(KIND == "gce")
        q = tl.load(numbers + 2)
        label = _first_max(tl.where(inside, weak, _OUT), columns, BLOCK)
        hit = columns == label
        scaled = tl.sum(tl.where(hit, logp, 0.0), axis=1, keep_dims=True) * q
        value = tl.div_rn(-_expm1(scaled), tl.broadcast_to(q, scaled.shape))
        h = tl.where(hit, -tl.exp(scaled), 0.0)

    g = h - p * tl.sum(h, axis=1, keep_dims=True)
    g = tl.div_rn(g, tl.broadcast_to(tau_s, g.shape))

    if label_ptr is not None:
        y = tl.load(label_ptr + row, mask=here, other=-1).to(tl.int32)
        tau_gt = tl.load(tau_gt_ptr + r)
        share_gt = tl.where(y >= 0, tl.load(w_gt_ptr + r), 0.0)
        right = columns == y
        log_gt = _log_softmax(z, tau_gt, inside)
        value -= tl.sum(tl.where(right, log_gt, 0.0), axis=1, keep_dims=True) * share_gt
        g += (tl.exp(log_gt) - tl.where(right, 1.0, 0.0)) * (share_gt / tau_gt)

    if factor_ptr is not None:
        factor = tl.load(factor_ptr + r * factor_run + i, mask=here, other=0.0)
        value *= factor
        g *= factor
    g *= tl.load(inverse_ptr + r)
    tl.store(value_ptr + r * value_run + i, value, mask=here)
    g = tl.where(inside, g, 0.0).to(dz_ptr.dtype.element_ty)
    tl.store(dz_ptr + r * dz_run + i * dz_row + columns, g, mask=stored)
