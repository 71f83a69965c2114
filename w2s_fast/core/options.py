"""Options: dataclass fields that say what they mean, and the reading of them from a command line, a file or Python.

An option is declared once, as a field of a frozen dataclass: its type, its default and one line of help. Command lines
are built from these fields, and files and keyword arguments are read by them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from w2s_fast.core.errors import UsageError, nearest

COMMAND_LINE = "command line"
"""The `where` of values that were given as options of a command: messages then name the flag."""
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}


class Checked(Protocol):
    """A dataclass of options that can tell whether its values are in range."""

    def checked(self) -> Checked: ...


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a field says of itself.

    name: what a question calls it, if not as the field. flag: how a command line spells it, if not `--name`. panel:
    under which heading help shows it. read: a value as it is kept, such as a path made absolute; may raise
    `UsageError`. numbers: whether another value can give other numbers, so that it tells two questions apart.
    """

    help: str
    name: str | None = None
    flag: str | None = None
    read: Callable[[Any], Any] | None = None
    numbers: bool = True


@dataclass(frozen=True, kw_only=True)
class Key:
    """An option as a question names it: the field, the dataclass that it belongs to, its type without None."""

    name: str
    owner: type[Any]
    field: str
    kind: Any
    default: Any
    option: Option

    @property
    def several(self) -> bool:
        """Whether it holds several values."""
        return get_origin(self.kind) is tuple


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field with a default and one line of help; `more` are fields of `Option`."""
    metadata = {"option": Option(help=help, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict[str, Any], metadata=metadata)
    return field(default=default, metadata=metadata)


def keys_of(*owners: type[Any]) -> dict[str, list[Key]]:
    """Name -> the options of that name in the dataclasses: one name may stand for a field of each."""
    found: dict[str, list[Key]] = {}
    for owner in owners:
        hints = get_type_hints(owner)
        for one in fields(owner):
            if "option" in one.metadata:
                key = _key(owner, one, hints[one.name])
                found.setdefault(key.name, []).append(key)
    return found


def _key(owner: type[Any], one: Field[Any], kind: Any) -> Key:
    told: Option = one.metadata["option"]
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return Key(
        name=told.name or one.name, owner=owner, field=one.name, kind=_without_none(kind), default=default, option=told
    )


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    left = tuple(one for one in get_args(kind) if one is not NoneType)
    return left[0] if len(left) == 1 else Union[left]  # noqa: UP007 - made from a tuple


@dataclass(frozen=True, kw_only=True)
class Groups:
    """One object of each dataclass that was asked for."""

    made: Mapping[type[Any], Any]

    def __getitem__(self, owner: type[T]) -> T:
        return self.made[owner]


def read_options(values: Mapping[str, Any], owners: Sequence[type[Checked]], *, where: str = "") -> Groups:
    """One checked object of each dataclass from a flat mapping; None stands for the default.

    Raises `UsageError` that names `where` (a file, or `COMMAND_LINE`) and the key, for one that is unknown, of another
    type, or out of range.
    """
    known = keys_of(*owners)
    chosen: dict[type[Any], dict[str, Any]] = {owner: {} for owner in owners}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{_before(where)}unknown key {name!r}{nearest(name, known)}")
        if value is None:
            continue
        for key in known[name]:
            chosen[key.owner][key.field] = read_value(key, value, where=where)
    made: dict[type[Any], Checked] = {}
    for owner in owners:
        with at(where):
            made[owner] = owner(**chosen[owner]).checked()
    return Groups(made=made)


def read_value(key: Key, value: Any, *, where: str = "") -> Any:
    """A value as its field keeps it, or a `UsageError` for one of another type."""
    label = called(key.name, where)
    if key.option.read is not None:
        with at(where):
            value = key.option.read(value)
    if key.several:
        return _several(key, value, label)
    kinds = tuple(map(_plain, get_args(key.kind) if get_origin(key.kind) is Union else (key.kind,)))
    if any(_is(value, kind) for kind in kinds):
        return Path(value).expanduser() if Path in kinds else float(value) if kinds == (float,) else value
    words = " or ".join(WORDS.get(kind, "a table") for kind in kinds)
    raise UsageError(f"{label} must be {words}, not {value!r}")


def _plain(kind: Any) -> Any:
    """The class of a type: a choice of words is a string, a mapping of anything a mapping."""
    return str if get_origin(kind) is Literal else get_origin(kind) or kind


def _several(key: Key, value: Any, label: str) -> tuple[Any, ...]:
    kind = get_args(key.kind)[0]
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    if kind is not Any and not all(isinstance(one, kind) for one in given):
        raise UsageError(f"{label} must be a string or a list of strings, not {value!r}")
    return given


def _is(value: Any, kind: Any) -> bool:
    if kind is Path:
        return isinstance(value, str | Path)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def called(name: str, where: str = "") -> str:
    """A key as messages name it: `--weak-seeds` on a command line, `FILE: weak_seeds` in a file."""
    return f"--{name.replace('_', '-')}" if where == COMMAND_LINE else f"{_before(where)}{name}"


@contextmanager
def at(where: str, part: str = "") -> Generator[None, None, None]:
    """A `UsageError` raised inside names the file, and the part of it; on a command line messages name the flag."""
    try:
        yield
    except UsageError as error:
        place = f"{where}, {part}" if part and _before(where) else where
        raise type(error)(f"{_before(place)}{error}") from None


def _before(where: str) -> str:
    return f"{where}: " if where not in ("", COMMAND_LINE) else ""
