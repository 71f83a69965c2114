"""Methods from what a user names: presets, losses x heads x supervisions, one's own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from w2s_fast import heads, losses, supervisions
from w2s_fast.core.errors import SpecError, UsageError, nearest
from w2s_fast.core.family import Family
from w2s_fast.core.fields import build
from w2s_fast.core.hashing import number_repeats
from w2s_fast.core.specs import Spec, parse
from w2s_fast.methods.method import GT, WEAK, Method
from w2s_fast.methods.presets import METHODS

GROUP = "w2s_fast.methods"
_FROM_FILE = re.compile(r".+\.py:\w+(\(.*\))?", re.S)
HEAD_ALIASES = {"linear": "lp", "prototype": "proto", "prompt": "tp"}


FAMILY: Family[Method] = Family(
    what="method", table=METHODS, group=GROUP, hint=" (or give your own: --loss L --head H)", error=UsageError
)
names, find = FAMILY.names, FAMILY.find


def describe() -> list[dict[str, Any]]:
    """Every method: name, head, loss, the settings it brings, equation, source.

    Verified, if its formula could be checked and so could its loss's.
    """
    return FAMILY.describe(_record)


def _record(name: str) -> dict[str, Any]:
    m = find(name)
    return {
        "method": m.name,
        "head": str(m.head),
        "loss": m.loss_name,
        "supervision": str(m.supervision),
        "settings": dict(m.settings),
        "equation": f"{m.loss_class.equation}; {heads.find(m.head.name).equation}",
        "source": m.source or supervisions.find(m.supervision.name).source,
        "verified": m.verified and m.loss_class.verified and supervisions.find(m.supervision.name).verified,
    }


def unverified(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Methods of result rows whose preset, loss or head has a formula that could not be checked against its source."""
    given = [dict(row) for row in rows]
    doubtful = {r["method"] for r in describe() if not r["verified"]} & {row.get("method") for row in given}
    keys = ("method", "loss", "head", "supervision")
    for name, loss, head, supervision in {tuple(str(r.get(key, "weak")) for key in keys) for r in given}:
        try:
            checked = (
                losses.find(parse(loss).name).verified
                and heads.find(parse(head).name).verified
                and supervisions.find(parse(supervision).name).verified
            )
        except SpecError:
            continue  # one's own function, or a package that is not installed here
        doubtful |= set() if checked else {name}
    return sorted(doubtful)


def resolve(
    method: str | Sequence[str] | None = None,
    loss: str | losses.Loss | Callable[..., Any] | Sequence[Any] | None = None,
    head: str | Sequence[str] | None = None,
    supervision: str | Spec | Sequence[str | Spec] | None = None,
) -> list[Method]:
    """Methods named by `method`, then every loss x head given; each under every supervision given, else its own.

    Grids are expanded, repetitions dropped. A loss without a head takes its own default head (`cpl`: the
    text-initialised prototype), else `linear`. Nothing named is a `UsageError`, and so is another supervision for a
    method that is named after its own.
    """
    found = [find(name) for name in _several(method)]
    for one in _several(loss):
        found.extend(_combine(one, _several(head)))
    if _several(head) and not _several(loss):
        raise UsageError(f"--head {_several(head)[0]} needs a loss: add --loss kd (all: w2s-fast losses)")
    if not found:
        raise UsageError("nothing to fit: give --method cpl kd+lp ... or --loss cpl (all: w2s-fast methods)")
    student = [variant for one in found for variant in _under(one, _several(supervision))]
    expanded = [variant.canonical() for one in student for variant in one.expand()]
    unique = {
        (m.name, str(m.head), m.loss if not isinstance(m.loss, Spec) else str(m.loss), m.supervision): m
        for m in expanded
    }
    return _distinct_names(list(unique.values()))


def _under(method: Method, given_supervisions: Sequence[str | Spec]) -> list[Method]:
    """The method under each supervision, named after it unless that is plain; as it is where none is given.

    Ground truth alone needs no telling: tables label it.
    """
    given = [point for one in given_supervisions for point in parse(one).expand()]
    for one in given:
        supervisions.find(one.name)
        if method.supervision not in (WEAK, one):
            raise UsageError(
                f"{method.name} has its own supervision {method.supervision}; for {one} give its head and its loss: "
                f"--loss '{method.loss_name}' --head '{method.head}'"
            )
    return [
        replace(method, supervision=one, name=method.name if one == WEAK or given == [GT] else f"{method.name}[{one}]")
        for one in given
    ] or [method]


def _combine(loss: Any, heads: list[Any]) -> list[Method]:
    if isinstance(loss, str) and _FROM_FILE.fullmatch(loss):
        return [method for one in from_file(loss) for method in _combine(one, heads)]
    if not isinstance(loss, str | Spec):
        name = getattr(loss, "__name__", type(loss).__name__)
        chosen = [parse(h) for h in heads] or [parse("linear")]
        return [Method(name=f"{name}+{short(h)}", head=h, loss=loss) for h in chosen]
    spec = parse(loss)
    if spec.name == "cpl":
        wrong = next((h for h in heads if parse(h).name != "prototype"), None)
        if wrong is not None:
            raise SpecError(f"cpl is a prototype method; for the same loss on another head: --loss kd --head {wrong}")
        return [replace(METHODS["cpl"], loss=spec, head=parse(h)) for h in heads] or [
            replace(METHODS["cpl"], loss=spec)
        ]
    default = losses.find(spec.name).default_head or "linear"
    chosen = [parse(h) for h in heads] or [parse(default)]
    return [Method(name=f"{spec.name}+{short(h)}", head=h, loss=spec) for h in chosen]


def from_file(text: str) -> list[Any]:
    """What `path/to/file.py:name` or `file.py:Name(parameter=value)` names: a function, or `Loss` objects.

    A list as a value is a grid: one object per point. The file is run, as any script of yours would be.
    """
    path, _, asked = text.partition(".py:")
    path, spec = f"{path}.py", parse(asked)
    found = _attribute(path, spec.name, where=f"--loss {text}")
    if isinstance(found, type) and issubclass(found, losses.Loss):
        return [losses.make(build(found, point, what="loss")) for point in spec.expand()]
    if not callable(found) and not isinstance(found, losses.Loss):
        raise UsageError(f"--loss {text}: {spec.name!r} in {path} is not a function but of type {type(found).__name__}")
    if spec.args:
        raise UsageError(
            f"--loss {text}: {spec.name!r} takes no parameters here; make it a dataclass, a w2s_fast.losses.Loss"
        )
    return [found]


def _attribute(path: str, name: str, *, where: str) -> Any:
    if not Path(path).is_file():
        raise UsageError(f"{where}: there is no file {path}")
    module_spec = spec_from_file_location(Path(path).stem, path)
    if module_spec is None or module_spec.loader is None:
        raise UsageError(f"{where}: {path} is not a Python file")
    module = module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of the user's own may raise
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"{where}: {path}{line} does not run ({type(error).__name__}: {reason})") from error
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{where}: {path} has no function {name!r}{nearest(name, known)}")
    return getattr(module, name)


def short(head: Spec) -> str:
    """The head as method names write it: lp, proto, or its own name."""
    return HEAD_ALIASES.get(head.name, head.name)


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _distinct_names(methods: list[Method]) -> list[Method]:
    """Variants of one name get their arguments into the name, so that no two rows share one."""
    names_given = [m.name for m in methods]
    told = [m.name if names_given.count(m.name) == 1 else f"{m.name}[{_told(m)}]" for m in methods]
    numbered = number_repeats(told)
    return [replace(m, name=name) for m, name in zip(methods, numbered, strict=True)]


def _told(method: Method) -> str:
    """What tells a method from others of its name."""
    plain = method.supervision in (WEAK, GT) or f"[{method.supervision}]" in method.name
    return f"{method.loss_name} @ {method.head}" + ("" if plain else f", {method.supervision}")
