"""A family of named things (losses, heads, supervisions, methods, solvers, schedules): one table, one way to find,
make and describe them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from w2s_fast.core import plugins
from w2s_fast.core.errors import SpecError, UsageError, W2SError, nearest
from w2s_fast.core.fields import build, check, parameters
from w2s_fast.core.specs import Spec, parse

T = TypeVar("T")
_PARAMETER = re.compile(r"(?m)^(\w+): (.+(?:\n(?!\w+: ).+)*)")


@dataclass(frozen=True, kw_only=True)
class Family(Generic[T]):
    """Named things of one kind T: classes whose fields are their parameters, or finished values.

    what: the kind, as messages call it.
    table: name -> the thing, or "module:attribute" of it, so that listing names imports nothing.
    group: the entry-point group in which installed packages add theirs; the table wins.
    listed: attributes of a class that its record shows beside name, purpose and parameters.
    hint: what the message for an unknown name adds.
    error: the kind of error for an unknown name.
    """

    what: str
    table: Mapping[str, Any]
    group: str
    listed: tuple[str, ...] = ("equation", "source", "verified")
    hint: str = ""
    error: type[W2SError] = SpecError

    def names(self) -> tuple[str, ...]:
        """The table's names in its order, then those of installed packages; imports none of them."""
        return plugins.names(self.table, self.group)

    def find(self, name: str) -> T:
        """What a name stands for; `error` with the nearest names if it is unknown."""
        try:
            return plugins.load(self.table, self.group, name)
        except KeyError:
            raise self.error(f"no {self.what} {name!r}{self.hint}{nearest(name, self.names())}") from None

    def make(self, asked: Any, *, kind: type[Any] = object) -> Any:
        """An object from `name(arg=1)`, a spec, or an object of class `kind`, which is checked as it is.

        Raises the family's error for an unknown name, `SpecError` for an unknown parameter or a value out of range.
        """
        if isinstance(asked, kind) and not isinstance(asked, str | Spec):
            return _whole(check(asked, what=self.what))
        if not isinstance(asked, str | Spec):
            raise UsageError(f"{asked!r} is not a {self.what}: give a name such as {self.names()[0]!r}, or an object")
        spec = parse(asked)
        return _whole(build(self.find(spec.name), spec, what=self.what))  # type: ignore[arg-type]

    def canonical(self, spec: Spec) -> Spec:
        """The spec without arguments that equal their defaults; as strict as `make`."""
        self.make(spec)
        defaults = parameters(self.find(spec.name))  # type: ignore[arg-type]
        return Spec(name=spec.name, args={k: v for k, v in spec.args.items() if defaults.get(k, ...) != v})

    def record(self, name: str) -> dict[str, Any]:
        """What a listing says of a class: what it is, parameters with defaults and meanings, equation, source."""
        cls: Any = self.find(name)
        return {
            "name": name,
            "about": (inspect.getdoc(cls) or "").partition("\n")[0],
            "parameters": parameters(cls),
            "meaning": meanings(cls),
            **{key: getattr(cls, key) for key in self.listed},
        }

    def describe(self, record: Callable[[str], dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """The record of every name, in the order of `names`; imports them all."""
        return [(record or self.record)(name) for name in self.names()]


def meanings(cls: type[Any]) -> dict[str, str]:
    """Parameter -> what it means, from the lines `name: meaning` in the docstrings of the class and of its bases."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        told |= {name: " ".join(meaning.split()) for name, meaning in _PARAMETER.findall(text)}
    return {name: told[name] for name in parameters(cls) if name in told}


def _whole(made: Any) -> Any:
    """`made` after the check of its own that looks at several fields together, if it has one."""
    own = getattr(made, "check", None)
    if own is not None:
        own()
    return made
