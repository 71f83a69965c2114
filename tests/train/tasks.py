"""A small noisy task for tests of the engine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from w2s_fast.train import Start, Supervision, fit_heads


def task(n=120, k=5, d=9, *, m=None, seed=0, noise=1.0):
    """Features, truth, weak logits (m teachers), text and a start; weak labels are right in part."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, k, (n,), generator=g)
    centre = torch.randn(k, d, generator=g)
    x = centre[y] + noise * torch.randn(n, d, generator=g)
    shape = (n, k) if m is None else (n, m, k)
    weak = 1.5 * torch.randn(*shape, generator=g)
    weak[torch.arange(n), ..., y] += 2.0
    text = centre + 0.5 * torch.randn(k, d, generator=g)
    start = Start(k=k, d=d, names=tuple(f"class {c}" for c in range(k)), text=text)
    return SimpleNamespace(x=x, y=y, weak=weak, text=text, start=start, sup=Supervision(weak=weak), n=n, k=k, d=d, g=g)


def split(train, val, test):
    """A split from row numbers."""
    return SimpleNamespace(train=np.asarray(train), val=np.asarray(val), test=np.asarray(test))


def thirds(n, train):
    """The first `train` rows train, the rest is halved into val and test."""
    rows = np.arange(n)
    middle = train + (n - train) // 2
    return split(rows[:train], rows[train:middle], rows[middle:])


def fits(t, runs, splits, sups=None, x=None, **rest):
    """Fits of a task in double precision, in the order of the runs."""
    found = fit_heads(
        t.x if x is None else x,
        runs,
        splits=splits,
        supervisions=sups or [t.sup],
        start=t.start,
        truth=t.y,
        **{"precision": "fp64", **rest},
    )
    return sorted(found, key=lambda f: f.index)


def together(monkeypatch):
    """Make the engine put all runs that may be stacked into one stack, as on a GPU."""
    from w2s_fast.train import loop
    from w2s_fast.train.plan import stack_key

    def group(setups, **_):
        stacks = {}
        for s in setups:
            stacks.setdefault(stack_key(s), []).append(s)
        return list(stacks.values())

    monkeypatch.setattr(loop, "group", group)


def alone(monkeypatch):
    """Make the engine train every run by itself."""
    from w2s_fast.train import loop

    monkeypatch.setattr(loop, "group", lambda setups, **_: [[s] for s in setups])
