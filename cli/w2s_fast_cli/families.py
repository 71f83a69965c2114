"""w2s-fast losses, heads, supervisions, methods: what can be named, all of it or one of them in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show, show_one

Name = Annotated[str | None, typer.Argument(help="Show this one alone, with every parameter on a line.")]
NOT_IN_A_TABLE = ("meaning",)


def _listing(family: str, describe: Callable[[], list[dict[str, Any]]], name: str | None, *, json: bool) -> None:
    records = describe()
    if name is None:
        short = records if json else [{k: v for k, v in r.items() if k not in NOT_IN_A_TABLE} for r in records]
        return show(family, short, json=json)
    known: dict[str, Mapping[str, Any]] = {str(next(iter(r.values()))): r for r in records}
    if name not in known:
        from w2s_fast.core.errors import UsageError, nearest

        raise UsageError(f"{name!r} is none of the {family}{nearest(name, known)} (all: w2s-fast {family})")
    return show_one(name, known[name], json=json)


def _app(run: Callable[..., None]) -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    made.command()(run)
    return made


def _losses(name: Name = None, json: o.Json = False) -> None:
    """List the losses with their parameters, defaults, equation and source.

    Example: w2s-fast losses aux_conf
    """
    from w2s_fast import losses as family

    _listing("losses", family.describe, name, json=json)


def _heads(name: Name = None, json: o.Json = False) -> None:
    """List the heads: how parameters become class weights.

    Example: w2s-fast heads prototype
    """
    from w2s_fast import heads as family

    _listing("heads", family.describe, name, json=json)


def _supervisions(name: Name = None, json: o.Json = False) -> None:
    """List the supervisions: who teaches, with which labels, on which rows.

    Example: w2s-fast supervisions csl
    """
    from w2s_fast import supervisions as family

    _listing("supervisions", family.describe, name, json=json)


def _methods(name: Name = None, json: o.Json = False) -> None:
    """List the methods: which head and loss, under which supervision, from where.

    Example: w2s-fast methods openai+lp
    """
    from w2s_fast.methods.resolve import describe

    _listing("methods", describe, name, json=json)


losses, heads, supervisions, methods = map(_app, (_losses, _heads, _supervisions, _methods))
