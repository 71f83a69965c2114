"""Options of commands from the fields of an experiment: declared once there, with one name, one type and one help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from w2s_fast.core.options import Key, keys_of
from w2s_fast.core.settings import Settings
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.tasks.options import DataOptions, ModelOptions

PANELS: dict[type[Any], str] = {
    FitOptions: "Fits",
    Settings: "Fits",
    DataOptions: "Data",
    ModelOptions: "Models",
    ComputeOptions: "Computing",
    ExtractOptions: "Extraction",
}
"""Where an option stands in help: under the first of these that declares its name, in this order."""
EVERY = tuple(PANELS)
READING = ("root", "identity", "class_names")
"""Options that say how one data set is read."""
WORDS: dict[type[Any], Any] = {bool: bool, int: int, float: float, str: str, Path: Path}


def asks(
    *owners: type[Any],
    only: Collection[str] | None = None,
    but: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these dataclasses; it is called with `asked`: those that were given, by name.

    only, but: names of options. flags: names that this command spells otherwise. An option of `Settings` is found
    under `settings`, where `--set key=value` is too. A command with a parameter `context` gets typer's.
    """
    keys = {
        name: found[0]
        for name, found in keys_of(*(owner for owner in PANELS if owner in owners)).items()
        if (only is None or name in only) and name not in but
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signed = inspect.signature(command, eval_str=True).parameters.values()
        knows_context = any(one.name == "context" for one in signed)
        own = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signed if one.name not in ("asked", "context")
        ]
        shared = [_parameter(key, (flags or {}).get(key.name)) for key in keys.values()]

        def called(context: typer.Context, **given: Any) -> None:
            values = {name: given.pop(_python_name(name)) for name in keys}
            said = {
                name: value
                for name, value in values.items()
                if getattr(context.get_parameter_source(_python_name(name)), "name", "") == "COMMANDLINE"
            }
            given |= {"context": context} if knows_context else {}
            command(asked=_with_settings(said, keys), **given)

        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *shared, *own]
        called.__doc__, called.__name__ = command.__doc__, command.__name__
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate


def data_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of one data set that were given, checked, as `open_task` and `open_manifest` take them."""
    from w2s_fast.core.options import COMMAND_LINE, read_options

    read = read_options(asked, (DataOptions,), where=COMMAND_LINE)[DataOptions]
    return {key.field: getattr(read, key.field) for name in asked for key in keys_of(DataOptions)[name]}


def _with_settings(said: dict[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The options with all settings in one table."""
    from w2s_fast_cli.options import settings

    own = {name: said.pop(name) for name in list(said) if keys[name].owner is Settings}
    assigned = settings(said.pop("settings", None))
    return {**said, "settings": {**own, **assigned}} if own or assigned else said


def _python_name(name: str) -> str:
    """The parameter of an option: names of Python's own get a line."""
    return f"{name}_" if name in ("compile", "settings") else name


def _parameter(key: Key, flag: str | None) -> inspect.Parameter:
    """An option as Typer reads it from a signature."""
    kind, default = _kind(key), key.default
    spelled = flag or key.option.flag or f"--{key.name.replace('_', '-')}"
    if kind == bool | None or kind is bool:
        spelled = spelled if "/" in spelled or default is False else f"{spelled}/--no-{key.name.replace('_', '-')}"
    elif key.several and key.name != "seeds":
        default = [str(one) for one in default] or None
    elif key.name == "seeds":
        default = str(len(default))
    elif isinstance(default, dict):
        default = None
    told = typer.Option(spelled, help=key.option.help, rich_help_panel=PANELS[key.owner])
    return inspect.Parameter(
        _python_name(key.name), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, told]
    )


def _kind(key: Key) -> Any:
    """The type of an option on a command line: several values are a list, seeds and settings are text."""
    if key.name == "seeds":
        return str
    if key.several or key.name == "settings":
        return list[str] | None
    kinds = get_args(key.kind) if get_origin(key.kind) is Union else (key.kind,)
    kind = bool if bool in kinds else WORDS.get(kinds[0], str)
    return kind if key.default is not None else kind | None
