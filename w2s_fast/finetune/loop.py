"""Steps and epochs of one network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast.core.errors import TrainError
from w2s_fast.finetune.distributed import World, sum_gradients, summed
from w2s_fast.finetune.draws import step_seed
from w2s_fast.finetune.objective import Objective
from w2s_fast.finetune.precision import autocast
from w2s_fast.finetune.running import Running
from w2s_fast.finetune.seeding import seeded
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.views import Rows, Views, batches

BEST = {"weak_val": "agree_val", "oracle": "acc_val", "test_best": "acc_test"}
"""Selection -> the curve whose first maximum names the epoch; `last` is always there."""
SYNC_EVERY = 32
"""Steps between looks at the loss on a GPU, which waits for it."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A network at the end of an epoch: predictions i[m] per part (`val`, `test`) and scores by curve name."""

    predicted: Mapping[str, NDArray[np.int64]]
    scores: Mapping[str, float]


Evaluate = Callable[[nn.Module], Evaluated]
Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss of the last batch that was looked at."""


@dataclass(eq=False, kw_only=True)
class Loop:
    """One fit on its way; see `fit_network` for what the fields are."""

    model: nn.Module
    look: Callable[[Tensor], Any]
    average: nn.Module | None
    views: Views
    training: Training
    objective: Objective
    optimizer: torch.optim.Optimizer
    seed: int
    device: torch.device
    world: World
    precision: str
    now: Running
    teacher_score: float | None
    evaluate: Evaluate | None
    keep: tuple[str, ...]
    sums: Tensor = field(init=False)
    factors: NDArray[np.float64] = field(init=False)
    seen: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        self.factors = self.training.rate_factors(self.views.n)
        self.sums = torch.tensor(self.now.sums, dtype=torch.float64).to(self.device)
        self.scaler = torch.amp.GradScaler(enabled=self.precision == "fp16")  # type: ignore[attr-defined]
        self.learned = [p for group in self.optimizer.param_groups for p in group["params"]]

    def run(
        self, save: Callable[[], None], stopped: Callable[[], bool], progress: Progress | None, save_seconds: float
    ) -> str:
        """Train to the end, or until `stopped`, saving after an epoch where the last time is `save_seconds` ago."""
        now, training, n = self.now, self.training, self.views.n
        per, total, size = training.steps_per_epoch(n), len(self.factors), training.batch_of(n)
        began, saved = time.perf_counter() - now.seconds, time.perf_counter()
        if not now.curves:
            self._end_epoch(math.nan)
        with seeded(0, self.device):
            while now.step < total:
                epoch, at = divmod(now.step, per)
                rest = batches(self.seed, epoch, n, size)[at : at + total - now.step]
                self.model.train()
                for number, rows in enumerate(rest, start=1):
                    self._step(rows, epoch)
                    if progress is not None:
                        progress(now.step, total, self.seen)
                    if number < len(rest) and stopped():
                        return self._stop(save, began)
                self._end_epoch(float(self.optimizer.param_groups[0]["lr"]))
                now.seconds = time.perf_counter() - began
                if now.step < total and stopped():
                    return self._stop(save, began)
                if time.perf_counter() - saved >= save_seconds or now.step == total:
                    save()
                    saved = time.perf_counter()
        return "ok"

    def _stop(self, save: Callable[[], None], began: float) -> str:
        self.now.sums = self.sums.tolist()
        self.now.seconds = time.perf_counter() - began
        save()
        return "stopped"

    def _step(self, rows: Rows, epoch: int) -> None:
        now, training, teacher = self.now, self.training, self.objective.teacher
        torch.manual_seed(step_seed(self.seed, now.step))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.factors[now.step]
        self.optimizer.zero_grad(set_to_none=True)
        view_seed, view_epoch = (self.seed, epoch) if teacher is None else teacher.view_of(self.seed, epoch)
        mine = np.resize(rows, max(len(rows), self.world.size))[self.world.rank :: self.world.size]
        value = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        for part in np.array_split(mine, min(training.accumulate, len(mine))):
            view = self.views.batch(part, seed=view_seed, epoch=view_epoch)
            with autocast(self.precision, self.device):
                seen = self.look(view.x)
            one = self.objective.value(
                seen, view, part, epoch, distil=now.off_since is None, divisor=max(len(rows), self.world.size)
            )
            self.scaler.scale(one).backward()
            value += one.detach()
            right += self.objective.right(seen, part)
        sum_gradients(self.learned, self.world)
        if training.clip > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.learned, training.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.objective.after_step()
        self._average()
        self.sums += torch.stack([value * len(rows), right, value.new_tensor(len(rows))]).double() * (
            torch.tensor([1.0, 1.0, 1.0 / self.world.size], device=self.device)
        )
        now.step += 1
        if self.device.type == "cpu" or now.step % SYNC_EVERY == 0 or now.step == len(self.factors):
            self.seen = float(summed(value, self.world))
            if not math.isfinite(self.seen):
                raise TrainError(
                    f"the loss is {self.seen} at step {now.step} of {len(self.factors)}; lower lr ({training.lr})"
                )

    def _average(self) -> None:
        if self.average is None:
            return
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(new, 1 - self.training.ema)
            for mean, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
                mean.copy_(new)

    def _end_epoch(self, lr: float) -> None:
        now = self.now
        loss, right, rows = summed(self.sums.clone(), self.world).tolist()
        self.sums.zero_()
        now.sums = [0.0, 0.0, 0.0]
        scores = {
            "loss": loss / rows if rows else math.nan,
            "accuracy": right / rows if rows and self.objective.labels is not None else math.nan,
            "lr": lr,
        }
        judged = self.model if self.average is None else self.average
        if self.evaluate is not None:
            judged.eval()
            with torch.no_grad():
                found = self.evaluate(judged)
            scores |= found.scores
            now.predicted["last"] = dict(found.predicted)
        for name, score in scores.items():
            now.curves.setdefault(name, []).append(score)
        epoch = len(now.curves["loss"]) - 1
        for selection, curve in BEST.items():
            values = now.curves.get(curve)
            if values and not math.isnan(values[-1]) and values[-1] > max([-math.inf, *values[:-1]]):
                now.best[selection] = epoch
                now.predicted[selection] = now.predicted["last"]
                if selection in self.keep:
                    now.weights[selection] = {k: v.detach().cpu().clone() for k, v in judged.state_dict().items()}
        reached = self.teacher_score is not None and now.curves.get("acc_val", [-1.0])[-1] >= self.teacher_score
        if self.training.until == "teacher" and now.off_since is None and epoch and reached:
            now.off_since = epoch
