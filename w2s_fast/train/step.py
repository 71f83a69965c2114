"""Forward and backward of a stack of heads: logits, and gradients of parameters from gradients of logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Head

Back = Callable[[Tensor, float], Theta]
"""(dz f[R, b, k], scale) -> scale * gradient of every parameter."""


def is_linear_in_x(head: Head) -> bool:
    """Whether logits are x W^T + b with x as it is, so that no autograd through features is needed."""
    return type(head).features is Head.features


def forward(head: Head, theta: Theta, x: Tensor, runs: int) -> tuple[Tensor, Back]:
    """Logits f[R, b, k] of features f[b, d] (shared) or f[R, b, d], and the way back to the parameters."""
    if is_linear_in_x(head):
        w, b, pull = head.vjp(theta)
        z = logits(x, w, b, head.x_scale, runs)

        def back(dz: Tensor, scale: float) -> Theta:
            dw = outer(dz, x, head.x_scale * scale)
            if w.ndim == 2:
                dw = dw.sum(dim=0)
            db = None
            if b is not None:
                db = dz.sum(dim=-2)
                db = (db.sum(dim=0) if b.ndim == 1 else db).mul_(scale)
            return pull(dw, db)

        return z, back

    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_(True) for name, p in theta.items()}
        wide = x.expand(runs, *x.shape) if x.ndim == 2 else x
        z = logits_of(head, leaves, wide, runs)

    def through(dz: Tensor, scale: float) -> Theta:
        found = torch.autograd.grad(z, list(leaves.values()), dz * scale, allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    return z.detach(), through


def logits_of(head: Head, theta: Theta, x: Tensor, runs: int) -> Tensor:
    """Logits f[R, b, k] of any head, without a way back; x f[b, d] or f[R, b, d]."""
    if not is_linear_in_x(head):
        x = head.features(theta, x.expand(runs, *x.shape) if x.ndim == 2 else x)
    w, b = head.weights(theta)
    return logits(x, w, b, head.x_scale, runs)


def logits(x: Tensor, w: Tensor, b: Tensor | None, scale: float, runs: int) -> Tensor:
    """scale * x w^T + b as f[R, b, k]; x and w may each lack the lead."""
    if runs == 1:
        x = x if x.ndim == 2 else x[0]
        w = w if w.ndim == 2 else w[0]
        offset = x.new_zeros(()) if b is None else (b if b.ndim == 1 else b[0])
        return torch.addmm(offset, x, w.t(), beta=0 if b is None else 1, alpha=scale).unsqueeze(0)
    x = x.expand(runs, *x.shape) if x.ndim == 2 else x
    w = w.expand(runs, *w.shape) if w.ndim == 2 else w
    offset = x.new_zeros(()) if b is None else (b if b.ndim == 1 else b.unsqueeze(1))
    return torch.baddbmm(offset, x, w.mT, beta=0 if b is None else 1, alpha=scale)


def outer(dz: Tensor, x: Tensor, scale: float) -> Tensor:
    """scale * dz^T x as f[R, k, d]."""
    nothing = dz.new_zeros(())
    if dz.shape[0] == 1:
        x = x if x.ndim == 2 else x[0]
        return torch.addmm(nothing, dz[0].t(), x, beta=0, alpha=scale).unsqueeze(0)
    x = x.expand(dz.shape[0], *x.shape) if x.ndim == 2 else x
    return torch.baddbmm(nothing, dz.mT, x, beta=0, alpha=scale)
