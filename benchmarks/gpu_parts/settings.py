"""What every stage is given, and what it may leave in a file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.heads_parts.recipe import LOSSES, Recipe
from benchmarks.heads_parts.worlds import CLIPART, CLIPART_768, REAL, Shape

TINY = Shape(case="tiny", n_train=600, n_val=150, n_test=200, k=12, d=32)
CASES = (CLIPART, CLIPART_768, REAL)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a stage runs, how large its tasks are, and until when.

    `into` is its place in the result, where it leaves what it has so far; `rates` is what the first stage measured.
    """

    device: str
    quick: bool
    cases: tuple[Shape, ...]
    losses: tuple[str, ...]
    counts: tuple[int, ...]
    precisions: tuple[str, ...]
    seeds: int
    repeats: int
    until: float
    into: dict[str, Any] = field(default_factory=dict[str, Any])
    rates: dict[str, float] | None = None

    @classmethod
    def of(
        cls, device: str, *, quick: bool, seconds: float, into: dict[str, Any], rates: dict[str, float] | None
    ) -> Settings:
        return cls(
            device=device,
            quick=quick,
            cases=(TINY,) if quick else CASES,
            losses=("KD", "CPL") if quick else ("KD", "CPL", "AuxConf", "AdaptConf", "CE"),
            counts=(1, 3) if quick else (64, 16, 128, 1),
            precisions=("fp32",) if device == "cpu" else ("bf16", "tf32", "fp32"),
            seeds=3 if quick else 32,
            repeats=2 if quick else 3,
            until=time.perf_counter() + seconds,
            into=into,
            rates=rates,
        )

    @property
    def left(self) -> float:
        """Seconds that the stage still has."""
        return self.until - time.perf_counter()

    def recipe(self, loss: str) -> Recipe:
        """The recipe of a loss as papers name it, shorter with `quick`."""
        one = LOSSES[loss]
        return replace(one, epochs=2, batch_size=128) if self.quick else one


def finite(value: Any) -> Any:
    """The same for a JSON file, where numbers that are not finite are null."""
    if isinstance(value, dict):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
