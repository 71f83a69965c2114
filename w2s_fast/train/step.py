"""Forward and backward of a stack of heads: logits, and gradients of parameters from gradients of logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Head, gradients
from w2s_fast.train.gemm import logits, outer

Back = Callable[[Tensor], Theta]
"""dz f[R, b, k] -> gradient of every parameter that is not fixed."""


def is_linear_in_x(head: Head) -> bool:
    """Whether logits are x W^T + b with x as it is, so that no autograd through features is needed.

    The engine hands such heads rows that x_scale has already multiplied, others rows that it has not.
    """
    return type(head).features is Head.features


Shape = tuple[bool, float, bool]
"""What a head wants of its features: unit rows, a factor, and whether they are nothing but operands of a product."""


def shape_of(head: Head) -> Shape:
    linear = is_linear_in_x(head)
    return (head.unit_x, head.x_scale if linear else 1.0, linear)


def forward(head: Head, theta: Theta, x: Tensor, runs: int) -> tuple[Tensor, Back]:
    """Logits f[R, b, k] of features f[b, d] (shared) or f[R, b, d], and the way back to the parameters."""
    if is_linear_in_x(head):
        w, b, pull = head.vjp(theta)
        z = logits(x, w, b, runs)

        def back(dz: Tensor) -> Theta:
            dw = outer(dz, x)
            if w.ndim == 2:
                dw = dw.sum(dim=0)
            db = None
            if b is not None:
                db = dz.sum(dim=-2)
                db = db.sum(dim=0) if b.ndim == 1 else db
            return pull(dw, db)

        return z, back

    with torch.enable_grad():
        leaves = head.leaves(theta)
        z = logits_of(head, leaves, x, runs)

    def through(dz: Tensor) -> Theta:
        return gradients(leaves, [z], [dz]) if z.requires_grad else gradients(leaves)

    return z.detach(), through


def logits_of(head: Head, theta: Theta, x: Tensor, runs: int) -> Tensor:
    """Logits f[R, b, k] of any head, without a way back; x f[b, d] or f[R, b, d]."""
    w, b = head.weights(theta)
    if is_linear_in_x(head):
        return logits(x, w, b, runs)
    e = head.features(theta, x.expand(runs, *x.shape) if x.ndim == 2 else x)
    return logits(e * head.x_scale, w, b, runs)
