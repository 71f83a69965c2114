"""Heads: how parameters become class weights; saving, loading, exporting.

Listing names imports no torch; classes are loaded when a head is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2s_fast.core.family import Family
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
    "FAMILY",
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


FAMILY: Family[type[Head]] = Family(
    what="head", table=HEADS, group=GROUP, listed=("equation", "source", "verified", "default_lr")
)
names, describe = FAMILY.names, FAMILY.describe


def find(name: str) -> type[Head]:
    """The class behind a name; `SpecError` if unknown. One that gives itself no name gets this one."""
    cls = FAMILY.find(name)
    cls.name = cls.name or name
    return cls


def make(head: str | Spec | Head) -> Head:
    """A head from `prototype(tau_s=.1)`, a spec or a `Head`; `SpecError` for unknown names, parameters and ranges."""
    from w2s_fast.heads.head import Head

    if isinstance(head, str | Spec):
        find(parse(head).name)
    return FAMILY.make(head, kind=Head)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"w2s_fast.heads.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
