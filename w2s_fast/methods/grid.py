"""The grids that lists of values span."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.fields import argument_of
from w2s_fast.core.settings import Settings
from w2s_fast.core.specs import Spec

HEAD_PARAMETERS = ("init", "init_norm", "x_scale", "unit_x", "tau0")
LOSS_PARAMETERS = ("tau_s", "tau_w")
"""Parameters of heads and losses that `fit(..., name=value)` passes on to every head or loss that has them."""

WHOLE = ("epochs", "batch_size")
SPECS = ("solver", "schedule")
"""Settings that are whole numbers, and those that are names with arguments."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a grid: settings, parameters for heads and losses, and `label`, the values of its true axes.

    `chosen` names the settings that were given: they win over those that a method brings.
    """

    settings: Settings
    of_head: dict[str, Any]
    of_loss: dict[str, Any]
    label: str
    chosen: frozenset[str] = frozenset()

    def settings_for(self, own: Mapping[str, Any]) -> Settings:
        """These settings with a method's `own` in place of those that were not given."""
        known = [f.name for f in fields(Settings)]
        for key in own:
            if key not in known:
                raise UsageError(f"a method's settings have an unknown key {key!r}{nearest(key, known)}")
        return replace(self.settings, **{key: value for key, value in own.items() if key not in self.chosen})


def grid_of(values: Mapping[str, Any]) -> list[Point]:
    """Every point of the grid that list values span; an unknown key is a `UsageError` with the nearest one."""
    known = [f.name for f in fields(Settings)]
    for key in values:
        if key not in known and key not in HEAD_PARAMETERS and key not in LOSS_PARAMETERS:
            every = (*known, *HEAD_PARAMETERS, *LOSS_PARAMETERS)
            raise UsageError(f"unknown setting {key!r}{nearest(key, every)}")
    given = {k: v for k, v in values.items() if v is not None}
    axes = [_axis(key, value) for key, value in given.items()]
    long = {k for k, axis in zip(given, axes, strict=True) if len(axis) > 1}
    points: list[Point] = []
    for values_here in itertools.product(*axes):
        chosen = dict(zip(given, values_here, strict=True))
        points.append(
            Point(
                settings=_typed({k: v for k, v in chosen.items() if k in known}),
                of_head={k: v for k, v in chosen.items() if k in HEAD_PARAMETERS},
                of_loss={k: v for k, v in chosen.items() if k in LOSS_PARAMETERS},
                label=", ".join(f"{k}={v}" for k, v in chosen.items() if k in long),
                chosen=frozenset(chosen),
            )
        )
    return points


def _axis(key: str, value: Any) -> list[Any]:
    """The values of one axis of the grid."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    axis = list(value) if isinstance(value, list | tuple | range) else [value]
    if not axis:
        raise UsageError(f"{key} is an empty list; give it a value, or leave it out")
    # a value that is given twice, or as 1 and as 1.0, is one value: its runs would be counted twice
    return [v for n, v in enumerate(axis) if not any(_same(v, other) for other in axis[:n])]


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _typed(values: dict[str, Any]) -> Settings:
    for key, value in values.items():
        if key in SPECS:
            if not isinstance(value, str | Spec):
                raise UsageError(f"{key} must be a name such as {getattr(Settings, key)!r}, not {value!r}")
            values[key] = str(value)
        elif isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise UsageError(f"{key} must be a {'whole ' if key in WHOLE else ''}number, not {value!r}")
        elif key not in WHOLE:
            values[key] = float(value)
        elif not math.isfinite(value) or int(value) != value:
            raise UsageError(f"{key} must be a whole number, not {value!r}")
        else:
            values[key] = int(value)
    return Settings(**values).checked()


def passed_on(spec: Spec, parameters: Mapping[str, Any], *, cls: type[Any]) -> Spec:
    """The spec with those of the parameters that its class has, and whose value it knows; they win over its own."""
    taken: dict[str, Any] = {}
    for f in fields(cls):
        argument = argument_of(cls, f.name)
        known = getattr(cls, "limits", {}).get(f.name)
        if argument in parameters and not (isinstance(known, tuple) and parameters[argument] not in known):
            taken[argument] = parameters[argument]
    return spec.with_args(taken)
