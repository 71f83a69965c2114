"""Experiments and extractions as units: on Ray, as a SLURM array, or a share of them here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast_cli.output import DONE_IN_PART, Output

if TYPE_CHECKING:
    from w2s_fast.results.results import Results
    from w2s_fast.studies.experiment import Experiment

LAUNCHERS = ("local", "ray", "slurm")
PANEL = "Many machines"
Launcher = Annotated[
    str,
    typer.Option(help="local, ray (units as tasks), or slurm (print a script for sbatch).", rich_help_panel=PANEL),
]
Units = Annotated[
    str | None,
    typer.Option(help="Fit share I/N of the tasks alone, into the folder --out: 0/8 to 7/8.", rich_help_panel=PANEL),
]
Parts = Annotated[
    str | None, typer.Option(help="Make share I/N of the parts alone: 0/8 to 7/8.", rich_help_panel=PANEL)
]
AtOnce = Annotated[
    int | None, typer.Option(help="Units at a time on this machine (default: its cores).", rich_help_panel=PANEL)
]
RayAddress = Annotated[
    str | None, typer.Option(help="A Ray cluster that is there: auto, or HOST:PORT.", rich_help_panel=PANEL)
]


def check_launcher(launcher: str) -> None:
    """Refuse an unknown launcher."""
    from w2s_fast.core.errors import UsageError, nearest

    if launcher not in LAUNCHERS:
        raise UsageError(f"unknown launcher {launcher!r}{nearest(launcher, LAUNCHERS)}")


def launched(
    say: Output,
    experiment: Experiment,
    *,
    launcher: str,
    units: str | None,
    at_once: int | None,
    address: str | None,
    out: Path,
    show: Callable[[Results], None],
) -> bool:
    """Whether an experiment was to be fitted as units, and so was; their results are the files of the folder `out`."""
    from w2s_fast.core.shares import ALL, Share
    from w2s_fast.launch.units import FIT, fit_units
    from w2s_fast.results.results import Results

    check_launcher(launcher)
    if launcher == "local" and units is None:
        return False
    folder = out.with_suffix("") if out.suffix == ".jsonl" else out
    share = ALL if units is None else Share.of(units)
    work = [unit for number, unit in enumerate(fit_units(experiment, folder)) if number in share]
    if launcher == "slurm":
        _print_array(len(work), "--units")
        return True
    records = _run(say, FIT, work, launcher=launcher, at_once=at_once, address=address, unit="tasks")
    say.say(f"rows and predictions of {len(records)} tasks are in {folder}")
    if say.json:
        say.lines(records)
    elif units is None:
        show(Results.load(folder))
    if any(record["diverged"] for record in records):
        say.say("some runs diverged: their rows have status 'diverged'; lower --lr")
        raise typer.Exit(DONE_IN_PART)
    return True


def extracted(
    say: Output,
    asked: Mapping[str, Any],
    *,
    launcher: str,
    parts: str | None,
    at_once: int | None,
    address: str | None,
    cache: Path | None,
) -> bool:
    """Whether parts of banks were to be made as units, and so were."""
    import os

    from w2s_fast.core.shares import Share
    from w2s_fast.launch.units import EXTRACT, extract_units

    check_launcher(launcher)
    if launcher == "local" and parts is None:
        return False
    count = at_once or os.cpu_count() or 1
    share = Share(index=0, count=count) if parts is None else Share.of(parts)
    units = extract_units(asked, share.count, cache=None if cache is None else cache)
    if launcher == "slurm":
        _print_array(share.count, "--parts")
        return True
    work = units if parts is None else [units[share.index]]
    records = _run(say, EXTRACT, work, launcher=launcher, at_once=at_once, address=address, unit="shares")
    made, failures = (sum(record[key] for record in records) for key in ("made_parts", "failures"))
    if say.json:
        say.lines(records)
    say.say(f"{made} parts made; banks that are whole: {len({b for record in records for b in record['banks']})}")
    if failures:
        raise typer.Exit(DONE_IN_PART)
    return True


def _run(
    say: Output,
    function: str,
    work: list[dict[str, Any]],
    *,
    launcher: str,
    at_once: int | None,
    address: str | None,
    unit: str,
) -> list[dict[str, Any]]:
    """What the units give, in this process or on Ray."""
    from w2s_fast.launch import ray
    from w2s_fast.launch.units import function_of

    with say.stoppable("units that are done are kept; the same command does the others"), say.progress(unit) as told:
        if launcher == "ray":
            found = ray.run(
                function, work, workers=at_once, address=address, on_done=lambda done, of: told("units", done, of)
            )
            return list(found)
        records: list[dict[str, Any]] = []
        for one in work:
            records.append(function_of(function)(one))
            told("units", len(records), len(work))
        return records


def _print_array(count: int, share: str) -> None:
    """The script for this very command without its launcher."""
    from w2s_fast.launch.slurm import array_script

    argv = ["w2s-fast", *sys.argv[1:]]
    for n, one in enumerate(argv):
        if one == "--launcher":
            del argv[n : n + 2]
            break
        if one.startswith("--launcher="):
            del argv[n]
            break
    print(array_script(argv, count, share=share), end="")
