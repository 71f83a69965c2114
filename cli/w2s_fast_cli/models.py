"""w2s-fast models: what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def models(
    pattern: Annotated[str | None, typer.Argument(help="Also list library models whose name holds this text.")] = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """List the embedded models, the supervisors trained here, and library models by a part of their name.

    Example: w2s-fast models resnet18
    """
    from w2s_fast.tasks.supervisors import known_models

    show("models", list(known_models(pattern, cache=cache)), json=json)
