"""Weak supervisors: they learn, they are reproducible, and they leave the global generators alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from w2s_fast.backbones.drawn_cnn import DrawnCNN
from w2s_fast.core.errors import DataError, TrainError, UsageError
from w2s_fast.core.schedule import make_schedule
from w2s_fast.data import drawn
from w2s_fast.finetune.seeding import seeded
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.weak import DRAWN, FINETUNED, SCRATCH, fit_supervisor, training_of, training_of_card

SHORT = dataclasses.replace(DRAWN, steps=120, batch_size=16)


@pytest.fixture(scope="module")
def few() -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes, eight clipart images each: uint8 [24, 3, 32, 32] and labels [24]."""
    names = ("fish", "house", "star")
    pixels = [drawn.render("clipart", name, space="train", index=i) for name in names for i in range(8)]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.arange(3).repeat_interleave(8)


def fitted(few, *, seed: int, training: Training = SHORT) -> tuple[DrawnCNN, dict[str, list[float]]]:
    with seeded(seed):
        model = DrawnCNN(3)
    return model, fit_supervisor(model, *few, training=training, seed=seed)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in model.state_dict().values()])


def test_overfits_a_few_images(few):
    model, curves = fitted(few, seed=0)
    assert not model.training
    assert all(v.is_contiguous() for v in model.state_dict().values())
    with torch.no_grad():
        guesses = model(few[0].float() / 127.5 - 1).argmax(1)
    assert torch.equal(guesses, few[1])
    assert curves["loss"][-1] < 0.05 < curves["loss"][0]
    assert curves["accuracy"][-1] == 1
    assert len({len(v) for v in curves.values()}) == 1


def test_same_seed_same_weights_other_seed_other_weights(few):
    training = dataclasses.replace(SHORT, steps=10)
    one, again, other = (weights(fitted(few, seed=s, training=training)[0]) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_seed_decides_order_and_dropout(few):
    training = dataclasses.replace(SHORT, steps=5)

    def run(seed: int) -> torch.Tensor:
        with seeded(0):
            model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 3))
        fit_supervisor(model, *few, training=training, seed=seed)
        return weights(model)

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_global_generators_untouched(few):
    torch.manual_seed(123)
    np.random.seed(123)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(123)
    np.random.seed(123)
    fitted(few, seed=5, training=dataclasses.replace(SHORT, steps=3))
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


def test_callable_and_prepared_images_equal_bytes(few):
    training = dataclasses.replace(SHORT, steps=6)
    prepared = few[0].float() / 127.5 - 1
    results = []
    for images in (few[0], prepared, lambda rows: prepared[rows]):
        with seeded(0):
            model = DrawnCNN(3)
        fit_supervisor(model, images, few[1], training=training, seed=0)
        results.append(weights(model))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_frozen_parameters_stay_and_progress_is_told(few):
    with seeded(0):
        model = DrawnCNN(3)
    model.features.requires_grad_(False)
    before = model.features[0][0].weight.clone()
    told: list[tuple[int, int]] = []
    training = dataclasses.replace(SHORT, steps=None, epochs=2, batch_size=10)
    fit_supervisor(
        model, *few, training=training, seed=0, progress=lambda step, steps, loss: told.append((step, steps))
    )
    assert torch.equal(before, model.features[0][0].weight)
    assert told == [(i + 1, 6) for i in range(6)]


def test_last_batch_of_one_row_joins_its_neighbour(few):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3), nn.BatchNorm1d(3))
    training = dataclasses.replace(SHORT, steps=None, epochs=1, batch_size=23)
    curves = fit_supervisor(model, *few, training=training, seed=0)
    assert all(math.isfinite(v) for v in curves["loss"])


def test_lengths():
    assert FINETUNED.total_steps(512 * 60) == 180
    assert FINETUNED.total_steps(600) == 100
    assert DRAWN.total_steps(800) == DRAWN.steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "adamw"}, "'adam'"),
        ({"schedule": "cosin"}, "cosine"),
        ({"epochs": 3}, "either steps or epochs"),
        ({"lr": 0.0}, "positive"),
    ],
)
def test_wrong_recipes(change, words):
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(SHORT, **change)


def test_wrong_data(few):
    images, labels = few
    model = DrawnCNN(2)
    for wrong, words in ((labels, "2 outputs"), (labels - 1, "row 0"), (labels[:5], "5 labels"), (labels[:0], "no im")):
        with pytest.raises(DataError, match=words):
            fit_supervisor(model, images, wrong, training=SHORT, seed=0)


def test_divergence_is_an_error(few):
    with seeded(0):
        model = DrawnCNN(3)
    with pytest.raises(TrainError, match="lower lr"):
        fit_supervisor(model, few[0].float() * float("nan"), few[1], training=SHORT, seed=0)


def test_prepared_images_are_not_augmented(few):
    with pytest.raises(UsageError, match="prepared images are not augmented"):
        fitted(few, seed=0, training=dataclasses.replace(SHORT, augment="flip"))


def test_cards_of_the_first_releases_are_read():
    old = {
        **{"augment": "none", "batch_size": 32, "epochs": None, "lr": 0.003, "min_steps": 0, "momentum": 0.9},
        **{"optimizer": "adam", "schedule": "cosine", "steps": 1600, "warmup": 0.05, "weight_decay": 0.0},
    }
    assert training_of_card(old) == DRAWN
    assert training_of_card(dataclasses.asdict(FINETUNED)) == FINETUNED


def test_every_kind_of_network_has_its_training():
    assert training_of("cifar:resnet20", {}) == SCRATCH and training_of("drawn:cnn", {"lr": None}) == DRAWN
    given = training_of("timm:resnet18", {"epochs": 5, "batch_size": 8})
    assert (given.epochs, given.steps, given.min_steps, given.batch_size) == (5, None, 0, 8)
    with pytest.raises(UsageError, match="not both"):
        training_of("timm:resnet18", {"epochs": 5, "steps": 8})
    with pytest.raises(UsageError, match="a training has no 'epoch'.*epochs"):
        training_of("timm:resnet18", {"epoch": 5})


def test_drawn_cnn_is_small():
    model = DrawnCNN(50)
    assert model.forward_features(torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 50)
    assert sum(v.numel() for v in model.state_dict().values()) * 2 < 100_000


@pytest.mark.slow
def test_fits_a_timm_network(few):
    timm = pytest.importorskip("timm")
    with seeded(0):
        model = timm.create_model("resnet10t", num_classes=3, pretrained=False)
    training = dataclasses.replace(FINETUNED, min_steps=12)
    curves = fit_supervisor(model, *few, training=training, seed=0)
    assert curves["accuracy"][-1] > curves["accuracy"][0]


def test_small_sets_get_small_batches():
    assert [FINETUNED.batch_of(n) for n in (3, 100, 899, 100_000)] == [16, 16, 56, 512]
    assert FINETUNED.total_steps(100_000) == 3 * 196 and FINETUNED.total_steps(899) == 100
    assert DRAWN.batch_of(640) == 32 and DRAWN.total_steps(640) == 1600


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.07, 0.1, 1 / 3])
def test_networks_and_heads_have_one_schedule(schedule: str, warmup: float) -> None:
    training = Training(batch_size=32, lr=2.0, steps=100, schedule=f"{schedule}(warmup={warmup})")
    factors = make_schedule(f"{schedule}(warmup={warmup})").factor(np.arange(100), 100)
    assert training.rate_factors(320).tolist() == factors.tolist()
    if warmup == 0.07:
        assert factors[6] < factors[7] == 1.0, "seven steps of warm-up, not eight"
