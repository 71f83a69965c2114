"""Families of named things: a table of "module:attribute" or of the things, and an entry-point group beside it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def _added(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # not above: help lists commands without it

    return {point.name: point for point in entry_points(group=group)}


def names(table: Mapping[str, Any], group: str) -> tuple[str, ...]:
    """The table's names in its order, then those that installed packages add to the group; imports none of them."""
    return (*table, *(name for name in sorted(_added(group)) if name not in table))


def load(table: Mapping[str, Any], group: str, name: str) -> Any:
    """The object that `name` stands for; the table wins over entry points; KeyError if neither has it."""
    if name in table:
        if not isinstance(table[name], str):
            return table[name]
        module, _, attribute = table[name].partition(":")
        return getattr(import_module(module), attribute)
    return _added(group)[name].load()
