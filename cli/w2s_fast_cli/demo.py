"""w2s-fast demo: the whole story, offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for rows, predictions, table and picture.")] = Path("w2s_runs/demo"),
    seeds: Annotated[int, typer.Option(help="Run seeds.", min=1)] = 5,
    data: Annotated[list[str] | None, typer.Option(help="Drawn domain; globs; may repeat.")] = None,
    no_live: Annotated[bool, typer.Option("--no-live", help="Skip training one supervisor live.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tell the whole story on the embedded data and encoders: extract, supervise, fit, compare. Needs no network.

    Example: w2s-fast demo
    """
    from w2s_fast.recipes import demo as story

    say = Output(json=json, quiet=quiet)
    started = time.perf_counter()
    o.check_folder(out, "--out")
    consequence = f"extracted parts are kept, and rows of the domains that were done are in {out}"
    if not no_live:
        with say.stoppable(consequence), say.progress("steps") as progress:
            for record in story.live_supervisor(cache=cache, on_progress=progress):
                say.say(
                    f"trained a weak supervisor on {record['data']}: {record['acc_pool']:.1%} on its pool; "
                    "the demo uses the five per domain that are shipped"
                )
    with say.stoppable(consequence), say.progress("items") as progress:
        told = story.run(
            out=out, seeds=seeds, data=tuple(data or ("drawn:*",)), cache=cache, say=say.say, on_progress=progress
        )
    if json:
        say.lines(told.results.rows)
    else:
        say.table(told.table)
        for sentence in told.said:
            print(f"* {sentence}")
    for what, path in told.files.items():
        say.say(f"{what}: {path}")
    say.say(f"done in {time.perf_counter() - started:.0f} s")
