"""Trained to convergence, a ceiling is multinomial logistic regression: the optimum of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks import task, thirds

from w2s_fast.train import Run, fit_heads, ground_truth


@pytest.mark.slow
@pytest.mark.parametrize("c", [0.3, 3.0])
def test_l2_is_scikit_learns(c):
    from sklearn.linear_model import LogisticRegression

    t = task(n=300, k=4, d=8, noise=1.5)
    part = thirds(t.n, 200)
    n = len(part.train)
    run = Run(
        head="linear",
        loss="ce",
        batch_size=n,
        epochs=12_000,
        lr=0.05,
        schedule="cosine",
        weight_decay=1 / (c * n),  # C sum(loss) + |W|^2 / 2, divided by C n; the offsets are free in both
    )
    (fit,) = fit_heads(
        t.x,
        [run],
        splits=[part],
        supervisions=[ground_truth(t.y, t.k)],
        start=t.start,
        truth=t.y,
        precision="fp64",
        selections=["last"],
    )
    x = (10 * torch.nn.functional.normalize(t.x.double(), dim=-1)).numpy()
    model = LogisticRegression(C=c, max_iter=5000, tol=1e-10).fit(x[part.train], t.y.numpy()[part.train])
    theta = {name: p.numpy() for name, p in fit.theta["last"].items()}
    assert np.abs(theta["weight"] - model.coef_).max() < 1e-4
    assert np.abs(theta["bias"] - theta["bias"].mean() - model.intercept_ + model.intercept_.mean()).max() < 1e-4
    assert fit.curves["acc_test"][-1] == pytest.approx(model.score(x[part.test], t.y.numpy()[part.test]), abs=0.02)
