"""w2s-fast methods: named heads and losses."""

from __future__ import annotations

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def methods(json: o.Json = False) -> None:
    """List the methods: which head, which loss, from where.

    Example: w2s-fast methods
    """
    from w2s_fast.methods.resolve import describe

    show("methods", describe(), json=json)
