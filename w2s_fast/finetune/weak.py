"""Weak supervisors: whole networks on ground-truth labels, through the one loop (fit.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.loop import Progress
from w2s_fast.finetune.training import Training, known_fields
from w2s_fast.finetune.views import PreparedViews

if TYPE_CHECKING:
    from torch import Tensor, nn

DRAWN = Training(batch_size=32, lr=3e-3, steps=1600, optimizer="adam", weight_decay=0.0, schedule="cosine(warmup=0.05)")
"""For `DrawnCNN` on a few images per class: trained far beyond zero training error, so that its errors on new images
look like noise. (An underfitted teacher errs systematically, students imitate that, and fall below it.)"""

FINETUNED = Training(
    batch_size=512,
    lr=1e-3,
    epochs=3,
    min_steps=100,
    min_batches=16,
    optimizer="adam",
    weight_decay=0.0,
    schedule="linear(warmup=0.1)",
)
"""For pre-trained timm / torchvision networks with a new head: the weak models of the CPL paper (3 epochs at batch
512, Adam, rate 1e-3, warm-up 0.1, linear decay); small data sets get batches of a sixteenth, and at least 100 steps."""

SCRATCH = Training(
    epochs=240,
    lr=0.05,
    decay_all=True,
    schedule="steps(at='0.625, 0.75, 0.875')",
    rates="epoch",
    augment="crop(pad=4), flip",
)
"""For networks of the cifar library, which start from nothing: mdistiller's recipe for one GPU (commit a08d46f)."""


def training_of(model: str, given: Mapping[str, Any]) -> Training:
    """The training of an architecture with the `given` fields (None: its own); `UsageError` for an unknown field."""
    library = model.partition(":")[0]
    own = DRAWN if model == "drawn:cnn" else SCRATCH if library == "cifar" else FINETUNED
    chosen = {k: v for k, v in given.items() if v is not None}
    if chosen.get("epochs") is not None and chosen.get("steps") is not None:
        raise UsageError("give --epochs or --steps, not both")
    if "epochs" in chosen:
        chosen |= {"steps": None, "min_steps": 0}
    elif "steps" in chosen:
        chosen |= {"epochs": None, "min_steps": 0}
    for key in chosen:
        if key not in known_fields():
            raise UsageError(f"a training has no {key!r}{nearest(key, known_fields())}")
    return replace(own, **chosen)


def training_of_card(recipe: Mapping[str, Any]) -> Training:
    """The training that a supervisor's card records; cards of the first releases name schedule and warm-up apart."""
    fields = dict(recipe)
    if "warmup" in fields:
        fields["schedule"] = f"{fields['schedule']}(warmup={fields.pop('warmup')})"
    return Training(**fields)


def fit_supervisor(
    model: nn.Module,
    images: Tensor | Callable[[Tensor], Tensor],
    labels: Tensor,
    *,
    training: Training,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Train `model` in place on prepared images, and leave it in evaluation mode on `device`.

    Arguments:
        model: a module from images f[b, 3, h, w] to logits f[b, k]; parameters without grad stay as they are.
        images: uint8 [n, 3, h, w] (taken to -1..1), or float [n, 3, h, w] as prepared for the model, or a callable
            from row numbers i[b] to such a float batch; none is augmented (`views.AugmentedViews` are).
        labels: i[n] in 0..k-1.
        seed: decides batch order and dropout. Initial weights are the caller's: build the model inside
            `seeded(seed)`. On one CPU with one number of threads the same seed gives the same weights.

    Returns curves with one value per pass over the data: `loss` and `accuracy` (of the training batches, as seen
    during the pass), and `lr` (of its last step).

    Raises DataError for labels that do not fit the images or the model, TrainError when the loss is not finite.
    """
    n = len(labels)
    if n == 0:
        raise DataError("there are no images to train on")
    if isinstance(images, torch.Tensor):
        if len(images) != n:
            raise DataError(f"{n} labels for {len(images)} images")
        if images.dtype == torch.uint8:
            images = images.float() / 127.5 - 1
    if training.augment != "none":
        raise UsageError(f"prepared images are not augmented ({training.augment}); give their pixels as AugmentedViews")
    views = PreparedViews(images=images, count=n, device=torch.device(device))
    probe = views.plain(torch.arange(1).numpy())
    model.to(device).eval()
    with torch.no_grad():
        k = model(probe).shape[1]
    fit = fit_network(model, views, labels, training=training, seed=seed, k=k, device=device, progress=progress)
    return {name: fit.curves[name][1:].tolist() for name in ("loss", "accuracy", "lr")}
