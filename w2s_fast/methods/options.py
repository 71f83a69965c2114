"""What a question says of fits and of computing; importing this imports neither torch nor numpy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.options import option
from w2s_fast.core.paths import absolute_path
from w2s_fast.core.specs import Spec

FILE = re.compile(r"(.+\.py)(:\w+.*)", re.DOTALL)
"""A loss of one's own: the file, and what is in it."""


def seed_numbers(seeds: Any) -> tuple[int, ...]:
    """`5` or "5" as the seeds 0..4, "100-104" as those five, a sequence of seeds as it is, each once.

    Anything else, and what names no seed, is a `UsageError`.
    """
    if isinstance(seeds, str):
        return _in_words(seeds)
    given = range(int(seeds)) if isinstance(seeds, Integral) and not isinstance(seeds, bool) else seeds
    numbers: list[Any] = list(dict.fromkeys(given)) if isinstance(given, Iterable) else [None]
    if not all(isinstance(s, Integral) and int(s) >= 0 for s in numbers):
        raise UsageError(f"seeds={seeds!r}: give a count such as 5, or the seeds, such as [0, 1, 2]")
    if not numbers:
        raise UsageError("no seeds: give at least one (--seeds 1)")
    return tuple(int(s) for s in numbers)


def _in_words(text: str) -> tuple[int, ...]:
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last) + 1) if dash else range(int(text))
    except ValueError:
        raise UsageError(f"--seeds {text!r}: give a count (5) or a range (100-104)") from None
    if not seeds:
        raise UsageError(f"--seeds {text!r} names no seed: give a count from 1 (5) or a rising range (100-104)")
    return tuple(seeds)


def loss_names(value: Any) -> Any:
    """Losses as they are kept: specs as text, files of one's own by their absolute path, functions as they are."""

    def kept(one: Any) -> Any:
        own = FILE.fullmatch(one) if isinstance(one, str) else None
        return f"{absolute_path(own[1])}{own[2]}" if own is not None else str(one) if isinstance(one, Spec) else one

    return tuple(map(kept, value)) if isinstance(value, list | tuple) else kept(value)


def spec_names(value: Any) -> Any:
    """Specs as text."""
    if isinstance(value, list | tuple):
        return tuple(str(one) if isinstance(one, Spec) else one for one in value)
    return str(value) if isinstance(value, Spec) else value


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Which methods are fitted, over which seeds and settings.

    loss: names, `Loss` objects or functions. settings: fields of `Settings` and parameters of heads and losses; a list
    is an axis of the grid.
    """

    method: tuple[str, ...] = option((), "cpl kd+lp ce+lp aux+lp adapt+lp ...; several at once.")
    loss: tuple[Any, ...] = option((), "ce, kd(tau_w=2), cpl, or my.py:mine; may repeat.", read=loss_names)
    head: tuple[str, ...] = option((), "linear, prototype(init='text'); may repeat.", read=spec_names)
    supervision: tuple[str, ...] = option(
        (), "Who teaches: weak, gt (a ceiling), csl, ... (w2s-fast supervisions); may repeat.", read=spec_names
    )
    seeds: tuple[int, ...] = option(
        (0,), "How many run seeds (5 is 0..4), or a range such as 100-104.", read=seed_numbers
    )
    split: str = option("rotate", "rotate, fixed or paper.")
    references: bool = option(True, "Fit the ceilings too.")
    settings: Mapping[str, Any] = option({}, "Any setting: key=value; a list is a grid.", flag="--set")

    def checked(self) -> FitOptions:
        """Itself, or a `UsageError` for a value out of range; names of methods are resolved by `methods.plan`."""
        from w2s_fast.data.splits import MODES

        if self.split not in MODES:
            raise UsageError(f"unknown split {self.split!r}{nearest(self.split, MODES)}")
        return self

    def files(self) -> list[Path]:
        """Files of one's own that losses come from."""
        own = [FILE.fullmatch(one) for one in self.loss if isinstance(one, str)]
        return [Path(path) for path in dict.fromkeys(found[1] for found in own if found is not None)]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how fits are computed.

    `precision` and `stream` (whose window decides what is shuffled together) change numbers. `device`, `kernels` and
    `compile` change their rounding alone, and tell no question from another.
    """

    device: str = option("auto", "auto, cpu or cuda.", numbers=False)
    precision: str = option("fp32", "fp32, tf32 (on CUDA), bf16 or fp64.")
    stream: bool | int | None = option(
        None, "Read features from disk in every epoch (default: what fits).", flag="--stream/--no-stream"
    )
    kernels: str = option("auto", "auto, torch or triton (on CUDA).", numbers=False)
    compile: str = option("auto", "Compile losses on a CPU: auto, never or always.", numbers=False)

    def checked(self) -> ComputeOptions:
        """Itself, or a `UsageError` for a value out of range or a device that is not there."""
        from w2s_fast.backbones.device import pick_device
        from w2s_fast.train.engine import COMPILE, KERNELS, PRECISIONS

        pick_device(self.device)
        known = {"precision": tuple(PRECISIONS), "kernels": KERNELS, "compile": COMPILE}
        for name, choices in known.items():
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"unknown {name} {value!r}{nearest(value, choices)}")
        return self

    def of_engine(self) -> dict[str, Any]:
        """What `train.fit_heads` takes of it: all but how features are read."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stream"}
