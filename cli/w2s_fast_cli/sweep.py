"""w2s-fast sweep: a grid from a TOML file, shown before it runs and judged without ground truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output
from w2s_fast_cli.running import DEFAULT_OUT, run_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from w2s_fast.results.results import Results
    from w2s_fast.studies.dry_run import Group

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def sweep(
    file: Annotated[
        Path,
        typer.Argument(help="TOML file: train's options as keys, lists in a table \\[settings] are axes; or: control."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show groups, memory and estimated seconds; do no more.")
    ] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Also show accuracy and PGR, which ground truth makes.")
    ] = False,
    selection: Annotated[str, typer.Option(help="last or weak_val; with --reveal also oracle, test_best.")] = "last",
    out: Annotated[Path, typer.Option(help="Results file (JSONL, appended): every row whole.")] = DEFAULT_OUT,
    save_heads: Annotated[Path | None, typer.Option(help="Also write every fitted head here.")] = None,
    device: o.Device = "auto",
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit the grid that a TOML file names, and show each configuration's weak agreement on hold-val.

    Ground truth is not shown without --reveal, on the terminal or by --json, so that nothing is tuned on it; rows in
    --out keep it, for report. Keys: method, loss, head, seeds (a count or a list), data, weak, strong, weak_seeds,
    teachers, pool, split, supervision, precision, references, root, class_names, template and more, as train's options.
    The name control is the shipped grid of heads x losses x starts x scales x temperatures.

    Example: w2s-fast sweep grid.toml --dry-run
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.core.rows import TRUTH_SELECTIONS, without_truth
    from w2s_fast.studies.dry_run import Group, Missing
    from w2s_fast.studies.dry_run import dry_run as outlined
    from w2s_fast.studies.sweep import Sweep

    say = Output(json=json, quiet=quiet)
    asked = Sweep.read(file)
    o.check_selection(selection)
    if not reveal and selection in TRUTH_SELECTIONS:
        raise UsageError(f"--selection {selection} is made by ground truth; use last or weak_val, or add --reveal")
    if not reveal and "gt" in asked.supervision and not dry_run:
        raise UsageError("supervision = 'gt' trains on ground truth, and nothing else can be shown of it; add --reveal")
    study, arguments = asked.study(cache=cache, device=device), asked.arguments(device=device)
    if dry_run:
        groups: list[Group] = []
        for one in outlined(study, **arguments):
            if isinstance(one, Group):
                groups.append(one)
            elif isinstance(one, Missing):
                say.say(f"not extracted yet: {one.model} on {one.data}; sweep will do it, or: {one.command}")
            if json:
                say.lines([{"kind": type(one).__name__.lower(), **asdict(one)}])
        _show_groups(say, groups)
        return

    def show(results: Results) -> None:
        _show_agreement(say, results, selection)
        if reveal:
            say.table(results.table(selection=selection))

    run_study(
        study,
        arguments,
        say=say,
        out=out,
        save_heads=save_heads,
        lines=(lambda rows: rows) if reveal else without_truth,
        show=show,
    )


def _show_groups(say: Output, groups: Sequence[Group]) -> None:
    from w2s_fast.studies.dry_run import totals
    from w2s_fast.train.memory import gib

    whole = totals(groups)
    if say.json:
        say.lines([{"kind": "total", **whole}])
        return
    columns = ["data", "head", "losses", "batch", "runs", "stacks x width", "memory", "seconds"]
    several = len({(g.strong, g.weak) for g in groups}) > 1
    rows = [
        [
            f"{g.data} {g.strong} {g.weak}" if several else g.data,
            g.head,
            ", ".join(f"{loss} x {count}" if count > 1 else loss for loss, count in g.losses.items()),
            g.batch_size or "all",
            g.runs,
            " + ".join(f"{count} x {width}" for width, count in sorted(Counter(g.widths).items(), reverse=True)),
            gib(g.bytes),
            f"{g.seconds:,.1f}",
        ]
        for g in groups
    ]
    rows.append(["all", "", "", "", whole["runs"], whole["stacks"], gib(whole["bytes"]), f"{whole['seconds']:,.1f}"])
    say.grid("", columns, rows)
    say.say("memory: a group's widest stack; seconds: estimated from rates measured just now, without any extraction")


def _show_agreement(say: Output, results: Results, selection: str) -> None:
    from w2s_fast.core.rows import reads_truth
    from w2s_fast.studies.sweep import agreements

    found = agreements(results.rows, selection=selection)
    pairs = len({(one.strong, one.weak) for one in found}) > 1
    rows = [
        [
            f"{one.method} ({one.strong}, {one.weak})" if pairs else one.method,
            "n/a"
            if one.mean is None
            else f"{100 * one.mean:.1f}" + ("" if one.sd is None else f" ±{100 * one.sd:.1f}"),
            one.runs,
            one.data_sets,
            one.diverged or "",
        ]
        for one in found
    ]
    title = f"Weak agreement on hold-val in % ({selection}), mean ± standard deviation over seeds and data sets"
    say.grid(title, ["configuration", "agreement", "runs", "data sets", "diverged"], rows)
    if len({row.get("supervision") for row in results.rows if not reads_truth(row)}) > 1:
        say.say(
            "Agreement is with the labels on hold-val that a configuration's own supervision gives, which need not be "
            "the weak model's: compare configurations of one supervision."
        )
