"""Hardening that keeps the class balance of a batch: decision A18, two documented rules."""

from __future__ import annotations

import torch
from torch import Tensor

from w2s_fast.losses.supervision import lowest_argmax

ITERATIONS = 10


def harden_balanced(
    logp: Tensor,
    w: Tensor,
    valid: Tensor | None,
    memory: dict[str, Tensor],
    *,
    uniform: bool,
    level: float | None = None,
) -> Tensor:
    """Class numbers i[*r, b] for student log-probabilities and weak probabilities f[*r, b, k].

    Statistics run over the valid rows and over those held in `memory` (`logp`, `weak`, `held`); sample weights do not
    enter. k = 2: class 0 iff p0 >= the quantile of p0 at `level` (None: weak mean of class 1); `uniform` is ignored.
    """
    all_logp, all_w, all_valid = logp, w, valid
    if memory:
        held = memory["held"]
        seen = torch.ones(logp.shape[:-1], dtype=torch.bool, device=logp.device) if valid is None else valid
        all_logp = torch.cat([memory["logp"], logp], dim=-2)
        all_w = torch.cat([memory["weak"], w], dim=-2)
        all_valid = torch.cat([held, seen], dim=-1)
    mean, count = weak_mean(all_w, all_valid)
    if logp.shape[-1] == 2:
        place = mean[..., 1] if level is None else torch.full_like(mean[..., 1], level)
        threshold = quantile(all_logp[..., 0].exp(), all_valid, place)
        return (logp[..., 0].exp() < threshold.unsqueeze(-1)).to(torch.int64)
    if uniform:
        mean = torch.full_like(mean, 1 / logp.shape[-1])
    return lowest_argmax(logp + sinkhorn_offsets(all_logp, all_valid, mean, count))


def weak_mean(w: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of the valid rows f[*r, k] and their number f[*r, 1]."""
    if valid is None:
        return w.mean(dim=-2), torch.full_like(w[..., 0, :1], w.shape[-2])
    count = valid.sum(dim=-1, keepdim=True).to(w.dtype).clamp_min(1)
    return (w * valid.unsqueeze(-1)).sum(dim=-2) / count, count


def sinkhorn_offsets(logp: Tensor, valid: Tensor | None, mean: Tensor, count: Tensor) -> Tensor:
    """Offsets b f[*r, 1, k] after ten iterations towards column sums `count * mean`.

    One iteration normalises the rows of p exp(b) and then scales the columns; a class of mean 0 gets -inf. Columns are
    divided by their largest entry first, so that neither a rare class nor a confident row leaves the range of floats.
    """
    masked = logp if valid is None else logp.masked_fill(~valid.unsqueeze(-1), -torch.inf)
    largest = masked.amax(dim=-2, keepdim=True)
    if valid is not None:
        largest = largest.clamp_min(torch.finfo(logp.dtype).min)
    shares = (masked - largest).exp()
    goal = (count * mean).unsqueeze(-1)
    tiny = torch.finfo(logp.dtype).tiny
    v = largest.exp().mT
    for _ in range(ITERATIONS):
        u = (shares @ v).clamp_min(tiny).reciprocal()
        v = goal / (shares.mT @ u).clamp_min(tiny)
    return v.mT.log() - largest


def quantile(x: Tensor, valid: Tensor | None, level: Tensor) -> Tensor:
    """The linearly interpolated quantile f[*r] at `level` f[*r] of the valid entries of x f[*r, b]."""
    if valid is None:
        ordered, last = x.sort(dim=-1).values, torch.full_like(level, x.shape[-1] - 1)
    else:
        ordered = x.masked_fill(~valid, torch.inf).sort(dim=-1).values
        last = (valid.sum(dim=-1) - 1).clamp_min(0).to(x.dtype)
    place = (level.clamp(0, 1) * last).unsqueeze(-1)
    low = place.floor()
    high = torch.minimum(low + 1, last.unsqueeze(-1))
    at_low, at_high = ordered.gather(-1, low.to(torch.int64)), ordered.gather(-1, high.to(torch.int64))
    return torch.lerp(at_low, at_high, place - low).squeeze(-1)


def last_valid(memory: dict[str, Tensor], logp: Tensor, w: Tensor, valid: Tensor | None) -> None:
    """Write the newest valid rows into `memory` in place, oldest first and unfilled places before them."""
    seen = torch.ones(logp.shape[:-1], dtype=torch.bool, device=logp.device) if valid is None else valid
    held = torch.cat([memory["held"], seen], dim=-1)
    size = memory["held"].shape[-1]
    newest = held.to(torch.int64).argsort(dim=-1, stable=True)[..., -size:]
    wide = newest.unsqueeze(-1).expand(*newest.shape, logp.shape[-1])
    memory["logp"].copy_(torch.cat([memory["logp"], logp], dim=-2).gather(-2, wide))
    memory["weak"].copy_(torch.cat([memory["weak"], w], dim=-2).gather(-2, wide))
    memory["held"].copy_(held.gather(-1, newest))
