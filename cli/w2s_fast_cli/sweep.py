"""w2s-fast sweep: a grid from a TOML file, shown before it runs and judged without ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.asking import EVERY, asks
from w2s_fast_cli.launching import AtOnce, Launcher, RayAddress, Units, launched
from w2s_fast_cli.output import Output
from w2s_fast_cli.running import DEFAULT_OUT, DryRun, Explain, run_study, told_only

if TYPE_CHECKING:
    from w2s_fast.results.results import Results

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@asks(*EVERY)
def sweep(
    asked: dict[str, Any],
    file: Annotated[
        Path,
        typer.Argument(help="TOML file: train's options as keys, lists in a table \\[settings] are axes; or: control."),
    ],
    explain: Explain = False,
    dry_run: DryRun = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Also show accuracy and PGR, which ground truth makes.")
    ] = False,
    selection: Annotated[str, typer.Option(help="last or weak_val; with --reveal also oracle, test_best.")] = "last",
    out: Annotated[Path, typer.Option(help="Results file (JSONL, appended): every row whole.")] = DEFAULT_OUT,
    save_heads: Annotated[Path | None, typer.Option(help="Also write every fitted head here.")] = None,
    launcher: Launcher = "local",
    units: Units = None,
    at_once: AtOnce = None,
    ray_address: RayAddress = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit the grid that a TOML file names, and show each configuration's weak agreement on hold-val.

    Ground truth is not shown without --reveal, on the terminal or by --json, so that nothing is tuned on it; rows in
    --out keep it, for report. Keys of the file are train's options (data, method, seeds, weak_seeds, ...); options that
    are given here win over them. The name control is the shipped grid of heads x losses x starts x scales x
    temperatures.

    Example: w2s-fast sweep grid.toml --dry-run
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.core.options import COMMAND_LINE
    from w2s_fast.core.rows import TRUTH_SELECTIONS, without_truth
    from w2s_fast.studies.study import Study
    from w2s_fast.studies.sweep import read_sweep

    say = Output(json=json, quiet=quiet)
    experiment = read_sweep(file, cache=cache)
    experiment = experiment.amended(asked, where=COMMAND_LINE) if asked else experiment
    o.check_selection(selection)
    if not reveal and selection in TRUTH_SELECTIONS:
        raise UsageError(f"--selection {selection} is made by ground truth; use last or weak_val, or add --reveal")
    if told_only(say, [experiment], explain=explain, dry_run=dry_run):
        return
    if not reveal and "gt" in experiment.fits.supervision:
        raise UsageError("supervision = 'gt' trains on ground truth, and nothing else can be shown of it; add --reveal")

    def show(results: Results) -> None:
        _show_agreement(say, results, selection)
        if reveal:
            say.table(results.table(selection=selection))

    if launched(
        say, experiment, launcher=launcher, units=units, at_once=at_once, address=ray_address, out=out, show=show
    ):
        return
    run_study(
        Study.of(experiment),
        say=say,
        out=out,
        save_heads=save_heads,
        lines=(lambda rows: rows) if reveal else without_truth,
        show=show,
    )


def _show_agreement(say: Output, results: Results, selection: str) -> None:
    from w2s_fast.core.rows import reads_truth
    from w2s_fast.studies.sweep import agreements

    unsorted = agreements(results.rows, selection=selection)
    found = sorted(unsorted, key=lambda one: 1.0 if one.mean is None else -one.mean)
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
    if len(found) > 1 and found[0].mean is not None:
        say.say(
            f"{found[0].method} agrees best with its labels, which rewards copying their errors: compare "
            "configurations of one loss (report --tune agreement), or tune on the ground truth of other seeds or "
            "domains (--tune seeds, --tune lodo)."
        )
    if len({row.get("supervision") for row in results.rows if not reads_truth(row)}) > 1:
        say.say(
            "Agreement is with the labels on hold-val that a configuration's own supervision gives, which need not be "
            "the weak model's: compare configurations of one supervision."
        )
