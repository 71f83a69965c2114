"""One whole network, trained to the same bits whether it was interrupted or not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.finetune import state as states
from w2s_fast.finetune.distributed import World, with_whole_norms
from w2s_fast.finetune.draws import step_seed
from w2s_fast.finetune.loop import Evaluate, Loop, Progress
from w2s_fast.finetune.objective import make_objective
from w2s_fast.finetune.precision import resolve_precision
from w2s_fast.finetune.running import Parts, Running
from w2s_fast.finetune.seeding import seeded
from w2s_fast.finetune.stages import stages_of
from w2s_fast.finetune.teachers import Teacher
from w2s_fast.finetune.training import Training, make_optimizer
from w2s_fast.finetune.views import Views

SAVE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkFit:
    """What came out. curves: f64[epochs + 1], point 0 before training (NaN for what training itself measures).

    epoch and predicted (per part) are keyed by selection: `last`, and those of `loop.BEST` whose curve there is.
    status: `ok`, or `stopped` where it was asked to and can go on. weights: state dicts of the selections that were
    asked for; the network itself holds those of `last`. off_since: the epoch from which `until` silenced the teacher.
    """

    status: str
    curves: dict[str, NDArray[np.float64]]
    epoch: dict[str, int]
    predicted: dict[str, dict[str, NDArray[np.int64]]]
    weights: dict[str, dict[str, Tensor]]
    seconds: float
    steps: int
    precision: str
    off_since: int | None = None
    notes: tuple[str, ...] = ()


def fit_network(
    model: nn.Module,
    views: Views,
    labels: Tensor | None,
    *,
    training: Training,
    seed: int,
    k: int,
    teacher: Teacher | None = None,
    teacher_score: float | None = None,
    evaluate: Evaluate | None = None,
    keep: tuple[str, ...] = (),
    folder: Path | None = None,
    question: Mapping[str, Any] | None = None,
    save_seconds: float = SAVE_SECONDS,
    save_at_end: bool = True,
    device: torch.device | str = "cpu",
    world: World | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> NetworkFit:
    """Train `model` in place and leave it in evaluation mode on `device`, with averaged weights if `training.ema`.

    Arguments:
        labels: i[n] in 0..k-1; None for label-free training.
        seed: decides order, augmentation and dropout; initial weights are the caller's.
        teacher_score: the teacher's `acc_val`, at which `until='teacher'` switches the loss off.
        keep: selections of `loop.BEST` whose weights are kept.
        folder: where the state lies; one of the same `question` is gone on with, another is refused.
        save_seconds: the state is written after an epoch where the last time is so long ago, and with `save_at_end`
            at the end, so that the same call is done at once.
        stopped: asked after every step; True saves the state and returns with status `stopped`.

    Raises DataError for labels that do not fit, TrainError or UsageError for what cannot be trained.
    """
    device, world = torch.device(device), world or World()
    _check(labels, views.n, k, training, teacher_score)
    precision, note = resolve_precision(training.precision, device)
    # convolutions run nearly twice as fast so on a CPU
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with_whole_norms(model, world)
    if training.checkpointing:
        _checkpoint(model)
    look = stages_of(model)
    with seeded(step_seed(seed, -1), device):
        model.eval()
        objective = make_objective(
            training,
            labels=labels,
            teacher=teacher,
            epochs=training.total_epochs(views.n),
            student_stages=look,
            views=views,
            k=k,
            device=device,
            seed=seed,
        )
    parts = Parts(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False) if training.ema else None,
        objective=objective,
        optimizer=make_optimizer(model, objective.module, training),
    )
    asked = {**(question or {}), "seed": seed, "images": views.n, **asdict(training)}
    now = Running()
    if folder is not None and (found := states.read_state(folder)) is not None:
        states.check_question(folder, found[1], asked)
        now = parts.restore(folder, found)
    loop = Loop(
        model=model,
        look=torch.compile(look) if training.compile else look,
        average=parts.average,
        views=views,
        training=training,
        objective=objective,
        optimizer=parts.optimizer,
        seed=seed,
        device=device,
        world=world,
        precision=precision,
        now=now,
        teacher_score=teacher_score,
        evaluate=evaluate,
        keep=keep,
    )

    def save() -> None:
        done = now.step == len(loop.factors)
        if folder is not None and world.first and (save_at_end or not done):
            parts.write(folder, now, asked)

    status = loop.run(save, stopped, progress, save_seconds)
    if parts.average is not None:
        model.load_state_dict(parts.average.state_dict())
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return NetworkFit(
        status=status,
        curves={name: np.array(values) for name, values in now.curves.items()},
        epoch={"last": len(now.curves["loss"]) - 1, **now.best},
        predicted=now.predicted,
        weights=now.weights,
        seconds=now.seconds,
        steps=now.step,
        precision=precision,
        off_since=now.off_since,
        notes=() if note is None else (note,),
    )


def _check(labels: Tensor | None, n: int, k: int, training: Training, teacher_score: float | None) -> None:
    if n == 0:
        raise DataError("there are no images to train on")
    if labels is not None:
        if len(labels) != n:
            raise DataError(f"{len(labels)} labels for {n} images")
        if int(labels.min()) < 0:
            raise DataError(f"row {int(labels.argmin())} has no label ({int(labels.min())}); give gt=0, or labels")
        if int(labels.max()) >= k:
            raise DataError(f"label {int(labels.max())}, but {k} outputs")
    if training.until == "teacher" and training.gt == 0:
        raise UsageError("until=teacher leaves nothing to learn from without ground truth; give gt=1, or until=end")
    if training.until == "teacher" and teacher_score is None:
        raise UsageError("until=teacher compares with the teacher on hold-val, and there is none; give until=end")


def _checkpoint(model: Any) -> None:
    if not hasattr(model, "set_grad_checkpointing"):
        raise UsageError(f"checkpointing: {type(model).__name__} has none; take a timm network, or accumulate")
    model.set_grad_checkpointing(True)
