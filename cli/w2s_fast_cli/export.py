"""w2s-fast export: a saved head as an open_clip zero-shot classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def export(
    head: Annotated[Path, typer.Argument(help="A saved head (.safetensors), from: w2s-fast train --save-heads DIR.")],
    out: Annotated[Path, typer.Option(help="Where the classifier goes (.safetensors, with a JSON card).")],
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write the matrix (width x classes) that open_clip's zero-shot code takes, with the class names beside it.

    Example: w2s-fast export heads/sketch-cpl-s0-w0-last.safetensors --out cpl.safetensors
    """
    from w2s_fast.heads import export_classifier, load_head

    loaded, theta, card = load_head(head)
    path = export_classifier(theta, loaded, out, names=card.get("classes", ()), card=card)
    say = Output(json=json, quiet=quiet)
    if json:
        say.lines([{"classifier": str(path), "classes": card.get("classes", ()), "unit_columns": loaded.unit_rows}])
    else:
        say.say(f"classifier: {path} (card: {path.with_suffix('.json')})")
