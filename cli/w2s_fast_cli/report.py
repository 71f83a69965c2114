"""w2s-fast report: tables and a picture from results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import READING, asks, data_options
from w2s_fast_cli.comparison import check_format, show_tables
from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.core.rows import Row
    from w2s_fast.results.results import Results
    from w2s_fast.results.summary import Group, Systems, Table

app = typer.Typer(pretty_exceptions_enable=False)
RECIPE = "recipe:"
TUNING = ("lodo", "seeds", "agreement")


@app.command()
@asks(DataOptions, only=READING)
def report(
    asked: dict[str, Any],
    results: Annotated[Path, typer.Argument(help="Results file (JSONL) that `train`, `sweep` or `recipe` wrote.")],
    selection: Annotated[
        str | None, typer.Option(help="last, weak_val, oracle or test_best [default: last, or that of --against].")
    ] = None,
    format: Annotated[str, typer.Option(help="rich, md, csv or latex.")] = "rich",
    layout: Annotated[
        str | None, typer.Option(help="blocks (a block per domain) or wide (systems x domains) [md, latex: wide].")
    ] = None,
    systems: Annotated[list[str] | None, typer.Option(help="Only these systems, in this order; globs.")] = None,
    columns: Annotated[list[str] | None, typer.Option(help="Only these columns: accuracy, pgr, ...; globs.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Also write the table's records to this Parquet file.")] = None,
    tune: Annotated[
        str | None,
        typer.Option(help="lodo, seeds: configurations by other domains' or seeds' hold-val; agreement: by no truth."),
    ] = None,
    against: Annotated[str | None, typer.Option(help="recipe:NAME: beside that recipe's paper numbers.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw to this file: .svg, or .pdf and .png.")] = None,
    kind: Annotated[str, typer.Option(help="What to draw: accuracy, pgr, gain, sensitivity or map.")] = "accuracy",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Options of the picture, e.g. x=lr y=tau_s.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained page, for a browser.")] = None,
    images: Annotated[int, typer.Option(help="Images in the page's gallery; 0 opens no data set.")] = 36,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Print the table of a results file, with PGR and 95 % intervals where the predictions were kept beside it.

    --tune lodo leaves one domain out: it reports every domain with the configuration that is best on the others, picked
    from equally many configurations per method; seeds does so with the other seeds of one data set. agreement picks by
    the weak labels of hold-val, which need no ground truth and reward copying the weak model.

    Example: w2s-fast report w2s_runs/results.jsonl --format md
    """
    from w2s_fast.core.errors import UsageError, nearest
    from w2s_fast.methods.resolve import unverified
    from w2s_fast.recipes.tables import by_group
    from w2s_fast.report import picture as drawing
    from w2s_fast.report import tables as writing
    from w2s_fast.report.frames import to_parquet
    from w2s_fast.report.layout import arranged, pages

    out = Output(json=json)
    recipe = None
    if against is not None:
        from w2s_fast.recipes.recipe import Recipe

        if not against.startswith(RECIPE):
            raise UsageError(f"--against {against!r}: write recipe:NAME (all: w2s-fast recipe ls)")
        recipe = Recipe.read(against.removeprefix(RECIPE))
    selection = selection or ("last" if recipe is None else recipe.selection)
    o.check_selection(selection)
    if tune not in (None, *TUNING):
        raise UsageError(f"unknown tuning {tune!r}{nearest(str(tune), TUNING)}")
    known = ("rich", "md", "csv") if against is not None else ("rich", "md", "csv", "latex")
    check_format(format, known)
    found = _load(results, out)
    rows, answers, notes = found.rows, by_group(found, selection=selection), ()
    if tune is not None:
        rows, answers, notes = _tuned(tune, rows, answers, selection=selection)
    doubtful = unverified(found.rows)
    if recipe is not None:
        if picture is not None or html is not None:
            raise UsageError("--picture and --html show a whole results file; leave out --against")
        from w2s_fast.recipes.tables import tables_against

        compared = tables_against(recipe, rows, answers, selection=selection, unverified=doubtful)
        show_tables(out, [_noted(table, notes) for table in compared], format=format)
        return
    if tune is None:
        table = found.table(selection=selection, unverified=doubtful)
    else:
        from w2s_fast.results.summary import group_names, group_of, summarise

        names = group_names(map(group_of, rows))
        kept = {names[group]: one for group, one in answers.items()}
        table = _noted(summarise(rows, kept, selection=selection, unverified=doubtful), notes)
    table = arranged(table, systems=systems or (), columns=columns or ())
    shown = pages(table, layout=layout or ("wide" if format in ("md", "latex") else "blocks"))
    writers = {"md": writing.to_markdown, "csv": writing.to_csv, "latex": writing.to_latex}
    if json:
        out.lines(table.records())
    elif format == "csv" and layout != "wide":
        print(writing.to_csv(table))
    else:
        for page in shown:
            out.table(page) if format == "rich" else print(writers[format](page))
    if parquet is not None:
        with o.writing(parquet, "--parquet"):
            to_parquet(table, parquet)
        out.say(f"parquet: {parquet}")
    if notes and (json or format == "csv"):
        for note in notes:
            out.say(note)
    if picture is not None:
        with o.writing(picture, "--picture"):
            if kind == "accuracy" and picture.suffix == ".svg":
                picture.write_text(drawing.to_svg(table), encoding="utf-8")
            else:
                shared = {"table": table} if kind in ("accuracy", "pgr") else {"selection": selection}
                found.picture(kind, picture, **shared, **o.settings(set_))
        out.say(f"picture: {picture}")
    if html is not None:
        from w2s_fast.report.page.opening import Opened, open_tasks
        from w2s_fast.report.page.results_page import results_page

        opened = Opened()
        if images:
            opened = open_tasks(found, selection=selection, **data_options(asked), cache=cache)
        for remark in opened.remarks:
            out.say(remark)
        page = results_page(
            found, title=f"Weak-to-strong results: {results.stem}", source=results.name, selection=selection,
            table=table, tasks=opened.tasks, diagnoses=opened.diagnoses, images=images, remarks=opened.remarks,
            command=f"w2s-fast report {results.name} --html {html.name}",
        )  # fmt: skip
        with o.writing(html, "--html"):
            html.write_text(page, encoding="utf-8")
        out.say(f"page: {html}")


def _load(path: Path, out: Output) -> Results:
    from w2s_fast.core.rows import read
    from w2s_fast.results.results import Results

    torn: list[str] = []
    predictions = path.parent / f"{path.name}.preds"
    if predictions.exists() or not path.is_file():  # also a folder of results, such as `.`
        found = Results.load(path, torn=torn)
    else:
        found = Results(rows=list(read(path, torn=torn)))
        out.say(f"there are no kept predictions in {predictions}: the table has no intervals")
    for remark in torn:
        out.say(remark)
    return found


def _tuned(
    how: str, rows: list[Row], systems: dict[Group, Systems], *, selection: str
) -> tuple[list[Row], dict[Group, Systems], tuple[str, ...]]:
    from w2s_fast.results.summary.tuning import leave_one_domain_out
    from w2s_fast.results.summary.tuning_within import by_agreement, leave_one_seed_out

    ways = {"lodo": leave_one_domain_out, "seeds": leave_one_seed_out, "agreement": by_agreement}
    tuned = ways[how](rows, systems, selection=selection)
    return tuned.rows, tuned.systems, tuned.notes


def _noted(table: Table, notes: tuple[str, ...]) -> Table:
    return replace(table, notes=(*notes, *table.notes))
