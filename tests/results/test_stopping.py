"""Early stopping: what each selection gains over the last epoch, against the rows and the curves themselves."""

from __future__ import annotations

import numpy as np
import pytest

from w2s_fast import fit
from w2s_fast.tasks.task import Task


def overfitting(*, n: int = 300, k: int = 4, d: int = 120, noise: float = 0.5) -> Task:
    """More weights than rows, and half of the weak labels wrong: a long fit learns the errors."""
    rng = np.random.default_rng(0)
    means, y = rng.normal(size=(k, d)), np.arange(n) % k
    said = np.where(rng.random(n) < noise, (y + rng.integers(1, k, n)) % k, y)
    x = means[y] + 0.9 * rng.normal(size=(n, d))
    return Task.from_arrays(features=x, weak_logits=4.0 * np.eye(k)[said], labels=y)


def test_gains_are_those_of_the_curves_and_of_the_rows() -> None:
    results = fit(overfitting(), loss="ce", head="linear", seeds=2, epochs=60, batch_size=32)
    records = results.stopping()
    assert len(records) == len(results.fits) and {r["supervision"] for r in records} == {"weak", "gt"}
    curves = results.curves()
    for record in records:
        mine = [
            c
            for c in curves
            if (c["method"], c["seed"], c["weak_seed"]) == tuple(record[k] for k in ("method", "seed", "weak_seed"))
        ]
        assert [c["epoch"] for c in mine] == list(range(61))
        by_hand = {
            "last": 60,
            "weak_val": max(range(1, 61), key=lambda e: (mine[e]["agree_val"], -e)),
            "oracle": max(range(1, 61), key=lambda e: (mine[e]["acc_val"], -e)),
            "test_best": max(range(1, 61), key=lambda e: (mine[e]["acc_test"], -e)),
        }
        for name, epoch in by_hand.items():
            assert record[f"epoch_{name}"] == epoch
            assert record[f"acc_{name}"] == mine[epoch]["acc_test"]
            [row] = [
                r
                for r in results.rows
                if r["selection"] == name
                and (r["method"], r["seed"], r["weak_seed"]) == (record["method"], record["seed"], record["weak_seed"])
            ]
            assert row["acc_w2s"] == pytest.approx(record[f"acc_{name}"])
            if name != "last":
                assert record[f"gain_{name}"] == pytest.approx(mine[epoch]["acc_test"] - mine[60]["acc_test"])
    students = [r for r in records if r["supervision"] == "weak"]
    assert np.mean([r["gain_oracle"] for r in students]) > 0.08, "stopping early helps where errors are learned"
    assert all(r["gain_test_best"] >= max(0, r["gain_oracle"]) for r in records)


def test_selections_that_a_run_lacks_are_none() -> None:
    [record] = fit(
        overfitting(n=200), loss="kd", head="linear", epochs=5, batch_size=16, lr=1e38, solver="sgd", references=False
    ).stopping()
    assert record["acc_last"] is None and record["gain_oracle"] is None and record["epoch_oracle"] is None
