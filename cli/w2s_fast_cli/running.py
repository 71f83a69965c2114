"""A study on the command line: fits task by task, keeps what is done, says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import DONE_IN_PART, Output

if TYPE_CHECKING:
    from w2s_fast.core.rows import Row
    from w2s_fast.results.results import Results
    from w2s_fast.studies.experiment import Experiment

DEFAULT_OUT = Path("w2s_runs") / "results.jsonl"


Explain = Annotated[
    bool, typer.Option("--explain", help="Print what is asked as a file for sweep, names resolved; do no more.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show groups, memory and estimated seconds; do no more.")]


class Fitted(Protocol):
    """A `Study`, or what is fitted like one."""

    @property
    def experiment(self) -> Experiment: ...

    def fit(
        self,
        *,
        say: Callable[[str], None],
        on_progress: Callable[[str, int, int], None],
        on_final: Callable[[Results], object],
    ) -> Iterator[Results]: ...


def told_only(say: Output, experiments: Iterable[Experiment], *, explain: bool, dry_run: bool) -> bool:
    """Whether experiments were to be shown alone, and so were."""
    from w2s_fast.studies.written import to_json, to_toml
    from w2s_fast_cli.outlining import show_outline

    for experiment in experiments if explain or dry_run else ():
        if explain:
            print(to_json(experiment) if say.json else to_toml(experiment), end="")
        if dry_run:
            show_outline(say, experiment)
    return explain or dry_run


def run_study(
    study: Fitted,
    *,
    say: Output,
    out: Path,
    save_heads: Path | None,
    lines: Callable[[list[Row]], Iterable[Mapping[str, Any]]],
    show: Callable[[Results], None],
    after: Callable[[Results], None] | None = None,
) -> None:
    """Fit and append rows to `out` as runs end; `lines` of them go to stdout under --json, else `show` gets them all.

    The experiment is kept beside the rows. Ctrl-C, SIGTERM and a task that fails keep the rows of finished fits: exit
    status 3. So does a run that diverged. Rows that were written survive any other end too.
    """
    from w2s_fast.core.errors import W2SError
    from w2s_fast.core.rows import check_results
    from w2s_fast.studies.study import save_every_head
    from w2s_fast.studies.written import keep

    check_results(out)
    o.check_file(out, "--out")
    if save_heads is not None:
        o.check_folder(save_heads, "--save-heads")
    total: Results | None = None
    failed: W2SError | None = None

    def kept() -> str:
        if total is None:
            return "nothing was fitted; extracted parts are kept"
        done = list(dict.fromkeys(str(row.get("data")) for row in total.rows))
        told = f"rows and predictions of {', '.join(done)} are in {out}"
        if total.unfinished:
            told += f", but for {total.unfinished} fits of {done[-1]} that were cut short; the same command fits them"
        return told

    written: list[Row] = []
    headed: set[str] = set()

    def save(results: Results) -> list[Row]:
        """Write what is not written yet of some results."""
        if not written:
            keep(study.experiment, out)
        saved = results.save(out, written=written)
        written.extend(saved)
        if save_heads is not None:
            new = tuple(one for one in results.fits if one.run_id() not in headed)
            save_every_head(replace(results, fits=new), save_heads)
            headed.update(one.run_id() for one in new)
        return saved

    with say.stoppable(kept), say.progress("items") as progress:
        try:
            for results in study.fit(say=say.say, on_progress=progress, on_final=save):
                saved = save(results)
                total = results if total is None else total + results
                if say.json:
                    say.lines(lines(saved))
        except W2SError as error:
            failed = error
    if failed is not None and total is None:
        raise failed
    if total is not None and not say.json:
        show(total)
    if total is not None and after is not None:
        after(total)
    say.say(kept())
    if failed is not None:
        failed.exit_status = DONE_IN_PART
        raise failed
    if total is not None and any(r.get("status") != "ok" for r in total.rows):
        say.say("some runs diverged: their rows have status 'diverged'; lower --lr")
        raise typer.Exit(DONE_IN_PART)
