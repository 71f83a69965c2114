"""w2s-fast train: fit heads on cached features and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import DONE_IN_PART, Output

if TYPE_CHECKING:
    from w2s_fast.methods.results import Results

app = typer.Typer(pretty_exceptions_enable=False)

DEFAULT_OUT = Path("w2s_runs") / "results.jsonl"


@app.command()
def train(
    method: Annotated[
        list[str] | None, typer.Option(help="cpl kd+lp ce+lp aux+lp adapt+lp ...; several at once.")
    ] = None,
    loss: Annotated[list[str] | None, typer.Option(help="ce, kd(tau_w=2), cpl, or my.py:mine; may repeat.")] = None,
    head: Annotated[list[str] | None, typer.Option(help="linear, prototype(init='text'); may repeat.")] = None,
    seeds: Annotated[str, typer.Option(help="How many run seeds (5 is 0..4), or a range such as 100-104.")] = "1",
    data: o.Data = None,
    weak: o.Weak = None,
    strong: o.Strong = None,
    weak_seeds: Annotated[int | None, typer.Option(help="Cross the seeds with so many supervisors.")] = None,
    supervision: Annotated[str, typer.Option(help="weak, or gt (a ceiling).")] = "weak",
    split: Annotated[str, typer.Option(help="rotate, fixed or paper.")] = "rotate",
    epochs: Annotated[int | None, typer.Option(help="Passes over hold-train.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: the head's, 0.01).")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or fp64.")] = "fp32",
    device: o.Device = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: key=value; a list is a grid.")] = None,
    selection: Annotated[
        str, typer.Option(help="Which epoch the table shows: last, weak_val, oracle, test_best.")
    ] = "last",
    no_references: Annotated[bool, typer.Option("--no-references", help="Skip the ceilings.")] = False,
    root: o.Root = None,
    identity: o.Identity = "content",
    class_names: o.ClassNames = None,
    template: o.Template = None,
    drop_failed: Annotated[
        bool, typer.Option("--drop-failed", help="Leave out images that could not be read.")
    ] = False,
    random_weights: o.RandomWeights = False,
    allow_mismatch: o.AllowMismatch = False,
    compute: o.Compute = o.ComputeIn.fp32,
    stored: o.Stored = o.StoredIn.f16,
    out: Annotated[Path, typer.Option(help="Results file (JSONL, appended), predictions beside it.")] = DEFAULT_OUT,
    save_heads: Annotated[Path | None, typer.Option(help="Also write every fitted head here.")] = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit methods over seeds on cached features, with their references, and print a table with 95 % intervals.

    Missing features are extracted first. Ctrl-C, or a data set that fails, keeps the rows of those that are done.

    Example: w2s-fast train --method cpl kd+lp ce+lp --seeds 5 --data drawn:sketch
    """
    from w2s_fast.core.errors import W2SError
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.methods.study import Study, save_every_head

    say = Output(json=json, quiet=quiet)
    study = Study(
        data=tuple(data or ()),
        strong=tuple(strong or ()),
        weak=tuple(weak or ()),
        weak_seeds=weak_seeds,
        root=root,
        identity=identity,
        class_names=class_names,
        templates=tuple(template or ()),
        drop_failed=drop_failed,
        cache=cache,
        options=ExtractOptions(
            compute=compute.value,
            stored=stored.value,
            random_weights=random_weights,
            allow_mismatch=allow_mismatch,
            device=device,
        ),
    )
    grid = {"epochs": epochs, "batch_size": batch_size, "lr": lr, **o.settings(set_)}
    arguments = {
        "method": method,
        "loss": loss,
        "head": head,
        "seeds": o.seed_list(seeds),
        "split": split,
        "supervision": supervision,
        "references": not no_references,
        "precision": precision,
        "device": device,
        **grid,
    }
    o.check_selection(selection)
    study.check(**arguments)
    o.check_file(out, "--out")
    if save_heads is not None:
        o.check_folder(save_heads, "--save-heads")
    total: Results | None = None
    failed: W2SError | None = None

    def kept() -> str:
        if total is None:
            return "nothing was fitted; extracted parts are kept"
        done = ", ".join(dict.fromkeys(str(row.get("data")) for row in total.rows))
        return f"rows and predictions of {done} are in {out}"

    with say.stoppable(kept), say.progress("fits") as progress:
        try:
            for results in study.fit(say=say.say, on_progress=progress, **arguments):
                written = results.save(out)
                total = results if total is None else total + results
                if json:
                    say.lines(written)
                if save_heads is not None:
                    save_every_head(results, save_heads)
        except W2SError as error:
            failed = error
    if failed is not None and total is None:
        raise failed
    if total is not None and not json:
        say.table(total.table(selection=selection))
    say.say(kept())
    if failed is not None:
        failed.exit_status = DONE_IN_PART
        raise failed
    if total is not None and any(r.get("status") != "ok" for r in total.rows):
        say.say("some runs diverged: their rows have status 'diverged'; lower --lr")
        raise typer.Exit(DONE_IN_PART)
