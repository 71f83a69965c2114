"""Checks the fields of losses, heads, solvers and schedules where they are parsed.

Checks are not in `__post_init__`, so that a stack may hold tensors in the same fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

from w2s_fast.core.errors import SpecError
from w2s_fast.core.specs import Spec, checked

T = TypeVar("T")
Limits = Mapping[str, str | tuple[str, ...]]
"""Per field an interval such as `(0, inf)` or `[0, 1]`, or the strings that it may be."""

_INTERVAL = re.compile(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])")


def is_real(field: Field[Any]) -> bool:
    """Whether a dataclass field holds a real number, by its annotation or its default."""
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    return kind.startswith(("float", "Real")) or isinstance(field.default, float)


def build(cls: type[T], spec: Spec, *, what: str) -> T:
    """The object of `cls` that a spec without axes stands for; `SpecError` names what is unknown or out of range.

    Losses, heads, supervisions, solvers and schedules are frozen, so that equal specs give one and the same object.
    """
    return _built(cls, spec, what)


@lru_cache(maxsize=4096)
def _built(cls: type[T], spec: Spec, what: str) -> T:
    inside = {argument: name for name, argument in _arguments(cls).items()}
    options = {argument_of(cls, f.name): f.type for f in fields(cls) if f.init}  # type: ignore[arg-type]
    args = {inside.get(argument, argument): value for argument, value in checked(spec, options, what=what).items()}
    for name, value in args.items():
        if isinstance(value, list):
            raise SpecError(
                f"{what} {spec}: {argument_of(cls, name)} is a grid axis here; expand the spec first, or give one value"
            )
    missing = [
        f.name
        for f in fields(cls)  # type: ignore[arg-type]
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in args
    ]
    if missing:
        raise SpecError(f"{what} {spec.name!r} needs {missing[0]}: write {spec.name}({missing[0]}=...)")
    return check(cls(**args), what=what, name=spec.name)


def parameters(cls: type[Any]) -> dict[str, Any]:
    """What a spec may set, with the defaults; a field without one is `...`."""
    return {argument_of(cls, f.name): "..." if f.default is MISSING else f.default for f in fields(cls) if f.init}


def check(made: T, *, what: str, name: str | None = None) -> T:
    """`made` with integers in real fields turned to floats; `SpecError` if a value has a wrong type or range."""
    limits: Limits = getattr(made, "limits", {})
    label = name or type(made).__name__
    changed: dict[str, Any] = {}
    for field in fields(made):  # type: ignore[arg-type]
        value = getattr(made, field.name)
        real = is_real(field)
        if real and isinstance(value, int) and not isinstance(value, bool):
            changed[field.name] = value = float(value)
        _check_type(field, value, real=real, label=f"{what} {label!r}")
        limit, argument = limits.get(field.name), argument_of(type(made), field.name)
        if isinstance(limit, tuple) and value not in limit:
            raise SpecError(f"{what} {label!r}: {argument}={value!r} is none of {', '.join(map(repr, limit))}")
        if isinstance(limit, str) and isinstance(value, int | float) and not _inside(float(value), limit):
            raise SpecError(f"{what} {label!r}: {argument}={value!r} lies outside {limit}")
    return replace(made, **changed) if changed else made  # type: ignore[type-var]


def argument_of(cls: type[Any], name: str) -> str:
    """What a spec calls the field `name`: `init` for `init_from`, as heads have a method `init`."""
    return _arguments(cls).get(name, name)


def _arguments(cls: type[Any]) -> Mapping[str, str]:
    return getattr(cls, "arguments", {})


def _check_type(field: Field[Any], value: Any, *, real: bool, label: str) -> None:
    default = field.default
    optional = default is None or field.name == "tau_s"
    if value is None and optional:
        return
    if real:
        fits, kind = isinstance(value, float) and math.isfinite(value), "a finite number"
    elif isinstance(default, bool):
        fits, kind = isinstance(value, bool), "True or False"
    elif isinstance(default, int):
        fits, kind = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif isinstance(default, str):
        fits, kind = isinstance(value, str), "a string"
        if "float" in str(field.type):
            fits = fits or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
            kind = "a string or a finite number"
    else:
        return
    if not fits:
        raise SpecError(f"{label}: {field.name}={value!r} is not {kind}")


def _inside(value: float, interval: str) -> bool:
    match = _INTERVAL.fullmatch(interval)
    if match is None:
        raise ValueError(f"not an interval: {interval!r}")
    low, high = float(match[2]), float(match[3])
    above = value > low or (match[1] == "[" and value == low)
    below = value < high or (match[4] == "]" and value == high)
    return above and below
