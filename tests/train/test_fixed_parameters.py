"""What a head keeps fixed never reaches an optimiser: neither weight decay nor momentum moves it, in any solver."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from worlds import gaussian_task

from w2s_fast import heads
from w2s_fast.methods.fit import fit

HEADS = ("tip(tune=False)", "tip(shots=4)", "adapter", "adapter(tune_classes=True)", "adapter(form='clip_adapter')")
SOLVERS = ("adam", "adamw", "sgd", "lbfgs")


def trained(head: str, solver: str, **settings: Any) -> dict[str, torch.Tensor]:
    task = gaussian_task(n=80)
    results = fit(task, loss="kd", head=head, solver=solver, references=False, batch_size=16, **settings)
    return dict(results.best("last").theta)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("head", HEADS)
def test_what_is_fixed_stays_to_the_bit(head: str, solver: str) -> None:
    fixed = heads.make(head).fixed()
    before, after = trained(head, solver, epochs=1), trained(head, solver, epochs=3, weight_decay=0.5, lr=1e-2)
    assert fixed <= set(before)
    for name, p in before.items():
        assert torch.equal(p, after[name]) == (name in fixed), name


def test_the_frozen_keys_of_tip_are_unit_features() -> None:
    keys = trained("tip(tune=False)", "adam", epochs=3, weight_decay=0.5)["keys"]
    assert torch.allclose(keys.norm(dim=-1), torch.ones(len(keys)), atol=1e-6)
