"""One run at a time, as a researcher writes it: nn.Module, torch.optim, F.*, autograd. The oracle of the engine.

Nothing here comes from w2s_fast but the parsing of specs and the batch order.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from naive_losses import MORE
from torch import Tensor, nn

from w2s_fast.core.specs import parse
from w2s_fast.train.order import order


class LinearHead(nn.Module):
    def __init__(self, k, d, args, *, seed, text, x, weak, dtype):
        super().__init__()
        self.tau_s, self.scale = args.get("tau_s", 1.0), args.get("x_scale", 10.0)
        self.lin = nn.Linear(d, k, dtype=dtype)
        with torch.no_grad():
            self.lin.bias.zero_()
            if args.get("init", "random") == "text":
                rows = text.to(dtype) / text.to(dtype).norm(dim=1, keepdim=True)
                self.lin.weight.copy_(rows / (args.get("tau0", 0.05) * self.scale))
            else:
                draw = torch.rand(k, d, generator=torch.Generator().manual_seed(seed)).double()
                self.lin.weight.copy_((2 * draw - 1) / math.sqrt(d))

    def forward(self, x):
        return self.lin(self.scale * x / x.norm(dim=1, keepdim=True))

    def theta(self):
        return {"weight": self.lin.weight.detach(), "bias": self.lin.bias.detach()}

    def groups(self, decay):
        return [{"params": [self.lin.weight], "weight_decay": decay}, {"params": [self.lin.bias], "weight_decay": 0.0}]


class PrototypeHead(nn.Module):
    def __init__(self, k, d, args, *, seed, text, x, weak, dtype):
        super().__init__()
        self.tau_s = args.get("tau_s", 0.05)
        init = args.get("init", "text")
        if init == "text":
            rows = text.to(dtype)
        elif init == "random":
            rows = torch.randn(k, d, generator=torch.Generator().manual_seed(seed)).double()
        else:
            rows = torch.stack(
                [
                    sum(
                        weak[i].softmax(0)[c] * x[i] / x[i].norm() for i in range(len(x))
                    )  # one class, one row at a time
                    for c in range(k)
                ]
            )
        rows = (rows / rows.norm(dim=1, keepdim=True)).to(dtype)
        self.c = nn.Parameter(rows * args.get("init_norm", 10.0))

    def forward(self, x):
        return F.cosine_similarity(x[:, None, :], self.c[None, :, :], dim=-1)

    def theta(self):
        return {"prototypes": self.c.detach()}

    def groups(self, decay):
        return [{"params": [self.c], "weight_decay": decay}]


HEADS = {"linear": LinearHead, "prototype": PrototypeHead}


def ce(z, weak, t, label_smoothing=0.0, **_):
    return F.cross_entropy(z, weak.argmax(1), reduction="none", label_smoothing=label_smoothing)


def ce_soft(z, weak, t, tau_w=1.0, **_):
    return F.cross_entropy(z, (weak / tau_w).softmax(1), reduction="none")


def kd(z, weak, t, tau_w=1.0, tau2=False, tau_s=1.0, **_):
    value = F.kl_div(z.log_softmax(1), (weak / tau_w).log_softmax(1), reduction="none", log_target=True).sum(1)
    return value * tau_s**2 if tau2 else value


def sinkhorn_label(p, w):
    """Ten iterations with plain loops over classes and rows, in log domain."""
    logp = p.log()
    n, k = logp.shape
    goal = (n * w.mean(0)).log()
    b = torch.zeros(k, dtype=p.dtype)
    for _ in range(10):
        a = torch.stack([-(logp[i] + b).logsumexp(0) for i in range(n)])
        b = torch.stack([goal[c] - (logp[:, c] + a).logsumexp(0) for c in range(k)])
    return (logp + b).argmax(1)


def quantile_label(p, w):
    threshold = torch.quantile(p[:, 0], w[:, 1].mean(), interpolation="linear")
    return torch.where(p[:, 0] >= threshold, 0, 1)


def aux_conf(
    z, weak, t, alpha=0.5, warmup=0.2, harden="balanced", tau_w=1.0, balance_to="weak_mean", legacy_warmup=False, **_
):
    w = (weak / tau_w).softmax(1)
    p = z.softmax(1).detach()
    if harden == "argmax":
        label = p.argmax(1)
    else:
        goal = torch.full_like(w, 1 / w.shape[1]) if balance_to == "uniform" else w
        label = quantile_label(p, w) if p.shape[1] == 2 else sinkhorn_label(p, goal)
    a = alpha if warmup == 0 else alpha * min(1.0, t / warmup)
    if legacy_warmup:
        a = alpha * (1.0 if t > warmup else t)
    return (1 - a) * F.cross_entropy(z, w, reduction="none") + a * F.cross_entropy(z, label, reduction="none")


def aux_conf_argmax(z, weak, t, **args):
    return aux_conf(z, weak, t, **{**args, "harden": "argmax"})


def adapt_conf(z, weak, t, T=0.5, kd_t=1.0, ramp=0.0, flip=False, beta=None, tau_w=1.0, **_):
    fixed = beta
    own = F.cross_entropy(z, z.argmax(1), reduction="none")
    theirs = F.cross_entropy(z, weak.argmax(1), reduction="none")
    with torch.no_grad():
        beta = torch.exp(own / T) / (torch.exp(own / T) + torch.exp(theirs / T))
        if fixed is not None:
            beta = torch.full_like(own, fixed)
        if flip:
            beta = torch.where(z.argmax(1) == weak.argmax(1), beta, 1 - beta)
        if ramp:
            beta = beta * min(1.0, t / ramp)
    soft = F.kl_div((z / kd_t).log_softmax(1), (weak / tau_w / kd_t).softmax(1), reduction="none").sum(1) * kd_t**2
    return (1 - beta) * soft + beta * own


def reverse_kl(z, weak, t, eps=1e-6, tau_w=1.0, **_):
    w = (weak / tau_w).softmax(1).clamp(min=eps)
    w = w / w.sum(1, keepdim=True)
    p = z.softmax(1)
    return (p * (p.log() - w.log())).sum(1)


def gce(z, weak, t, q=0.7, **_):
    p = z.softmax(1)[torch.arange(len(z)), weak.argmax(1)]
    return (1 - p**q) / q


def brier(z, weak, t, tau_w=1.0, **_):
    return F.mse_loss(z, (weak / tau_w).softmax(1), reduction="none").sum(1) / 2


LOSSES = {f.__name__: f for f in (ce, ce_soft, kd, aux_conf, aux_conf_argmax, adapt_conf, reverse_kl, gce, brier)} | {
    "cpl": kd,
    "ce_hard": ce,
    **MORE,
}


def solver_of(text, groups):
    spec = parse(text)
    if spec.name == "sgd":
        return (
            torch.optim.SGD(groups, lr=0.0, momentum=0.9, **spec.args)
            if "momentum" not in spec.args
            else (torch.optim.SGD(groups, lr=0.0, **spec.args))
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.name]
    betas = (spec.args.get("beta1", 0.9), spec.args.get("beta2", 0.999))
    return kind(groups, lr=0.0, betas=betas, eps=spec.args.get("eps", 1e-8))


def lr_at(text, lr, step, steps):
    spec = parse(text)
    warmup = spec.args.get("warmup", 0.0 if spec.name == "constant" else 0.1)
    w = math.ceil(Fraction(str(warmup)) * steps)
    if step < w:
        return lr * step / w
    part = (step - w) / (steps - w)
    return lr * {"linear": 1 - part, "cosine": (1 + math.cos(math.pi * part)) / 2, "constant": 1.0}[spec.name]


def naive_fit(x, run, split, supervision, text, dtype=torch.float64):
    """Parameters after every epoch (the first entry is the start) and the mean loss of every epoch."""
    head, loss = parse(run.head), parse(run.loss)
    weak = supervision.weak
    if supervision.pick is not None:
        weak = torch.stack([weak[i, int(supervision.pick[i])] for i in range(len(weak))])
    x, weak = x.to(dtype), weak.to(dtype)
    weight = None if supervision.weight is None else supervision.weight.to(dtype)
    tables = {"prior": None if supervision.prior is None else supervision.prior.to(dtype), "labels": supervision.labels}
    train = torch.as_tensor(split.train)
    model = HEADS[head.name](
        weak.shape[-1], x.shape[1], head.args, seed=run.seed, text=text, x=x[train], weak=weak[train], dtype=dtype
    )
    tau_s = loss.args.get("tau_s", model.tau_s)
    args = {**loss.args, "tau_s": tau_s}
    lr = 1e-2 if run.lr is None else run.lr
    optimiser = solver_of(run.solver, model.groups(run.weight_decay))
    steps, step = run.epochs * math.ceil(len(train) / run.batch_size), 0
    memory: dict[str, list[Tensor]] = {}
    thetas, curve = [{n: p.clone() for n, p in model.theta().items()}], [math.nan]
    for epoch in range(run.epochs):
        total = 0.0
        for rows in train[torch.as_tensor(order(run.seed, epoch, len(train)))].split(run.batch_size):
            for g in optimiser.param_groups:
                g["lr"] = lr_at(run.schedule, lr, step, steps)
            optimiser.zero_grad()
            raw = model(x[rows])
            told = {n: None if x is None else x[rows] for n, x in tables.items()}
            value = LOSSES[loss.name](raw / tau_s, weak[rows], step / steps, memory=memory, **told, **args)
            if run.w_gt:
                labels = supervision.labels[rows]
                known = labels >= 0
                extra = F.cross_entropy(raw / model.tau_s, labels.clamp(min=0), reduction="none")
                value = value + run.w_gt * torch.where(known, extra, torch.zeros_like(extra))
            if weight is not None:
                value = value * weight[rows]
            (value.sum() / len(rows)).backward()
            optimiser.step()
            total += float(value.detach().sum())
            step += 1
        thetas.append({n: p.clone() for n, p in model.theta().items()})
        curve.append(total / len(train))
    return thetas, curve


def gap(theta: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Relative distance of two sets of parameters."""
    a = torch.cat([theta[n].double().reshape(-1) for n in sorted(theta)])
    b = torch.cat([other[n].double().reshape(-1) for n in sorted(other)])
    return float((a - b).norm() / b.norm())
