"""w2s-fast diagnose: what features, weak labels, students and data are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import READING, asks, data_options
from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.diagnose.diagnosis import Diagnosis
    from w2s_fast.diagnose.subject import Subject
    from w2s_fast.results.results import Results

app = typer.Typer(pretty_exceptions_enable=False)
Index = Annotated[str, typer.Option(help="How neighbours are searched: exact, flat, ivf, hnsw, gpu, or auto.")]
NoTruth = Annotated[bool, typer.Option("--no-truth", help="Run what reads no ground truth; no label is handed over.")]
FORMATS = ("rich", "md", "csv")


@app.command()
@asks(DataOptions, only=(*READING, "drop_failed"))
def diagnose(
    asked: dict[str, Any],
    names: Annotated[list[str] | None, typer.Argument(help="Diagnostics, e.g. purity 'duplicates(share=.2)'.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the diagnostics and end.")] = False,
    data: Annotated[str, typer.Option(help="Data set.")] = "drawn:sketch",
    strong: Annotated[str | None, typer.Option(help="Strong encoder (default: drawn:clip).")] = None,
    weak: Annotated[str | None, typer.Option(help="Weak supervisor (default: drawn:cnn).")] = None,
    space: Annotated[list[str] | None, typer.Option(help="Another encoder beside these; may repeat.")] = None,
    results: Annotated[Path | None, typer.Option(help="Results file whose kept predictions are the students.")] = None,
    head: Annotated[list[Path] | None, typer.Option(help="Saved head (--save-heads); may repeat.")] = None,
    seed: Annotated[int, typer.Option(help="Run seed: whose split, and whose supervisor.")] = 0,
    split: Annotated[str, typer.Option(help="rotate, fixed or paper.")] = "rotate",
    selection: Annotated[str, typer.Option(help="last, weak_val, oracle or test_best.")] = "last",
    no_truth: NoTruth = False,
    index: Index = "exact",
    format: Annotated[str, typer.Option(help="rich, md or csv.")] = "rich",
    rows: Annotated[int, typer.Option(help="Rows shown of each table (rich and md).")] = 20,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Answer why: neighbours, weak errors, what students corrected, calibration, prototypes, faults of the data.

    Without names, all diagnostics for which there is enough: students need --results or --head. Each table says
    whether it reads ground truth.

    Example: w2s-fast diagnose weak_errors duplicates --data drawn:sketch --no-truth
    """
    from w2s_fast.core.errors import UsageError, nearest
    from w2s_fast.diagnose import describe
    from w2s_fast.diagnose import diagnose as run

    out = Output(json=json, quiet=quiet)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}{nearest(format, FORMATS)}")
    if list_:
        known = describe()
        if json:
            out.document(known)
        else:
            shown = ([d["name"], d["about"], ", ".join(d["needs"])] for d in known)
            out.grid("", ["diagnostic", "question", "needs"], shown)
        return
    o.check_selection(selection)
    from w2s_fast.results.results import Results

    subject = open_subject(
        out, data=data, strong=strong, weak=weak, **data_options(asked),
        cache=cache, seed=seed, mode=split, truth=not no_truth, index=index,
        results=None if results is None else Results.load(results), heads=head or (), selection=selection,
        spaces=space or (),
    )  # fmt: skip
    found = run(subject, names or None)
    for one in ("searched", "searched_pool"):
        by = vars(subject).get(one)
        if by is not None and by.kind != "exact":
            estimates = ", ".join(f"{kind} {seconds:.2g} s" for kind, seconds in by.estimates.items())
            expected = f" (expected: {estimates})" if estimates else ""
            out.say(f"neighbours by {by.kind}: recall {by.recall:.4f} over {by.probed} queries{expected}")
    if json:
        out.document(
            [{"name": d.name, "title": d.title, "reads_truth": d.reads_truth, "source": d.source, "notes": d.notes,
              "rows": d.records()} for d in found]
        )  # fmt: skip
        return
    for one in found:
        if format == "csv":
            print(f"# {one.name}\n{one.to_csv()}")
        else:
            print_diagnosis(out, one, most=rows, markdown=format == "md")


def print_diagnosis(out: Output, one: Diagnosis, *, most: int, markdown: bool) -> None:
    """One table on stdout, its first `most` rows; what was cut is said."""
    from w2s_fast.diagnose.diagnosis import shown
    from w2s_fast.report.tables import markdown_text

    title = one.title + (" (reads ground truth)" if one.reads_truth else "")
    cells = [[shown(value) for value in row] for row in one.rows[:most]]
    if markdown:
        lines = [f"**{markdown_text(title)}**", "", *([] if not cells else _markdown(one.columns, cells))]
        print("\n".join(lines), end="\n\n")
    else:
        out.grid(title, list(one.columns), cells)
    for note in one.notes:
        print(f"  {note}")
    if len(one.rows) > most:
        print(f"  {len(one.rows) - most} more rows: --rows {len(one.rows)}, or --format csv")
    print()


def _markdown(columns: tuple[str, ...], cells: list[list[str]]) -> list[str]:
    from w2s_fast.report.tables import markdown_text

    rule = ["---"] * len(columns)
    return ["| " + " | ".join(map(markdown_text, line)) + " |" for line in (columns, rule, *cells)]


def open_subject(
    out: Output,
    *,
    data: str,
    strong: str | None,
    weak: str | None,
    cache: Path | None,
    index: str = "exact",
    results: Results | None = None,
    heads: Sequence[str | Path] = (),
    seed: int = 0,
    mode: str = "rotate",
    selection: str = "last",
    truth: bool = True,
    spaces: Sequence[str] = (),
    **where: Any,
) -> Subject:
    """Open the task of one data set and make it a subject; indexes are kept under the key of the features' bank."""
    from w2s_fast.backbones import DEFAULT_STRONG, DEFAULT_WEAK
    from w2s_fast.diagnose.index_files import folder_of
    from w2s_fast.report.subjects import subject_of
    from w2s_fast.tasks.opening import open_task

    with out.progress("images") as advance:
        task = open_task(
            data,
            strong=strong or DEFAULT_STRONG,
            weak=weak or DEFAULT_WEAK,
            cache=cache,
            say=out.say,
            on_progress=advance,
            **where,
        )
    return subject_of(
        task, results=results, heads=heads, seed=seed, mode=mode, selection=selection, truth=truth, spaces=spaces,
        index=index, beside=folder_of(str(task.keys["features"]), cache=cache),
    )  # fmt: skip
