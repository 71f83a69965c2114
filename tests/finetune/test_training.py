"""Rates and optimisers of published recipes, against their golden values and plain torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_worlds import SHORT, pictures, small, views
from torch.nn.functional import cross_entropy

from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.core.schedule import make_schedule
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.training import Training, make_optimizer
from w2s_fast.finetune.views import batches


def test_timms_cosine_golden() -> None:
    training = Training(
        epochs=240, batch_size=10, lr=0.2, rates="epoch",
        schedule=f"timm_cosine(warmup={10 / 240}, start={1e-4 / 0.2}, floor=0.01)",
    )  # fmt: skip
    rates = training.lr * training.rate_factors(100)
    assert len(rates) == 2400
    golden = {0: 0.0001, 1: 0.02009, 9: 0.18001, 10: 0.19915304, 120: 0.101, 239: 0.00200848}
    for epoch, lr in golden.items():
        assert rates[epoch * 10] == rates[epoch * 10 + 9] == pytest.approx(lr, abs=5e-9)


def test_steps_drop_after_the_epochs_of_the_papers() -> None:
    training = Training(epochs=240, lr=0.05, rates="epoch", schedule="steps(at='0.625, 0.75, 0.875')")
    per = training.steps_per_epoch(640)
    rates = training.rate_factors(640)[::per]
    assert [int(e) for e in np.flatnonzero(np.diff(rates)) + 1] == [150, 180, 210]
    np.testing.assert_allclose(rates[[0, 149, 150, 180, 210]], [1, 1, 0.1, 0.01, 0.001])
    warm = make_schedule("steps(at='0.3, 0.6, 0.9', warmup=0.03, start=0.001)").factor(np.arange(100), 100)
    np.testing.assert_allclose(warm[:4], [0.001, 0.334, 0.667, 1.0])
    with pytest.raises(SpecError, match="no list of parts"):
        Training(epochs=1, schedule="steps(at='soon')").rate_factors(10)


def test_layer_decay_reaches_the_rates() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_base_patch16_224", num_classes=10, global_pool="avg", img_size=32)
    training = Training(epochs=1, lr=2e-3, optimizer="adam", weight_decay=0.05, layer_decay=0.65)
    optimizer = make_optimizer(model, torch.nn.Linear(2, 2), training)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(found) == len(list(model.parameters())) + 2
    golden = {
        "patch_embed.proj.weight": 0.00369721, "cls_token": 0.00369721, "blocks.0.attn.qkv.weight": 0.00568801,
        "blocks.11.mlp.fc1.weight": 0.65, "head.weight": 1.0,
    }  # fmt: skip
    named = dict(model.named_parameters())
    for name, scale in golden.items():
        assert found[id(named[name])][0] == pytest.approx(2e-3 * scale, rel=2e-6)
    assert found[id(named["cls_token"])][1] == found[id(named["blocks.3.norm1.weight"])][1] == 0
    assert found[id(named["blocks.3.mlp.fc2.weight"])][1] == 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
def test_a_fit_equals_a_plain_loop(optimizer: str) -> None:
    pixels, labels = pictures()
    data = views(pixels, "none")
    training = replace(
        SHORT, optimizer=optimizer, augment="none", epochs=2, schedule="constant", lr=0.01, smoothing=0.1, gt=2.0
    )
    fitted = small()
    fitted.drop.p = 0.0
    fit_network(fitted, data, labels, training=training, seed=7, k=3)
    plain = small()
    plain.drop.p = 0.0
    heavy = [p for p in plain.parameters() if p.ndim > 1]
    light = [p for p in plain.parameters() if p.ndim < 2]
    groups = [{"params": heavy, "weight_decay": 5e-4}, {"params": light, "weight_decay": 0.0}]
    solver = (
        torch.optim.AdamW(groups, lr=0.01)
        if optimizer == "adam"
        else torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=optimizer == "nesterov")
    )
    for epoch in range(2):
        for rows in batches(7, epoch, 50, 16):
            x = (pixels[rows].permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.25
            solver.zero_grad()
            (2 * cross_entropy(plain(x), labels[rows], label_smoothing=0.1)).backward()
            solver.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fitted.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_label_smoothing_golden() -> None:
    z, y = torch.tensor([[2.0, 1, 0]]), torch.tensor([0])
    assert float(cross_entropy(z, y, label_smoothing=0.1)) == pytest.approx(0.50760596, abs=1e-7)


def test_lengths() -> None:
    assert Training(epochs=2, batch_size=16).total_steps(33) == 4  # the 33rd joins the second batch
    assert Training(epochs=2, batch_size=16).total_steps(34) == 6
    assert Training(steps=7, batch_size=16).total_epochs(34) == 3
    assert Training(epochs=1, batch_size=512, min_batches=16, min_steps=100).total_steps(320) == 100
    assert Training(epochs=1, batch_size=512, min_batches=16).batch_of(320) == 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 1, "steps": 1}, "either steps or epochs"),
        ({}, "either steps or epochs"),
        ({"epochs": 0}, "must be positive"),
        ({"epochs": 1, "optimizer": "lion"}, "optimizer cannot be 'lion'"),
        ({"epochs": 1, "ema": 1.0}, "ema and smoothing"),
        ({"epochs": 1, "schedule": "steep"}, "no schedule 'steep'"),
    ],
)
def test_impossible_trainings_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises((UsageError, SpecError), match=said):
        Training(**given)  # type: ignore[arg-type]
