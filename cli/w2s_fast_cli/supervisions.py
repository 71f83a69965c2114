"""w2s-fast supervisions: who can teach."""

from __future__ import annotations

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.listing import show

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def supervisions(json: o.Json = False) -> None:
    """List the supervisions with their parameters, defaults, equation and source.

    Example: w2s-fast supervisions
    """
    from w2s_fast import supervisions

    show("supervisions", supervisions.describe(), json=json)
