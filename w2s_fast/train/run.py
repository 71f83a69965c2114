"""A run as asked for, as resolved, and as finished."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from w2s_fast import heads, losses
from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.core.protocols import Theta
from w2s_fast.core.schedule import Schedule, make_schedule
from w2s_fast.core.specs import Spec
from w2s_fast.heads.head import Head, Start
from w2s_fast.losses.loss import Loss
from w2s_fast.losses.supervision import Supervision
from w2s_fast.losses.weak import CallableLoss
from w2s_fast.train.solver import Solver, make_solver


class SplitRows(Protocol):
    """Row numbers of one feature table; any of the parts but `train` may be empty."""

    @property
    def train(self) -> ArrayLike: ...
    @property
    def val(self) -> ArrayLike: ...
    @property
    def test(self) -> ArrayLike: ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """One head to train: what, with which loss, from which seed, on which split and supervision.

    lr None takes the head's default. split and supervision are positions in the lists given to `fit_heads`.
    weight_decay follows the solver and leaves a head's `undecayed` parameters (offsets) alone. w_gt adds
    w_gt * CE(z / head.tau_s, labels) with the supervision's labels. epochs = 0 scores the initialisation.
    The full-batch solvers `lbfgs` and `ridge` read neither batch_size nor lr nor schedule.
    """

    head: str | Spec | Head
    loss: str | Spec | Loss | Callable[..., Any]
    solver: str | Spec | Solver = "adam"
    schedule: str | Spec | Schedule = "linear"
    seed: int = 0
    epochs: int = 10
    batch_size: int = 512
    lr: float | None = None
    weight_decay: float = 0.0
    w_gt: float = 0.0
    split: int = 0
    supervision: int = 0


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A finished run.

    index: its place in the list given. status: `ok` or `diverged` (then theta and predicted are empty). theta and
    predicted (class numbers int32 of the test rows) are keyed by selection, curves (float64[epochs + 1], NaN where
    undefined) by `loss`, `agree_val`, `acc_val`, `agree_test`, `acc_test`. seconds: this run's share of `load` (tables
    to the device, once a call), `compile`, `train`, `evaluate`, and `total` of the last three. resolved: what defaults
    became. notes: why a selection is absent. stack: the number of the stack in which it was trained. learned: what the
    loss learned beside the head, at the end, such as the weights of its teachers.
    """

    index: int
    run: Run
    head: Head
    status: str
    theta: dict[str, Theta]
    curves: dict[str, NDArray[np.float64]]
    predicted: dict[str, NDArray[np.int32]]
    selected_epoch: dict[str, int]
    seconds: dict[str, float]
    resolved: dict[str, Any]
    notes: tuple[str, ...] = ()
    stack: int = 0
    learned: dict[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A run with its names resolved to objects."""

    index: int
    run: Run
    head: Head
    loss: Loss
    solver: Solver
    schedule: Schedule
    lr: float
    n_train: int = 0

    @property
    def label(self) -> str:
        """What rows and messages call the loss."""
        if isinstance(self.run.loss, str | Spec):
            return str(self.run.loss)
        return self.loss.label if isinstance(self.loss, CallableLoss) else type(self.loss).__name__

    @property
    def closed(self) -> bool:
        """Whether head and loss give their gradients in closed form; else they go through autograd, at its cost."""
        head, loss = type(self.head), type(self.loss)
        by_head = head.features is not Head.features or head.vjp is Head.vjp
        return not by_head and loss.value_and_dz is not Loss.value_and_dz

    @property
    def steps(self) -> int:
        return self.run.epochs * math.ceil(self.n_train / self.run.batch_size)

    def resolved(self, *, precision: str, device: str, kernels: str, order: str) -> dict[str, Any]:
        """What every default of the run became, JSON types only; None for what its solver does not read."""
        full = self.solver.full_batch
        return {
            "head": str(self.run.head) if isinstance(self.run.head, str | Spec) else str(self.head.spec()),
            "loss": self.label,
            "init": getattr(self.head, "init_from", None),
            "init_norm": getattr(self.head, "init_norm", None),
            "unit_x": self.head.unit_x,
            "x_scale": self.head.x_scale,
            "tau_s": self.loss.tau_s,
            "tau_w": self.loss.tau_w,
            "solver": _spelled(self.run.solver),
            "schedule": None if full else _spelled(self.run.schedule),
            "warmup": None if full else self.schedule.warmup,
            "lr": None if full else self.lr,
            "weight_decay": self.run.weight_decay,
            "w_gt": self.run.w_gt,
            "epochs": self.run.epochs,
            "batch_size": None if full else self.run.batch_size,
            "steps": None if full else self.steps,
            "n_train": self.n_train,
            "order": None if full else order,
            "precision": precision,
            "device": device,
            "kernels": kernels,
            "gradient": "closed form" if self.closed else "autograd",
        }


def _spelled(part: str | Spec | Solver | Schedule) -> str:
    return str(part) if isinstance(part, str | Spec) else type(part).__name__.lower()


def resolve(index: int, run: Run, start: Start | None = None) -> Setup:
    """The objects that a run's names stand for; errors name the run by its place."""
    _check_numbers(index, run)
    head = heads.make(run.head)
    if start is not None:
        head = head.bind(start)
    loss = losses.make(run.loss)
    if loss.tau_s is None:
        loss = replace(loss, tau_s=head.tau_s)
    return Setup(
        index=index,
        run=run,
        head=head,
        loss=loss,
        solver=make_solver(run.solver),
        schedule=make_schedule(run.schedule),
        lr=type(head).default_lr if run.lr is None else float(run.lr),
    )


def _check_numbers(index: int, run: Run) -> None:
    if not isinstance(run, Run):
        raise UsageError(f"run {index} is a {type(run).__name__}; give Run(head=..., loss=...)")
    least = {"seed": 0, "epochs": 0, "batch_size": 1, "split": 0, "supervision": 0}
    for name, low in least.items():
        value = getattr(run, name)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value < 1 << 63:
            raise UsageError(f"run {index}: {name}={value!r} is not a whole number of at least {low} (and below 2^63)")
    for name in ("lr", "weight_decay", "w_gt"):
        value = getattr(run, name)
        if value is None and name == "lr":
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise UsageError(f"run {index}: {name}={value!r} is not a finite number of at least 0")


def check_supervision(setup: Setup, supervision: Supervision) -> None:
    """Raise `TrainError` if the loss asks for what the supervision lacks, or cannot read several teachers."""
    run, needs = f"run {setup.index} (loss {setup.label})", setup.loss.needs
    if (
        supervision.weak.ndim == 3
        and supervision.pick is None
        and supervision.teachers == 1
        and "teachers" not in needs
    ):
        raise TrainError(f"{run} takes weak logits [N, k] and has {tuple(supervision.weak.shape)}; give weak[:, 0]")
    if supervision.teachers > 1 and "teachers" not in needs:
        raise TrainError(
            f"{run} takes one teacher and its supervision has {supervision.teachers}; set pick, average them, or use a "
            "loss that needs 'teachers'"
        )
    for name in ("labels", "prior"):
        if name in needs and getattr(supervision, name) is None:
            raise TrainError(
                f"{run} needs {name}, and supervision {setup.run.supervision} has none; give Supervision({name}=...)"
            )
    if setup.run.w_gt > 0 and supervision.labels is None:
        raise TrainError(
            f"{run} has w_gt={setup.run.w_gt}, and its supervision has no labels; give Supervision(labels=...)"
        )
