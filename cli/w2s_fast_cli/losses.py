"""w2s-fast losses: what can be minimised."""

from __future__ import annotations

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def losses(json: o.Json = False) -> None:
    """List the losses with their parameters, defaults, equation and source.

    Example: w2s-fast losses
    """
    from w2s_fast import losses as family

    show("losses", family.describe(), json=json)
