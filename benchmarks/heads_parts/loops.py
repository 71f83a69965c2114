"""The two loops that researchers run today: DataLoader and autograd; and resident tensors and autograd, tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.heads_parts.recipe import Probe, Recipe, make_probe, uses_label, uses_probabilities, value
from benchmarks.heads_parts.worlds import World

EVAL_BATCH = 2048
Order = Callable[[int], Tensor]
"""The permutation i[n_train] of an epoch; a gate feeds the engine's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What a loop ends with; agreement with the weak label and accuracy on val at the start and after every epoch."""

    theta: dict[str, Tensor]
    agree: list[float]
    acc: list[float]
    loss: list[float]


def fit_loader(
    world: World,
    recipe: Recipe,
    *,
    seed: int,
    init: dict[str, Tensor] | None = None,
    order: Order | None = None,
) -> Fitted:
    """One run as most scripts are written: TensorDataset, DataLoader(shuffle), nn.Module, torch Adam, LambdaLR."""
    device, host = world.x.device, world.host
    x, weak = host.inputs(recipe.head), host.weak
    stored = weak if uses_probabilities(recipe.loss) else weak.argmax(dim=1)
    train = TensorDataset(x[world.train], stored[world.train])
    val = TensorDataset(x[world.val], weak[world.val].argmax(dim=1), host.truth[world.val])
    shuffler = torch.Generator().manual_seed(seed)
    val_loader = DataLoader(val, batch_size=EVAL_BATCH)
    loader = DataLoader(train, batch_size=recipe.batch_size, shuffle=True, generator=shuffler)

    probe = make_probe(recipe, world, seed=seed, init=init)
    optimiser = torch.optim.Adam(probe.parameters(), lr=recipe.lr)
    steps, step = recipe.steps(world.shape.n_train), 0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: recipe.share(s, steps))
    agree, acc, losses = [], [], []
    for epoch in range(recipe.epochs + 1):
        if epoch > 0:
            if order is not None:
                loader = DataLoader(train, batch_size=recipe.batch_size, sampler=order(epoch - 1).tolist())
            total = 0.0
            for features, supervision in loader:
                features, supervision = features.to(device), supervision.to(device)
                optimiser.zero_grad()
                z = probe(features)
                p = supervision.softmax(dim=1) if uses_probabilities(recipe.loss) else None
                label = None
                if uses_label(recipe.loss):
                    label = supervision.argmax(dim=1) if uses_probabilities(recipe.loss) else supervision
                loss = value(recipe.loss, z, p, label, step / steps)
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item() * len(features)
                step += 1
            losses.append(total / len(train))
        same = right = 0
        with torch.no_grad():
            for features, label, truth in val_loader:
                found = probe(features.to(device)).argmax(dim=1).cpu()
                same += int((found == label).sum())
                right += int((found == truth).sum())
        agree.append(same / len(val))
        acc.append(right / len(val))
    return Fitted(theta=_copy(probe), agree=agree, acc=acc, loss=losses)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to tune the resident loop. gather: rows per batch, or the whole permuted table per epoch."""

    name: str
    fused: bool = False
    gather: str = "batch"
    compiled: bool = False
    autocast: bool = False


VARIANTS = (
    Variant(name="torch Adam"),
    Variant(name="fused Adam", fused=True),
    Variant(name="fused Adam, permuted table", fused=True, gather="epoch"),
)
COMPILED = Variant(name="fused Adam, compiled head and loss", fused=True, compiled=True)


def fit_resident(
    world: World,
    recipe: Recipe,
    *,
    seed: int,
    variant: Variant = VARIANTS[0],
    init: dict[str, Tensor] | None = None,
    order: Order | None = None,
) -> Fitted:
    """One run on resident tensors: no DataLoader, weak probabilities computed once, no host sync inside an epoch."""
    x, weak = world.inputs(recipe.head), world.weak
    x_train, x_val = x[world.train], x[world.val]
    p = weak[world.train].softmax(dim=1) if uses_probabilities(recipe.loss) else None
    label = weak[world.train].argmax(dim=1) if uses_label(recipe.loss) else None
    weak_val, truth_val = weak[world.val].argmax(dim=1), world.truth[world.val]

    probe = make_probe(recipe, world, seed=seed, init=init)
    optimiser = torch.optim.Adam(probe.parameters(), lr=recipe.lr, fused=variant.fused or None)
    objective = _compiled(recipe.loss) if variant.compiled else _objective
    steps, step = recipe.steps(world.shape.n_train), 0
    shuffler = torch.Generator().manual_seed(seed)
    agree, acc, losses = [], [], []
    for epoch in range(recipe.epochs + 1):
        if epoch > 0:
            total = torch.zeros((), device=x.device)
            rows = order(epoch - 1) if order is not None else torch.randperm(len(x_train), generator=shuffler)
            for features, probs, labels in _batches(variant, rows.to(x.device), recipe.batch_size, x_train, p, label):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr * recipe.share(step, steps)
                optimiser.zero_grad(set_to_none=True)
                # a number that changes with every step would compile again and again
                t = step / steps if recipe.loss.startswith("aux_conf") else 0.0
                with torch.autocast(x.device.type, torch.bfloat16, enabled=variant.autocast):
                    z = probe(features)
                loss = objective(recipe.loss, z.float(), probs, labels, t)
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(features)
                step += 1
            losses.append(float(total) / len(x_train))
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=variant.autocast):
            found = probe(x_val).argmax(dim=1)
        agree.append(float((found == weak_val).float().mean()))
        acc.append(float((found == truth_val).float().mean()))
    return Fitted(theta=_copy(probe), agree=agree, acc=acc, loss=losses)


def autocast(variant: Variant) -> Variant:
    """The same loop with its products in bfloat16 by torch.autocast."""
    return replace(variant, name=f"{variant.name}, autocast bf16", autocast=True)


def _objective(loss: str, z: Tensor, p: Tensor | None, label: Tensor | None, t: float) -> Tensor:
    return value(loss, z, p, label, t, entropy=False)


def _compiled(loss: str) -> Callable[..., Tensor]:
    if loss.startswith("aux_conf"):
        return torch.compile(_objective, dynamic=True)
    return torch.compile(_objective)


def _batches(
    variant: Variant, rows: Tensor, size: int, *tables: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    if variant.gather == "epoch":
        moved = [None if t is None else t[rows] for t in tables]
        for start in range(0, len(rows), size):
            yield tuple(None if t is None else t[start : start + size] for t in moved)  # type: ignore[misc]
    else:
        for part in rows.split(size):
            yield tuple(None if t is None else t[part] for t in tables)  # type: ignore[misc]


def _copy(probe: Probe) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in probe.theta().items()}
