"""w2s-fast heads: how parameters become class weights."""

from __future__ import annotations

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def heads(json: o.Json = False) -> None:
    """List the heads with their parameters and defaults.

    Example: w2s-fast heads
    """
    from w2s_fast import heads as family

    show("heads", family.describe(), json=json)
