"""w2s-fast weak: train supervisors."""

from __future__ import annotations

from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import DONE_IN_PART, Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def weak(
    data: o.Data = None,
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
    class_names: o.ClassNames = None,
    root: o.Root = None,
    identity: o.Identity = "content",
    device: o.Device = "auto",
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train weak supervisors on D_train's ground truth; afterwards they are `weak:NAME` for `extract` and `train`.

    Example: w2s-fast weak --data imagefolder:photos --model timm:resnet18.a1_in1k --name r18 --seeds 3
    """
    from w2s_fast.finetune.supervisors import train_supervisors

    out = Output(json=json, quiet=quiet)
    failed = 0
    with out.stoppable("supervisors that were trained are kept"), out.progress("steps") as progress:
        for record in train_supervisors(
            data,
            model=model,
            name=name,
            seeds=o.seed_list(seeds),
            recipe={"epochs": epochs, "steps": steps, "batch_size": batch_size, "lr": lr},
            pretrained=not random_weights,
            class_names=class_names,
            root=root,
            identity=identity,
            device=device,
            cache=cache,
            on_progress=progress,
        ):
            unread = record.get("failures", 0)
            failed += unread
            if json:
                out.lines([record])
            else:
                out.say(
                    f"{record['name']} on {record['data']}: {record['acc_train']:.1%} on D_train "
                    f"({record['n_train']:,} images), {record['acc_pool']:.1%} on the pool, {record['seconds']:.0f} s"
                )
            if unread:
                out.say(f"{record['data']}: {unread} images of D_train could not be read and were left out")
    if failed:
        raise typer.Exit(DONE_IN_PART)
