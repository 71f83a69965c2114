"""Spec strings: `name(arg=1, other='x')`, parsed by `ast.literal_eval`, never executed."""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from w2s_fast.core.errors import SpecError, nearest

Scalar = bool | int | float | str | None
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+\-]*")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A named thing with keyword arguments; a list as an argument is a grid axis.

    `str(spec)` is canonical: arguments sorted by name, Python literals, no spaces but after commas.
    """

    name: str
    args: dict[str, Scalar | list[Scalar]] = field(default_factory=dict[str, "Scalar | list[Scalar]"])

    def __str__(self) -> str:
        if not self.args:
            return self.name
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in sorted(self.args.items()))})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Spec) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def with_args(self, args: Mapping[str, Any]) -> Spec:
        """This spec with `args` added; given ones win."""
        return Spec(name=self.name, args={**self.args, **args})

    def expand(self) -> list[Spec]:
        """One spec per point of the grid that the list-valued arguments span, last axis fastest."""
        axes = [(k, v if isinstance(v, list) else [v]) for k, v in self.args.items()]
        return [
            Spec(name=self.name, args=dict(zip((k for k, _ in axes), point, strict=True)))
            for point in itertools.product(*(v for _, v in axes))
        ]


def parse(text: str | Spec) -> Spec:
    """Parse `kd(tau_w=1, tau_s=[.05, .1])`; positional arguments, nesting and names as values are errors."""
    return text if isinstance(text, Spec) else _parsed(text)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Spec:
    source = text.strip()
    head, bracket, tail = source.partition("(")
    if not _NAME.fullmatch(head.strip()):
        raise SpecError(f"{text!r} is not a spec: write name or name(arg=value, ...)")
    if not bracket:
        return Spec(name=head.strip())
    if not tail.endswith(")"):
        raise SpecError(f"{text!r}: the closing bracket is missing")
    try:
        call = ast.parse("f(" + tail, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else "it cannot be parsed"
        raise SpecError(f"{text!r} is not a spec: {why}; write name(arg=value, ...)") from None
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise SpecError(f"{text!r}: arguments are given by name, as in {head.strip()}(arg=value)")
    args: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in args:
            raise SpecError(f"{text!r}: every argument is named once")
        args[keyword.arg] = _literal(keyword.value, text, keyword.arg)
    return Spec(name=head.strip(), args=args)


def split_list(text: str) -> list[str]:
    """Split `kd, gce(q=.5), ce` at the commas outside brackets and quotes."""
    parts: list[str] = []
    depth, quote, start, escaped = 0, "", 0, False
    for i, c in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = c == "\\"
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [p.strip() for p in [*parts, text[start:]] if p.strip()]


def checked(spec: Spec, allowed: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """The arguments of `spec`, or a `SpecError` naming the unknown one and the nearest of `allowed`."""
    for key in spec.args:
        if key not in allowed:
            raise SpecError(f"{what} {spec.name!r} has no parameter {key!r}{nearest(key, allowed)}")
    return dict(spec.args)


def _literal(node: ast.expr, text: str, key: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise SpecError(f"{text!r}: {key} is not a literal number, string, True, False, None or list") from None
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(v is None or isinstance(v, bool | int | float | str) for v in values):
        raise SpecError(f"{text!r}: {key} is not a literal number, string, True, False, None or a flat list of them")
    if any(isinstance(v, float) and not math.isfinite(v) for v in values):
        raise SpecError(f"{text!r}: {key} is not finite; give a number that a result row can hold")
    return value
