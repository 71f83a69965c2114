"""w2s-fast weak: train supervisors."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from w2s_fast.extract.options import ExtractOptions
from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import asks
from w2s_fast_cli.output import DONE_IN_PART, Output
from w2s_fast_cli.termination import asked_to_stop

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@asks(DataOptions, ExtractOptions, only=("data", "class_names", "root", "identity", "drop_repeats", "device"))
def weak(
    asked: dict[str, Any],
    model: Annotated[str, typer.Option(help="Architecture: timm:NAME, torchvision:NAME or drawn:cnn.")] = "drawn:cnn",
    name: Annotated[str | None, typer.Option(help="Name of the supervisor: weak:NAME (default: from --model).")] = None,
    seeds: Annotated[str, typer.Option(help="How many weak seeds (3 is 0..2), or a range such as 100-104.")] = "1",
    epochs: Annotated[int | None, typer.Option(help="Passes over D_train (default: the recipe's).")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step (default: the recipe's).")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: the recipe's).")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Start from an untrained network, not from its pretrained weights.")
    ] = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train weak supervisors on D_train's ground truth; afterwards they are `weak:NAME` for `extract` and `train`.

    Example: w2s-fast weak --data imagefolder:photos --model timm:resnet18.a1_in1k --name r18 --seeds 3
    """
    from w2s_fast.backbones import canonical
    from w2s_fast.core.options import COMMAND_LINE, read_options
    from w2s_fast.finetune.supervisors import train_supervisors
    from w2s_fast.methods.options import seed_numbers

    out = Output(json=json, quiet=quiet)
    read = read_options(asked, (DataOptions, ExtractOptions), where=COMMAND_LINE)
    chosen = read[DataOptions]
    failed = 0
    with (
        out.stoppable("supervisors that were trained are kept"),
        asked_to_stop() as stopped,  # inside: SIGTERM is to be saved for, not to interrupt
        out.progress("steps") as progress,
    ):
        for record in train_supervisors(
            chosen.names,
            model=canonical(model),
            name=name,
            seeds=seed_numbers(seeds),
            recipe={"epochs": epochs, "steps": steps, "batch_size": batch_size, "lr": lr},
            pretrained=not random_weights,
            class_names=chosen.class_names,
            root=chosen.root,
            identity=chosen.identity,
            drop_repeats=chosen.drop_repeats,
            device=read[ExtractOptions].device,
            cache=cache,
            stopped=stopped,
            on_progress=progress,
        ):
            unread = record.get("failures", 0)
            failed += unread
            if json:
                out.lines([record])
            elif record.get("status") == "stopped":
                out.say(f"{record['name']} on {record['data']} was stopped and saved; go on with: {record['command']}")
            else:
                out.say(
                    f"{record['name']} on {record['data']}: {record['acc_train']:.1%} on D_train "
                    f"({record['n_train']:,} images), {record['acc_pool']:.1%} on the pool, {record['seconds']:.0f} s"
                )
            if unread:
                out.say(f"{record['data']}: {unread} images of D_train could not be read and were left out")
    if failed:
        raise typer.Exit(DONE_IN_PART)
