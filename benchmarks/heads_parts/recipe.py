"""What is trained: the recipe that engine and baselines share, its heads as modules and its losses as torch calls.

Written without the package's losses, heads or engine: these are the baselines, and the oracle of the parity gates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.heads_parts.worlds import World


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam with a linear warm-up over the first tenth of the steps and a linear decay, on one head and loss."""

    loss: str
    head: str = "linear"
    epochs: int = 10
    batch_size: int = 512
    lr: float = 1e-2

    def steps(self, n_train: int) -> int:
        return self.epochs * math.ceil(n_train / self.batch_size)

    def share(self, step: int, steps: int) -> float:
        """The part of lr that step 0, 1, ... uses."""
        warm = math.ceil(steps / 10)
        return step / warm if step < warm else (steps - step) / max(1, steps - warm)


LOSSES = {
    "CE": Recipe(loss="ce"),
    "KD": Recipe(loss="kd"),
    "CPL": Recipe(loss="kd", head="prototype"),
    "AuxConf": Recipe(loss="aux_conf_argmax"),
    "AdaptConf": Recipe(loss="adapt_conf"),
    "AuxConf, balanced": Recipe(loss="aux_conf"),
}
"""Losses as papers name them. AuxConf hardens by argmax as the papers do; the package's default is the balanced one."""

SELF_LABELLED = ("aux_conf_argmax", "aux_conf", "adapt_conf")


class LinearProbe(nn.Module):
    """Logits x W^T + b."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(world.shape.d, world.shape.k, device=world.x.device)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def theta(self) -> dict[str, Tensor]:
        return {"weight": self.layer.weight, "bias": self.layer.bias}


class PrototypeProbe(nn.Module):
    """Cosines to prototypes that start from text (norm 10), over tau_s = 0.05; features come normalised."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(10 * F.normalize(world.text, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return x @ F.normalize(self.prototypes, dim=1).T / 0.05

    def theta(self) -> dict[str, Tensor]:
        return {"prototypes": self.prototypes}


Probe = LinearProbe | PrototypeProbe


def make_probe(recipe: Recipe, world: World, *, seed: int, init: dict[str, Tensor] | None = None) -> Probe:
    """A fresh head; `init` replaces its parameters."""
    probe = {"linear": LinearProbe, "prototype": PrototypeProbe}[recipe.head](world, seed)
    for name, value in (init or {}).items():
        probe.theta()[name].data.copy_(value)
    return probe


def uses_probabilities(loss: str) -> bool:
    return loss != "ce"


def uses_label(loss: str) -> bool:
    return loss in ("ce", "adapt_conf")


def value(loss: str, z: Tensor, p: Any, label: Any, t: float, *, entropy: bool = True) -> Tensor:
    """The mean loss of logits z f[b, k] to weak probabilities p f[b, k] and weak labels i[b]; t = step / steps.

    p and label may be None where the loss does not use them (`uses_probabilities`, `uses_label`).
    entropy: KD as a KL divergence; without, as a cross-entropy, whose gradient is the same and whose cost is less.
    """
    if loss == "ce":
        return F.cross_entropy(z, label)
    if loss == "kd":
        return F.kl_div(F.log_softmax(z, dim=1), p, reduction="batchmean") if entropy else F.cross_entropy(z, p)
    if loss in ("aux_conf", "aux_conf_argmax"):
        alpha = 0.5 * min(1.0, t / 0.2)
        own = z.detach().argmax(dim=1) if loss == "aux_conf_argmax" else balanced_label(z.detach(), p)
        return (1 - alpha) * F.cross_entropy(z, p) + alpha * F.cross_entropy(z, own)
    if loss == "adapt_conf":
        to_own = F.cross_entropy(z, z.detach().argmax(dim=1), reduction="none")
        with torch.no_grad():
            to_weak = F.cross_entropy(z, label, reduction="none")
            beta = torch.sigmoid((to_own - to_weak) / 0.5)
        divergence = F.kl_div(F.log_softmax(z, dim=1), p, reduction="none").sum(dim=1)
        return ((1 - beta) * divergence + beta * to_own).mean()
    raise ValueError(f"no loss {loss!r} in the baselines; they have {', '.join(r.loss for r in LOSSES.values())}")


def balanced_label(z: Tensor, p: Tensor) -> Tensor:
    """Labels of which every class has its share of the batch: ten Sinkhorn iterations in log domain."""
    log_own = F.log_softmax(z, dim=1)
    share = p.sum(dim=0).log()
    column = torch.zeros_like(share)
    for _ in range(10):
        row = -torch.logsumexp(log_own + column, dim=1)
        column = share - torch.logsumexp(log_own + row[:, None], dim=0)
    return (log_own + column).argmax(dim=1)
