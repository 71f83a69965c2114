"""w2s-fast report: tables and a picture from results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Results file (JSONL) that `train` or `demo` wrote.")],
    selection: Annotated[str, typer.Option(help="last, weak_val, oracle or test_best.")] = "last",
    format: Annotated[str, typer.Option(help="rich, md, csv or latex.")] = "rich",
    picture: Annotated[Path | None, typer.Option(help="Also draw accuracies and intervals to this SVG file.")] = None,
    json: o.Json = False,
) -> None:
    """Print the table of a results file, with PGR and 95 % intervals where the predictions were kept beside it.

    Example: w2s-fast report w2s_runs/results.jsonl --format md
    """
    from w2s_fast.core.errors import UsageError, nearest
    from w2s_fast.core.rows import read
    from w2s_fast.methods.results import Results
    from w2s_fast.report import picture as drawing
    from w2s_fast.report import tables

    out = Output(json=json)
    torn: list[str] = []
    predictions = results.with_name(f"{results.name}.preds")
    if predictions.exists() or not results.exists():
        found = Results.load(results, torn=torn)
    else:
        found = Results(rows=list(read(results, torn=torn)))
        out.say(f"there are no kept predictions in {predictions}: the table has no intervals")
    for remark in torn:
        out.say(remark)
    table = found.table(selection=selection)
    writers = {"md": tables.to_markdown, "csv": tables.to_csv, "latex": tables.to_latex}
    if json:
        out.lines(table.records())
    elif format == "rich":
        out.table(table)
    elif format in writers:
        print(writers[format](table))
    else:
        raise UsageError(f"unknown format {format!r}{nearest(format, ('rich', *writers))}")
    if picture is not None:
        with o.writing(picture, "--picture"):
            picture.write_text(drawing.to_svg(table), encoding="utf-8")
        out.say(f"picture: {picture}")
