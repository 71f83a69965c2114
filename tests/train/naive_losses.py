"""More losses as a researcher writes them: probabilities, F.*, torch.distributions, loops over rows, autograd."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Dirichlet, kl_divergence


def soft(weak, tau_w):
    return (weak / tau_w).softmax(1)


def kl(p, q):
    return F.kl_div(q.log(), p, reduction="none").sum(1)


def reverse_ce(z, weak, t, eps=1e-4, tau_w=1.0, **_):
    return -(z.softmax(1) * soft(weak, tau_w).clamp(min=eps).log()).sum(1)


def js(z, weak, t, pi=0.5, tau_w=1.0, **_):
    w, p = soft(weak, tau_w), z.softmax(1)
    m = pi * w + (1 - pi) * p
    return pi * kl(w, m) + (1 - pi) * kl(p, m)


def jeffreys(z, weak, t, tau_w=1.0, **_):
    w, p = soft(weak, tau_w), z.softmax(1)
    return kl(w, p) + kl(p, w)


def hellinger(z, weak, t, tau_w=1.0, **_):
    return (z.softmax(1).sqrt() - soft(weak, tau_w).sqrt()).pow(2).sum(1) / 2


def tv(z, weak, t, tau_w=1.0, **_):
    return F.relu(z.softmax(1) - soft(weak, tau_w)).sum(1)


def chi2(z, weak, t, eps=1e-4, tau_w=1.0, **_):
    w = soft(weak, tau_w)
    return ((z.softmax(1) - w) ** 2 / w.clamp(min=eps)).sum(1)


def sce(z, weak, t, a=None, b=None, eps=1e-4, tau_w=1.0, **_):
    usual = (6.0, 0.1) if z.shape[1] >= 100 else (0.1, 1.0)
    a, b = usual[0] if a is None else a, usual[1] if b is None else b
    return a * F.cross_entropy(z, soft(weak, tau_w), reduction="none") + b * reverse_ce(z, weak, t, eps, tau_w)


def entropy_reg(z, weak, t, lam=0.1, tau_w=1.0, **_):
    return F.cross_entropy(z, soft(weak, tau_w), reduction="none") + lam * Categorical(logits=z).entropy()


def window(z, weak, t, r=0.15, tau_w=1.0, **_):
    w = soft(weak, tau_w)
    most = 0.5 + r if z.shape[1] == 2 else float(np.median(w.max(1).values.numpy()))
    value = F.cross_entropy(z, w, reduction="none")
    sure = z.detach().softmax(1).max(1).values.tolist()
    return torch.stack([v if one < most else 0 * v for v, one in zip(value, sure, strict=True)])


def product(z, weak, t, a=1.0, b=1.0, warmup=0.0, tau_w=1.0, **_):
    b = b if warmup == 0 else b * min(1.0, t / warmup)
    target = z.softmax(1).detach().pow(b) * soft(weak, tau_w).pow(a)
    return F.cross_entropy(z, target / target.sum(1, keepdim=True), reduction="none")


def prior_product(z, weak, t, prior=None, a=1.0, b=0.5, tau_w=1.0, **_):
    target = soft(weak, tau_w).pow(a) * prior.exp().pow(b)
    return F.cross_entropy(z, target / target.sum(1, keepdim=True), reduction="none")


def prior_anchor(z, weak, t, prior=None, lam=0.1, tau_w=1.0, **_):
    p = z.softmax(1)
    return kl(soft(weak, tau_w), p) + lam * kl(prior.exp(), p)


def logconf_eleuther(z, weak, t, memory=None, alpha=0.5, warmup=0.2, buffer=32, tau_w=1.0, **_):
    from naive import sinkhorn_label

    p, log_w = z.softmax(1).detach(), soft(weak, tau_w).clamp(min=1e-7).log()
    held = memory.get("rows", []) if memory is not None else []
    known = [*held, *zip(p, log_w, strict=True)]
    mean = sum(row for _, row in known) / len(known)
    all_p, all_w = torch.stack([a for a, _ in known]), torch.stack([(b - mean).softmax(0) for _, b in known])
    if z.shape[1] == 2:
        threshold = float(np.median(all_p[:, 0].numpy()))
        label = torch.tensor([0 if float(row[0]) >= threshold else 1 for row in p])
    else:
        label = sinkhorn_label(all_p, all_w)[len(held) :]
    if memory is not None and buffer:
        memory["rows"] = known[-buffer:]
    a = alpha if warmup == 0 else alpha * min(1.0, t / warmup)
    w = all_w[len(held) :]
    return (1 - a) * F.cross_entropy(z, w, reduction="none") + a * F.cross_entropy(z, label, reduction="none")


def edl(z, weak, t, gamma=0.5, lam=1.0, **_):
    def one(row, label):
        alpha = F.relu(row) + 1
        cost = alpha.sum().log() - alpha[label].log()
        others = torch.where(torch.arange(len(row)) == label, torch.ones_like(alpha), alpha)
        return cost + t * (kl_divergence(Dirichlet(others), Dirichlet(torch.ones_like(alpha))) if len(row) > 1 else 0)

    teachers = weak if weak.ndim == 3 else weak[:, None]
    return torch.stack(
        [
            (1 - gamma) * lam * sum(one(row, int(w.argmax())) for w in theirs) + gamma * one(row, int(row.argmax()))
            for row, theirs in zip(z, teachers, strict=True)
        ]
    )


def raven(z, weak, t, memory=None, base="kd", lr_v=1e-3, agree=0.1, tau_w=1.0, tau_s=1.0, **rest):
    """The weights take their step when the next batch comes, as their gradient is there only after `backward`."""
    from naive import LOSSES

    from w2s_fast.core.specs import parse

    teachers = weak if weak.ndim == 3 else weak[:, None]
    held = {} if memory is None else memory
    v = held.get("v")
    if v is None:
        v = torch.full((teachers.shape[1],), 1 / teachers.shape[1], dtype=z.dtype, requires_grad=True)
    elif held["moves"]:
        v = (v.detach() - lr_v * v.grad).clamp(min=1e-6)
        v = (v / v.sum()).requires_grad_()
    else:
        v = v.detach().clone().requires_grad_()
    held.update(v=v, moves=t >= agree)
    mixed = sum(v[m] * soft(teachers[:, m], tau_w) for m in range(len(v)))
    mixed = mixed / mixed.sum(1, keepdim=True)
    spec = parse(base)
    own = held.setdefault("base", {})
    args = {"tau_s": tau_s, **rest, **spec.args}
    value = LOSSES[spec.name](z, mixed.detach().log(), t, memory=own, **args)
    chase = -(mixed * z.detach().log_softmax(1)).sum(1)
    value = value + chase - chase.detach()
    if t < agree:
        alike = [len({int(w.argmax()) for w in theirs}) == 1 for theirs in teachers]
        value = value * torch.tensor(alike, dtype=z.dtype)
    return value


def dkd(z, weak, t, labels=None, alpha=1.0, beta=2.0, T=1.0, target="labels", tau_w=1.0, **_):
    """With the target's logit lowered by 1000, as the published code has it."""
    y = weak.argmax(1) if target == "weak" else labels
    total = []
    for row, theirs, c in zip(z / T, weak / tau_w / T, y.tolist(), strict=True):
        if c < 0 or len(row) == 1:
            total.append(0 * row.sum())
            continue
        mask = F.one_hot(torch.tensor(c), len(row)).bool()
        p, q = row.softmax(0), theirs.softmax(0)
        two_p, two_q = (torch.stack([x[mask].sum(), x[~mask].sum()]) for x in (p, q))
        target_term = (two_q * (two_q.log() - two_p.log())).sum()
        log_p, log_q = (torch.log_softmax(x - 1000 * mask.to(x.dtype), 0)[~mask] for x in (row, theirs))
        other_term = (log_q.exp() * (log_q - log_p)).sum()
        total.append(T**2 * (alpha * target_term + beta * other_term))
    return torch.stack(total)


MORE = {
    f.__name__: f
    for f in (
        reverse_ce,
        js,
        jeffreys,
        hellinger,
        tv,
        chi2,
        sce,
        entropy_reg,
        window,
        product,
        prior_product,
        prior_anchor,
        logconf_eleuther,
        edl,
        raven,
        dkd,
    )
}
