"""w2s-fast train: fit heads on cached features and report."""

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
    from w2s_fast.studies.experiment import Experiment

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@asks(*EVERY)
def train(
    asked: dict[str, Any],
    again: Annotated[
        Path | None, typer.Option(help="Run the experiments of this results file anew, with other options if given.")
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="With --again: that of this run_id alone, on its data, models and seed.")
    ] = None,
    explain: Explain = False,
    dry_run: DryRun = False,
    selection: Annotated[
        str, typer.Option(help="Which epoch the table shows: last, weak_val, oracle, test_best.")
    ] = "last",
    out: Annotated[Path, typer.Option(help="Results file (JSONL, appended), predictions beside it.")] = DEFAULT_OUT,
    save_heads: Annotated[Path | None, typer.Option(help="Also write every fitted head here.")] = None,
    launcher: Launcher = "local",
    units: Units = None,
    at_once: AtOnce = None,
    ray_address: RayAddress = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit methods over seeds on cached features, with their references, and print a table with 95 % intervals.

    Missing features are extracted first. Ctrl-C, or a data set that fails, keeps the rows of the fits that are done.
    What was asked is kept beside the rows: --again asks it anew.

    Example: w2s-fast train --method cpl kd+lp ce+lp --seeds 5 --data drawn:sketch
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.core.options import COMMAND_LINE
    from w2s_fast.studies.experiment import Experiment
    from w2s_fast.studies.study import Study

    say = Output(json=json, quiet=quiet)
    o.check_selection(selection)
    if row is not None and again is None:
        raise UsageError("--row names a run of a results file; add --again FILE")
    experiments = (
        [Experiment.of(asked, cache=cache, where=COMMAND_LINE)]
        if again is None
        else _reopened(again, row, asked, cache, say)
    )
    if told_only(say, experiments, explain=explain, dry_run=dry_run):
        return

    def show(results: Results) -> None:
        say.table(results.table(selection=selection))

    for experiment in experiments:
        if launched(
            say, experiment, launcher=launcher, units=units, at_once=at_once, address=ray_address, out=out, show=show
        ):
            continue
        run_study(
            Study.of(experiment),
            say=say,
            out=out,
            save_heads=save_heads,
            lines=lambda rows: rows,
            show=show,
            after=None if again is None else lambda results: _compare(say, again, results),
        )


def _reopened(again: Path, row: str | None, asked: dict[str, Any], cache: Path | None, say: Output) -> list[Experiment]:
    """The experiments of a results file, with what the command line says otherwise."""
    from w2s_fast.core.options import COMMAND_LINE
    from w2s_fast.studies.written import reopened

    found = reopened(again, row=row, cache=cache)
    for digest, one in found.items():
        if row is None and one.digest != digest:
            say.say(
                f"experiment {digest[:12]} asks another question by now ({one.digest[:12]}): a file that it names "
                "(a loss of one's own, class names) or w2s-fast itself has changed since"
            )
    return [one.amended(asked, where=COMMAND_LINE) if asked else one for one in found.values()]


def _compare(say: Output, again: Path, results: Results) -> None:
    """Say how many rows of the same runs give the numbers that they gave."""
    from w2s_fast.core.rows import read

    before = {(row.get("run_id"), row.get("selection")): row.get("acc_w2s") for row in read(again)}
    now = {(row.get("run_id"), row.get("selection")): row.get("acc_w2s") for row in results.rows}
    shared = [key for key in now if key in before]
    same = sum(before[key] == now[key] for key in shared)
    say.say(f"{same} of {len(shared)} rows of the same runs have the accuracy that they have in {again}")
    if others := len(now) - len(shared):
        say.say(f"{others} rows are of runs that {again} does not have: their question is another one by now")
