"""w2s-fast finetune: whole networks, weak teacher to strong student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast.extract.options import ExtractOptions
from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import asks
from w2s_fast_cli.output import DONE_IN_PART, Output
from w2s_fast_cli.termination import asked_to_stop

if TYPE_CHECKING:
    from w2s_fast.results.results import Results

app = typer.Typer(
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    invoke_without_command=True,
    help="Train whole networks under a weak teacher.\n\nExample: w2s-fast finetune run adaptconf_table2b --scale drawn",
)
OUT = Path("w2s_runs") / "networks.jsonl"
Selection = Annotated[str, typer.Option(help="Which epoch the table shows: last, weak_val, oracle, test_best.")]
Seeds = Annotated[str | None, typer.Option(help="How many seeds (3 is 0..2), or a range such as 100-104.")]
Bank = Annotated[
    int, typer.Option(help="Views of each image whose teacher logits are computed once for all runs; 0: along.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the training, as in --set augment='rrc, flip'.")
]


@app.callback()
@asks(DataOptions, ExtractOptions, only=("class_names", "root", "identity", "device"))
def finetune(
    asked: dict[str, Any],
    context: typer.Context,
    data: Annotated[str, typer.Option("--data", help="The data set.")] = "drawn:sketch",
    student: Annotated[str, typer.Option(help="The network to train: cifar:NAME, timm:NAME, drawn:cnn ...")] = "",
    teacher: Annotated[
        str, typer.Option(help="The weak network: weak:NAME, drawn:cnn, or a classifier.")
    ] = "drawn:cnn",
    loss: Annotated[list[str] | None, typer.Option("--loss", help="Losses and distillers of features.")] = None,
    gt: Annotated[float, typer.Option(help="Weight of the cross-entropy to ground truth; 0 is label-free.")] = 0.0,
    seeds: Seeds = None,
    protocol: Annotated[str, typer.Option(help="pool: images that the teacher never saw; official: D_train.")] = "pool",
    until: Annotated[str, typer.Option(help="end, or teacher: hear it until the student is as good.")] = "end",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 0.05,
    set: Set = None,
    teacher_bank: Bank = 0,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Start from an untrained network.")] = False,
    selection: Selection = "last",
    out: Annotated[Path, typer.Option(help="Results file (JSONL, appended); states of runs beside it.")] = OUT,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train whole networks under a weak teacher, and their ceiling, over seeds; print a table with 95 % intervals.

    SIGTERM and Ctrl-C keep what is done; the same command goes on, or says what there is.

    Example: w2s-fast finetune --data drawn:sketch --student cifar:resnet8x4 --loss adapt_conf kd --seeds 3
    """
    if context.invoked_subcommand is not None:
        return
    from w2s_fast.core.errors import UsageError
    from w2s_fast.finetune.training import Training, known_fields
    from w2s_fast.methods.networks import NetworkMethod, NetworkStudy
    from w2s_fast.methods.options import seed_numbers

    if not student:
        raise UsageError("--student is missing; name the network to train, as in --student cifar:resnet8x4")
    o.check_selection(selection)
    given: dict[str, Any] = {
        **{"augment": "crop(pad=0), flip", "schedule": "cosine(warmup=0.1)", "until": until},
        **{"epochs": epochs, "batch_size": batch_size, "lr": lr},
        **o.settings(set),
    }
    for key in given:
        if key not in known_fields():
            raise UsageError(f"--set {key}: a training has {', '.join(known_fields())}")
    study = NetworkStudy(
        data=data,
        student=student,
        teacher=teacher,
        methods=[NetworkMethod(loss=one, gt=gt) for one in loss or ["adapt_conf"]],
        training=Training(**given),
        seeds=seed_numbers(seeds or "1"),
        protocol=protocol,
        bank=teacher_bank,
        pretrained=not random_weights,
        cache=cache,
        folder=out.with_suffix(".states"),
        **{key: value for key, value in asked.items() if value is not None},
    )
    say = Output(json=json, quiet=quiet)

    def show(results: Results) -> None:
        say.table(results.table(selection=selection))

    with say.stoppable("states of runs are kept"), asked_to_stop() as stopped, say.progress("steps") as progress:
        results = study.run(say=say.say, on_progress=progress, stopped=stopped)
    _keep(say, out, results, stopped(), show)


@app.command("ls")
def list_recipes(json: o.Json = False) -> None:
    """List the recipes of whole networks.

    Example: w2s-fast finetune ls
    """
    from w2s_fast.recipes.networks import NetworkRecipe, shipped
    from w2s_fast_cli.listing import show as listing

    listing("Recipes of whole networks", [NetworkRecipe.read(name).record() for name in shipped()], json=json)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A recipe's name (w2s-fast finetune ls), or a TOML file of your own.")],
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of the real data.")] = None,
    scale: Annotated[str | None, typer.Option(help="full, drawn or fashion.")] = None,
    seeds: Seeds = None,
    teacher_bank: Bank = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    selection: Selection = "last",
    out: Annotated[Path | None, typer.Option(help="Results file [default: w2s_runs/NAME-SCALE.jsonl].")] = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run a paper's table of whole networks and print ours beside it; teachers are trained first.

    Example: w2s-fast finetune run adaptconf_table2b --scale drawn
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.methods.options import seed_numbers
    from w2s_fast.recipes.networks import NetworkRecipe
    from w2s_fast_cli.comparison import show_tables

    o.check_selection(selection)
    recipe = NetworkRecipe.read(name)
    if scale is None and data_root is None:
        raise UsageError(
            f"say on what {recipe.name} runs: --data-root DIR for the real data, or --scale "
            f"{' or '.join(one for one in recipe.table['scales'] if one != 'full')}"
        )
    chosen = scale or "full"
    place = out or Path("w2s_runs") / f"{recipe.name}-{chosen}.jsonl"
    say = Output(json=json, quiet=quiet)
    more: dict[str, Any] = {
        **({} if seeds is None else {"seeds": seed_numbers(seeds)}),
        **{"bank": teacher_bank, "device": device, "cache": cache, "folder": place.with_suffix(".states")},
    }
    total: Results | None = None
    with say.stoppable("states of runs are kept"), asked_to_stop() as stopped, say.progress("steps") as progress:
        for results in recipe.run(chosen, root=data_root, say=say.say, on_progress=progress, stopped=stopped, **more):
            total = results if total is None else total + results

    def show(results: Results) -> None:
        show_tables(say, [recipe.compared(results, chosen, selection=selection)])

    if total is not None:
        _keep(say, place, total, stopped(), show)


def _keep(say: Output, out: Path, results: Results, stopped: bool, show: Any) -> None:
    """Write the rows, show them, and say where a run that was stopped goes on."""
    if not results.rows:
        say.say("stopped before the first run was done; the same command goes on")
        return
    written = results.save(out)
    if say.json:
        say.lines(written)
    elif not stopped:
        show(results)
    say.say(f"{len(written)} rows are in {out}")
    if stopped:
        say.say("stopped and saved; the same command goes on")
    elif results.unfinished:
        raise typer.Exit(DONE_IN_PART)
