"""Optimisers over stacks: torch's formulae, with every run's own learning rate, decay and step count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.family import Family
from w2s_fast.core.fields import Limits
from w2s_fast.core.protocols import Theta
from w2s_fast.core.specs import Spec

Hyperparameter = float | Tensor
"""A number of the step: a float where all runs share it, else f[R]."""
PerStep = Mapping[str, Hyperparameter]
Table = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Solver:
    """An optimiser: `slots` names its state tensors, `hyperparameters` its numbers per step,
    `update` moves one parameter.
    """

    limits: ClassVar[Limits] = {}
    slots: ClassVar[tuple[str, ...]] = ()
    undecayed: ClassVar[Mapping[str, float]] = {"l2": 0.0}
    """Hyperparameters that replace those of the step for a parameter that weight decay leaves alone."""
    full_batch: ClassVar[bool] = False
    """Whether it sees all train rows at once, and so reads neither batch size nor lr nor schedule."""
    stack: ClassVar[int | None] = None
    """How many runs it solves together at most; None where device and head decide."""

    def hyperparameters(self, lr: Table, count: Table, decay: Table) -> dict[str, Table]:
        """Numbers per step and run [S, R] from learning rates, 1-based step counts and weight decay [R]."""
        raise NotImplementedError

    def update(self, p: Tensor, g: Tensor, state: Theta, numbers: PerStep, active: Tensor | None) -> None:
        """Move p [R, ...] in place by its gradient; runs whose `active` f[R] is 0 (and whose lr is 0) stay."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Adam(Solver):
    """torch.optim.Adam: weight decay is an L2 term of the gradient."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    limits: ClassVar[Limits] = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)"}
    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def hyperparameters(self, lr: Table, count: Table, decay: Table) -> dict[str, Table]:
        return {
            "move": lr / (1 - self.beta1**count),
            "root": np.sqrt(1 - self.beta2**count),
            "l2": np.broadcast_to(decay, lr.shape),
            "lr": lr,
            "count": count,
        }

    def update(self, p: Tensor, g: Tensor, state: Theta, numbers: PerStep, active: Tensor | None) -> None:
        m, v = state["m"], state["v"]
        if active is None and p.device.type == "cpu" and not any(isinstance(k, Tensor) for k in numbers.values()):
            self._fused(p, g, m, v, lr=float(numbers["lr"]), count=float(numbers["count"]), l2=float(numbers["l2"]))
            return
        g = plus(g, p, numbers["l2"])
        if active is None:
            m.lerp_(g, 1 - self.beta1)
            v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        else:
            wide = over(active, p)
            m.lerp_(g, wide * (1 - self.beta1))
            v.lerp_(g * g, wide * (1 - self.beta2))
        denominator = v.sqrt().div_(over(numbers["root"], p)).add_(self.eps)
        move = numbers["move"]
        if isinstance(move, Tensor):
            p.addcdiv_(m * over(move, p), denominator, value=-1)
        else:
            p.addcdiv_(m, denominator, value=-move)

    def _fused(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, *, lr: float, count: float, l2: float) -> None:
        # the same formula in one pass over memory
        torch._fused_adam_(
            [p],
            [g.contiguous()],
            [m],
            [v],
            [],
            [torch.tensor(count, dtype=torch.float32)],
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=l2,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class AdamW(Adam):
    """torch.optim.AdamW: weight decay shrinks the parameter by lr * weight_decay first."""

    undecayed: ClassVar[Mapping[str, float]] = {"l2": 0.0, "shrink": 1.0}

    def hyperparameters(self, lr: Table, count: Table, decay: Table) -> dict[str, Table]:
        return {**super().hyperparameters(lr, count, np.zeros_like(decay)), "shrink": 1 - lr * decay}

    def update(self, p: Tensor, g: Tensor, state: Theta, numbers: PerStep, active: Tensor | None) -> None:
        p.mul_(over(numbers["shrink"], p))
        super().update(p, g, state, numbers, active)


@dataclass(frozen=True, kw_only=True)
class Sgd(Solver):
    """torch.optim.SGD without dampening: weight decay is an L2 term of the gradient."""

    momentum: float = 0.9
    nesterov: bool = False

    limits: ClassVar[Limits] = {"momentum": "[0, 1)"}
    slots: ClassVar[tuple[str, ...]] = ("m",)

    def hyperparameters(self, lr: Table, count: Table, decay: Table) -> dict[str, Table]:
        return {"move": lr, "l2": np.broadcast_to(decay, lr.shape)}

    def update(self, p: Tensor, g: Tensor, state: Theta, numbers: PerStep, active: Tensor | None) -> None:
        m, move = state["m"], numbers["move"]
        g = plus(g, p, numbers["l2"])
        if active is None:
            m.mul_(self.momentum).add_(g)
        else:
            m.lerp_(m * self.momentum + g, over(active, p))
        direction = torch.add(g, m, alpha=self.momentum) if self.nesterov else m
        if isinstance(move, Tensor):
            p.sub_(direction * over(move, p))
        else:
            p.add_(direction, alpha=-move)


@dataclass(frozen=True, kw_only=True)
class Lbfgs(Solver):
    """torch.optim.LBFGS with a strong Wolfe line search on mean loss + weight_decay / 2 |theta|^2 over all train rows.

    An epoch is at most `iterations` of it from where the last one ended, with `history` curvature pairs. It ends early
    where no entry of the gradient exceeds `tolerance` or an iteration gains next to nothing.
    """

    iterations: int = 100
    history: int = 10
    tolerance: float = 1e-7

    limits: ClassVar[Limits] = {"iterations": "[1, inf)", "history": "[1, inf)", "tolerance": "(0, 1)"}
    full_batch: ClassVar[bool] = True
    stack: ClassVar[int | None] = 1


@dataclass(frozen=True, kw_only=True)
class Ridge(Solver):
    """The exact optimum of loss `brier` on a linear head, in float64; every weight decay from one eigendecomposition.

    weight_decay = 0 on features without full rank gives the solution of least norm. Offsets are free, as elsewhere.
    The first epoch solves, later ones repeat it.
    """

    full_batch: ClassVar[bool] = True
    stack: ClassVar[int | None] = 64


SOLVERS: dict[str, type[Solver]] = {"adam": Adam, "adamw": AdamW, "sgd": Sgd, "lbfgs": Lbfgs, "ridge": Ridge}


FAMILY: Family[type[Solver]] = Family(what="solver", table=SOLVERS, group="w2s_fast.solvers", listed=())


def make_solver(solver: str | Spec | Solver) -> Solver:
    """A solver from `sgd(momentum=.9)`; `SpecError` for unknown names and values out of range."""
    return solver if isinstance(solver, Solver) else FAMILY.make(solver)


def over(number: Hyperparameter, p: Tensor) -> Hyperparameter:
    """A hyperparameter [R] shaped to broadcast over a parameter [R, ...]."""
    return number.view(-1, *[1] * (p.ndim - 1)) if isinstance(number, Tensor) else number


def plus(g: Tensor, p: Tensor, decay: Hyperparameter) -> Tensor:
    """g + decay * p, without touching g."""
    if isinstance(decay, Tensor):
        return g + p * over(decay, p)
    return g if decay == 0 else torch.add(g, p, alpha=decay)
