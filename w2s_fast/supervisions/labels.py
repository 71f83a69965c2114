"""Labels made anew: probability tables in which some rows of a weak model's labels are replaced."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from w2s_fast.losses import Supervision
from w2s_fast.losses.supervision import TINY
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import Rows


def weak_log_probs(context: Context) -> Tensor:
    """log softmax of the run's weak logits f[N, k], at temperature 1."""
    seed = context.weak_seed
    return context.shared.once(("log p_w", seed), lambda: context.shared.weak(seed).weak.float().log_softmax(-1))


def weak_probs(context: Context, rows: Rows) -> Tensor:
    """Weak probabilities f64[n, k] of some rows."""
    return weak_log_probs(context)[torch.from_numpy(rows)].double().exp()


def relabelled(context: Context, rows: Rows, p: Tensor) -> Supervision:
    """The weak labels of the task with probabilities p f[n, k] in place of those of `rows`."""
    table = weak_log_probs(context).clone()
    table[torch.from_numpy(rows)] = p.clamp_min(TINY).log().to(table.dtype)
    return context.shared.supervision(table)


def one_hot(labels: Tensor, k: int) -> Tensor:
    """One-hot rows f64[n, k] of class numbers i[n]."""
    return torch.nn.functional.one_hot(labels, k).double()


def hardened(log_p: Tensor) -> Tensor:
    """log of the one-hot argmax f[n, k] of each row; ties go to the lowest class."""
    return one_hot(log_p.argmax(-1), log_p.shape[-1]).clamp_min(TINY).log().to(log_p.dtype)


def share_right(context: Context, table: Tensor, rows: Rows) -> float | None:
    """Share of `rows` with a known label whose argmax in f[N, k] is right; None where none is known."""
    labels = np.asarray(context.task.manifest.labels)[rows]
    known = labels >= 0
    said = table[torch.from_numpy(rows)].argmax(-1).numpy()
    return float((said[known] == labels[known]).mean()) if known.any() else None
