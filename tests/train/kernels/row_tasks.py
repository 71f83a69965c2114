"""Logits, weak tables and losses of three unlike runs, and what torch says of them in double precision."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from w2s_fast import losses
from w2s_fast.losses.loss import stack
from w2s_fast.losses.supervision import Batch
from w2s_fast.train.kernels import kind_of, own_labels

RUNS = 3
THREE = {
    "ce": ["ce(tau_s=.5)", "ce(label_smoothing=.1, tau_s=1)", "ce(label_smoothing=1, tau_s=2)"],
    "ce_soft": ["ce_soft(tau_s=1, tau_w=3)", "ce_soft(tau_s=.2)", "ce_soft(tau_s=.7, tau_w=.5)"],
    "kd": ["kd(tau_s=1, tau_w=3)", "kd(tau_s=.05)", "kd(tau_s=.7, tau_w=.5)"],
    "kd tau2": [f"kd(tau_s={s}, tau_w={w}, tau2=True)" for s, w in ((2, 2), (0.5, 1), (3, 4))],
    "kd without temperature": ["kd", "kd(tau_w=2)", "kd(tau_w=.5)"],
    "kd tau2 without temperature": ["kd(tau2=True)"] * RUNS,
    "cpl": ["cpl(tau_s=.3)", "cpl(tau_s=1)", "cpl(tau_s=2, tau_w=2)"],
    "aux_conf": [f"aux_conf(harden='balanced', tau_s=1, {a})" for a in ("alpha=.2", "warmup=0", "alpha=1, warmup=1")],
    "aux_conf uniform": ["aux_conf(balance_to='uniform', tau_s=.5)"] * RUNS,
    "aux_conf argmax": ["aux_conf(harden='argmax', tau_s=.5, warmup=.9)"] * RUNS,
    "aux_conf_argmax": [
        f"aux_conf_argmax(tau_s={s}, {a})" for s, a in ((1, "warmup=.9"), (2, "warmup=0"), (1, "alpha=1"))
    ],
    "adapt_conf": [f"adapt_conf(tau_s=1, {a})" for a in ("T=.1", "ramp=.8", "T=3, tau_w=2, ramp=.05")],
    "adapt_conf of one": ["adapt_conf(T=.3, tau_s=.5, tau_w=2, ramp=.9)"] * RUNS,
    "adapt_conf flip": [f"adapt_conf(flip=True, tau_s=1, {a})" for a in ("T=1", "T=2, ramp=1", "T=5, tau_w=2")],
    "adapt_conf kd_t": [f"adapt_conf(tau_s=1, {a})" for a in ("kd_t=2", "kd_t=4, T=2, tau_w=2", "kd_t=.5")],
    "reverse_kl": [f"reverse_kl(tau_s={s}, eps={e})" for s, e in ((1, "1e-6"), (0.4, "1e-2"), (2, ".3"))],
    "gce": [f"gce(tau_s={s}, q={q})" for s, q in ((1, ".7"), (2, "1"), (0.5, "1e-3"))],
}


def merged(specs, dtype, device="cpu"):
    """Three losses as the engine joins them: one where all are equal, else their stack."""
    each = [losses.make(s) for s in specs]
    return each[0] if len(set(specs)) == 1 else stack(each, dtype=dtype, device=device)


def row_task(name, *, k, b=7, kp=None, runs=RUNS, seed=0, scale=3.0, device="cpu", table=23):
    """Everything that the row kernel reads for the losses called `name`, with columns beyond k that hold traps."""
    g = torch.Generator().manual_seed(seed)
    specs = (THREE[name] * runs)[:runs]
    loss = merged(specs, torch.float32, device)
    kind = kind_of(loss, k=k)
    kp = kp or k + 3
    z = scale * torch.randn(runs, b, kp, generator=g)
    z[..., k:] = torch.nan
    weak = scale * torch.randn(table, k, generator=g)
    t = SimpleNamespace(
        loss=loss,
        double=merged(specs, torch.float64, device),
        kind=kind,
        numbers=kind.numbers(loss, runs, device=device),
        z=z,
        weak=weak,
        rows=torch.randint(0, table, (runs, b), generator=g),
        t=torch.linspace(0, 0.9, runs),
        inverse=1 / torch.arange(2, runs + 2, dtype=torch.float32),
        factor=torch.randint(0, 3, (runs, b), generator=g) / 2,
        k=k,
        runs=runs,
    )
    for field in ("z", "weak", "rows", "t", "inverse", "factor"):
        setattr(t, field, getattr(t, field).to(device))
    t.own = own_labels(loss, t.z[..., :k], batch(t, torch.float32)) if kind.hardens else None
    return t


def batch(t, dtype):
    rows = t.rows.expand(t.runs, -1) if t.rows.ndim == 1 else t.rows
    return Batch(weak=t.weak.to(dtype)[rows][..., : t.k], t=t.t.to(dtype).view(-1, 1, 1))


def by_torch(t, dtype=torch.float64, *, factor=True):
    """Value and gradient of the loss classes, scaled as the engine scales them."""
    loss = t.double if dtype == torch.float64 else t.loss
    value, dz = loss.value_and_dz(t.z[..., : t.k].to(dtype), batch(t, dtype))
    each = t.factor.to(dtype) if factor else torch.ones_like(value)
    return value * each, dz * each.unsqueeze(-1) * t.inverse.to(dtype).view(-1, 1, 1)


def off(found, wanted):
    """The largest difference of each run, relative to the run's largest wanted entry (or 1e-3)."""
    scale = wanted.abs().flatten(1).amax(dim=1).clamp_min(1e-3)
    return float(((found.double() - wanted.double()).abs().flatten(1).amax(dim=1) / scale).max())
