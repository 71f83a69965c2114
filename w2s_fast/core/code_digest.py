"""A digest of a function's or an object's own code, so that an edited loss is another loss."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from w2s_fast.core.hashing import digest_bytes, digest_json

OURS = ("w2s_fast", "torch", "numpy", "builtins", "abc", "typing", "dataclasses", "functools", "collections")
"""Packages whose code has a version of its own; a digest names what it takes from them and reads no further."""
_SKIPPED = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__dataclass_fields__",
     "__dataclass_params__", "__match_args__", "__parameters__", "__orig_bases__", "__abstractmethods__", "_abc_impl",
     "__firstlineno__", "__static_attributes__"}
)  # fmt: skip


def code_digest(thing: Any) -> str:
    """12 hex digits over what a callable does: its code with the code inside it, constants, defaults, closure, and the
    functions, classes and plain values of its own module that it names; for an object also its class and its fields.

    Neither names, line numbers, comments nor the place of the file enter. Code of installed packages is named only.
    """
    return digest_json(_told(thing, {}))[:12]


Seen = dict[int, tuple[int, Any]]
"""id -> the number of what was met, and the thing itself, kept so that its id stays its own."""


def _told(value: Any, seen: Seen) -> Any:
    """A JSON value that says what `value` is; something met before is a number, so that circles end."""
    if value is None or isinstance(value, bool | int | str):
        return [type(value).__name__, value]
    if isinstance(value, float | complex | bytes):
        return [type(value).__name__, repr(value)]
    if isinstance(value, tuple):  # constants: whether equal ones are one object depends on how the file was compiled
        return ["tuple", [_told(one, seen) for one in value]]
    if isinstance(value, set | frozenset):
        return ["set", sorted(map(repr, value))]
    if isinstance(value, CodeType):
        return _code(value, seen, ())
    if id(value) in seen:
        return ["again", seen[id(value)][0]]
    seen[id(value)] = (len(seen), value)
    return _compound(value, seen)


def _code(code: CodeType, seen: Seen, without: tuple[str, ...]) -> Any:
    consts = [_told(c, seen) for c in code.co_consts if not (isinstance(c, str) and c in without)]
    return ["code", code.co_code.hex(), consts, list(code.co_names), code.co_argcount, code.co_kwonlyargcount]


def _compound(value: Any, seen: Seen) -> Any:
    if isinstance(value, FunctionType):
        return _function(value, seen)
    if isinstance(value, MethodType):
        return ["method", _told(value.__func__, seen), _told(value.__self__, seen)]
    if isinstance(value, functools.partial):
        return ["partial", *(_told(part, seen) for part in (value.func, list(value.args), value.keywords))]
    if isinstance(value, staticmethod | classmethod):
        return [type(value).__name__, _told(value.__func__, seen)]
    if isinstance(value, property):
        return ["property", *(_told(part, seen) for part in (value.fget, value.fset))]
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if isinstance(value, type):
        return _class(value, seen)
    if isinstance(value, Mapping):
        return ["mapping", [[_told(k, seen), _told(v, seen)] for k, v in value.items()]]
    if isinstance(value, list):
        return ["list", [_told(one, seen) for one in value]]
    return _object(value, seen)


def _function(function: FunctionType, seen: Seen) -> Any:
    if _foreign(function.__module__):
        return ["named", function.__module__, function.__qualname__]
    documented = (function.__doc__,) if function.__doc__ else ()
    cells = [_told(_content(cell), seen) for cell in function.__closure__ or ()]
    around = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    named = {name: _told(value, seen) for name, value in sorted(around.items())}
    defaults = [_told(function.__defaults__, seen), _told(function.__kwdefaults__, seen)]
    return ["function", _code(function.__code__, seen, documented), defaults, cells, named]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a cell that nothing was put into yet
        return None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


def _class(cls: type, seen: Seen) -> Any:
    if _foreign(cls.__module__):
        return ["named", cls.__module__, cls.__qualname__]
    own = {name: _told(value, seen) for name, value in sorted(vars(cls).items()) if name not in _SKIPPED}
    return ["class", own, [_told(base, seen) for base in cls.__bases__]]


def _object(value: Any, seen: Seen) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return ["array", str(value.dtype), list(value.shape), digest_bytes(value.tobytes())]
    held = {f.name: getattr(value, f.name, None) for f in fields(value)} if is_dataclass(value) else None
    held = getattr(value, "__dict__", None) if held is None else held
    if held is None:
        held = {"shown": re.sub(r" at 0x[0-9a-f]+", "", repr(value))}
    return ["object", _told(type(value), seen), {str(k): _told(v, seen) for k, v in sorted(held.items())}]


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in OURS
