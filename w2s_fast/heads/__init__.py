"""Heads: how parameters become class weights; saving, loading, exporting.

Listing names imports no torch; classes are loaded when a head is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2s_fast.core import plugins
from w2s_fast.core.errors import SpecError, UsageError, nearest
from w2s_fast.core.specs import Spec, parse

if TYPE_CHECKING:
    from w2s_fast.heads.files import export_classifier, load_head, save_head
    from w2s_fast.heads.head import Features, Head, Start, Theta

HEADS: dict[str, str] = {
    "linear": "w2s_fast.heads.linear:Linear",
    "prototype": "w2s_fast.heads.prototype:Prototype",
    "prompt": "w2s_fast.heads.prompt:Prompt",
    "adapter": "w2s_fast.heads.adapter:Adapter",
    "tip": "w2s_fast.heads.tip:Tip",
    "text_encoder": "w2s_fast.heads.text_encoder:TextEncoder",
}
GROUP = "w2s_fast.heads"

_EXPORTS = {
    "Features": "head",
    "Head": "head",
    "Start": "head",
    "Theta": "head",
    "export_classifier": "files",
    "load_head": "files",
    "save_head": "files",
}

__all__ = [
    "GROUP",
    "HEADS",
    "Features",
    "Head",
    "Start",
    "Theta",
    "describe",
    "export_classifier",
    "find",
    "load_head",
    "make",
    "names",
    "save_head",
]


def names() -> tuple[str, ...]:
    """Names of all heads, those of installed packages (entry-point group `w2s_fast.heads`) last."""
    return plugins.names(HEADS, GROUP)


def find(name: str) -> type[Head]:
    """The class behind a name; `SpecError` if unknown. One that gives itself no name gets this one."""
    try:
        cls: type[Head] = plugins.load(HEADS, GROUP, name)
    except KeyError:
        raise SpecError(f"no head {name!r}{nearest(name, names())}") from None
    cls.name = cls.name or name
    return cls


def make(head: str | Spec | Head) -> Head:
    """A head from `prototype(tau_s=.1)`, a spec or a `Head`; `SpecError` for unknown names, parameters and ranges."""
    from w2s_fast.core.fields import build, check
    from w2s_fast.heads.head import Head

    if isinstance(head, Head):
        return check(head, what="head")
    if not isinstance(head, str | Spec):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{head!r} is not a head: give a name such as 'linear', or a Head object")
    spec = parse(head)
    return build(find(spec.name), spec, what="head")


def describe() -> list[dict[str, Any]]:
    """One record per head for listings: name, parameters with defaults, equation, source; imports every head."""
    from w2s_fast.core.fields import parameters

    return [
        {
            "name": name,
            "about": (cls.__doc__ or "").strip().partition("\n")[0],
            "parameters": parameters(cls),
            "default_lr": cls.default_lr,
            "equation": cls.equation,
            "source": cls.source,
            "verified": cls.verified,
        }
        for name in names()
        for cls in [find(name)]
    ]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"w2s_fast.heads.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
