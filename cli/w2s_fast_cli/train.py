"""w2s-fast train: fit heads on cached features and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output
from w2s_fast_cli.running import DEFAULT_OUT, run_study

app = typer.Typer(pretty_exceptions_enable=False)


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
    teachers: o.Teachers = None,
    pool: o.Pool = False,
    supervision: Annotated[
        list[str] | None,
        typer.Option(help="Who teaches: weak, gt (a ceiling), csl, ... (w2s-fast supervisions); may repeat."),
    ] = None,
    split: Annotated[str, typer.Option(help="rotate, fixed or paper.")] = "rotate",
    epochs: Annotated[int | None, typer.Option(help="Passes over hold-train.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: the head's, 0.01).")] = None,
    precision: Annotated[str, typer.Option(help="fp32, tf32 (on CUDA), bf16 or fp64.")] = "fp32",
    device: o.Device = "auto",
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Read features from disk in every epoch (default: what fits)."),
    ] = None,
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

    Missing features are extracted first. Ctrl-C, or a data set that fails, keeps the rows of the fits that are done.

    Example: w2s-fast train --method cpl kd+lp ce+lp --seeds 5 --data drawn:sketch
    """
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.studies.study import Study

    say = Output(json=json, quiet=quiet)
    study = Study(
        data=tuple(data or ()),
        strong=tuple(strong or ()),
        weak=tuple(weak or ()),
        weak_seeds=weak_seeds,
        teachers=tuple(teachers or ()),
        pool=pool,
        root=root,
        identity=identity,
        class_names=class_names,
        templates=tuple(template or ()),
        drop_failed=drop_failed,
        cache=cache,
        stream=stream,
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
        "supervision": supervision or None,
        "references": not no_references,
        "precision": precision,
        "device": device,
        **grid,
    }
    o.check_selection(selection)
    run_study(
        study,
        arguments,
        say=say,
        out=out,
        save_heads=save_heads,
        lines=lambda rows: rows,
        show=lambda results: say.table(results.table(selection=selection)),
    )
