"""w2s-fast recipe: papers' tables, ours beside theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.asking import EVERY, asks
from w2s_fast_cli.output import Output
from w2s_fast_cli.running import DryRun, Explain, run_study, told_only

if TYPE_CHECKING:
    from w2s_fast.results.results import Results

app = typer.Typer(
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Papers' tables as recipes: list, show, run.\n\nExample: w2s-fast recipe run cpl_table1 --scale drawn",
)
NAME = typer.Argument(help="A recipe's name (w2s-fast recipe ls), or a TOML file of your own.")
Name = Annotated[str, NAME]
FITTED = ("method", "loss", "head", "supervision")
"""What a recipe itself says."""


@app.command("ls")
def list_recipes(json: o.Json = False) -> None:
    """List the recipes with source and scales.

    Example: w2s-fast recipe ls
    """
    from w2s_fast.recipes.recipe import Recipe, shipped
    from w2s_fast_cli.listing import show as listing

    records = [Recipe.read(name).record() for name in shipped()]
    listing("Recipes", records, json=json)


@app.command()
def show(name: Name, json: o.Json = False) -> None:
    """Print a recipe's file: source, command, the paper's numbers and slips, what to place where, expected cost.

    Example: w2s-fast recipe show cpl_table1
    """
    from w2s_fast.recipes.recipe import Recipe

    recipe = Recipe.read(name)
    if json:
        import tomllib

        Output(json=True).document(tomllib.loads(recipe.text))
    else:
        print(recipe.text.rstrip())


@app.command()
@asks(*EVERY, but=(*FITTED, "data", "root", "strong", "weak", "teachers", "pool"))
def run(
    asked: dict[str, Any],
    name: Name,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of the real data; recipe show NAME says what lies where.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="drawn: the miniature on embedded data, offline; full needs --data-root.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this column of the table alone; may repeat.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Results file (JSONL, appended) [default: w2s_runs/NAME.jsonl, or NAME-drawn].")
    ] = None,
    format: Annotated[str, typer.Option(help="rich, md or csv.")] = "rich",
    selection: Annotated[
        str | None, typer.Option(help="last, weak_val, oracle or test_best [default: the paper's].")
    ] = None,
    explain: Explain = False,
    dry_run: DryRun = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run a recipe and print our numbers with 95 % intervals beside the paper's.

    Options that are given win over the recipe's, as --seeds 2. Rows and predictions are kept as train keeps them, so
    report reads them. What the cache holds is not extracted again; supervisors of the recipe that are missing are
    trained first. Ctrl-C keeps the rows of finished fits.

    Example: w2s-fast recipe run cpl_table1 --scale drawn
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.core.options import COMMAND_LINE
    from w2s_fast.recipes.places import under
    from w2s_fast.recipes.recipe import SCALES, Recipe
    from w2s_fast.recipes.run import RecipeRun
    from w2s_fast_cli.comparison import check_format, show_tables

    recipe = Recipe.read(name)
    if data_root is None and scale is None:
        raise UsageError(
            f"say on what {recipe.name} runs: --data-root DIR for the real data "
            f"({under(recipe.place, Path('DIR'))}), or --scale drawn for the miniature on the embedded data, offline"
        )
    chosen = scale or "full"
    if chosen not in SCALES:
        recipe.scale(chosen)
    if chosen == "drawn" and data_root is not None:
        raise UsageError("--scale drawn runs on embedded data; give it, or --data-root, not both")
    check_format(format)
    if selection is not None:
        o.check_selection(selection)
    say = Output(json=json, quiet=quiet)
    planned = RecipeRun.of(
        recipe,
        scale=chosen,
        root=data_root,
        only=tuple(only or ()),
        changes=asked,
        cache=cache,
        where=COMMAND_LINE,
    )
    if told_only(say, [planned.experiment], explain=explain, dry_run=dry_run):
        return
    file = out or Path("w2s_runs") / f"{recipe.name}{'-drawn' if chosen == 'drawn' else ''}.jsonl"

    def shown(results: Results) -> None:
        show_tables(say, planned.tables(results, selection=selection), format=format)

    run_study(planned, say=say, out=file, save_heads=None, lines=lambda rows: rows, show=shown)
