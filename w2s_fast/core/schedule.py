"""Learning-rate schedules of heads and whole networks: a linear warm-up, then constant, linear, cosine or steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import SpecError
from w2s_fast.core.family import Family
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import Spec


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """lr * s / w for steps s < w = ceil(warmup * steps), then lr * `decay`((s - w) / (steps - w))."""

    warmup: float = 0.1
    limits: ClassVar[Limits] = {"warmup": "[0, 1]"}

    def factor(self, step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        """The factor on lr at each step number s, 0 <= s < steps."""
        # without the margin, .07 * 100 is 7.000000000000001 and would warm up for eight steps
        w = math.ceil(self.warmup * steps - 1e-9)
        rising = step / max(w, 1)
        falling = self.decay((step - w) / max(steps - w, 1))
        return np.where(step < w, rising, falling)

    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError


class Linear(Schedule):
    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 - part


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """A fall to 0 over all steps; with `period` over so many steps, then up again and down, as torch has it.

    torch.optim.lr_scheduler.CosineAnnealingLR(T_max=period), stepped once a batch, goes on beyond T_max steps.
    """

    period: int = 0
    limits: ClassVar[Limits] = {**Schedule.limits, "period": "[0, inf)"}

    def factor(self, step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        if not self.period:
            return super().factor(step, steps)
        w = math.ceil(self.warmup * steps - 1e-9)
        return np.where(step < w, step / max(w, 1), self.decay((step - w) / self.period))

    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        return 0.5 * (1 + np.cos(np.pi * part))


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    warmup: float = 0.0

    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ones_like(part)


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """lr times `factor` at each of the parts of training that `at` lists, as in `steps(at='0.625, 0.75, 0.875')`.

    start: the factor that warm-up begins at.
    """

    warmup: float = 0.0
    at: str = "0.5, 0.75"
    drop: float = 0.1
    start: float = 0.0
    limits: ClassVar[Limits] = {**Schedule.limits, "drop": "(0, 1)", "start": "[0, 1]"}

    def factor(self, step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        w = math.ceil(self.warmup * steps - 1e-9)
        return np.where(step < w, self.start + (1 - self.start) * step / max(w, 1), self.decay(step / max(steps, 1)))

    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            parts = [float(one) for one in self.at.split(",")]
        except ValueError:
            raise SpecError(f"schedule steps: at={self.at!r} is no list of parts such as '0.5, 0.75'") from None
        # 150 / 240 is not exact in binary
        reached = np.stack([np.asarray(part) >= one - 1e-9 for one in parts])
        return np.power(self.drop, reached.sum(0))


@dataclass(frozen=True, kw_only=True)
class TimmCosine(Schedule):
    """timm's cosine without `warmup_prefix` (v0.6.12): the fall to `floor` counts from the first step, not from the end
    of warm-up, which rises from `start`. Factors on lr, all three."""

    start: float = 0.0
    floor: float = 0.0
    limits: ClassVar[Limits] = {**Schedule.limits, "start": "[0, 1]", "floor": "[0, 1]"}

    def factor(self, step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        w = math.ceil(self.warmup * steps - 1e-9)
        return np.where(step < w, self.start + (1 - self.start) * step / max(w, 1), self.decay(step / max(steps, 1)))

    def decay(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.floor + (1 - self.floor) * 0.5 * (1 + np.cos(np.pi * part))


SCHEDULES: dict[str, type[Schedule]] = {
    "linear": Linear,
    "cosine": Cosine,
    "constant": Constant,
    "steps": Steps,
    "timm_cosine": TimmCosine,
}


FAMILY: Family[type[Schedule]] = Family(what="schedule", table=SCHEDULES, group="w2s_fast.schedules", listed=())


def make_schedule(schedule: str | Spec | Schedule) -> Schedule:
    """A schedule from `cosine(warmup=.1)`; `SpecError` for unknown names and values out of range."""
    return schedule if isinstance(schedule, Schedule) else FAMILY.make(schedule)
