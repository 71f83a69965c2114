"""What a fit returns: rows, kept predictions, curves, the fitted heads; comparisons with intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core import plugins
from w2s_fast.core import rows as files
from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.core.intervals import Interval
from w2s_fast.core.rows import Row
from w2s_fast.results import predictions
from w2s_fast.results.older import completed
from w2s_fast.results.predictions import Predictions
from w2s_fast.results.summary import BEST, Group, Systems, Table, group_names, group_of, summarise
from w2s_fast.results.summary.domain import Domain, domains
from w2s_fast.results.summary.page import REFERENCES
from w2s_fast.results.summary.systems import Kept, Run

if TYPE_CHECKING:
    from w2s_fast.results.outcome import Fitted, Outcome

# pictures stand above results: found by name, so that no arrow points up
DRAWN = {"picture": "w2s_fast.report.pictures:picture"}
PICTURES_GROUP = "w2s_fast.drawing"
CRITERION = {"last": "agree_val", "weak_val": "agree_val", "oracle": "acc_val", "test_best": "acc_test"}
"""By which curve `best` compares runs under a selection."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Rows of one or more fits; `+` joins. `kept` holds predictions per domain, `fits` the heads and curves.

    `unfinished` counts fits that were asked for and cut short, by Ctrl-C or an error.
    """

    rows: list[Row]
    kept: tuple[Predictions, ...] = ()
    fits: tuple[Outcome, ...] = ()
    unfinished: int = 0

    def __add__(self, other: Results) -> Results:
        """Both, with one row per run and selection: the later one's."""
        return Results(
            rows=_latest([*self.rows, *other.rows]),
            kept=_merged([*self.kept, *other.kept]),
            fits=(*self.fits, *other.fits),
            unfinished=self.unfinished + other.unfinished,
        )

    @property
    def predictions(self) -> Mapping[str, Predictions]:
        """Group name (the domain, with what tells groups of one domain apart) -> predictions of every system."""
        names = group_names(kept.group for kept in self.kept)
        return {names[kept.group]: kept for kept in self.kept}

    def systems(self, *, selection: str = "last") -> dict[str, Systems]:
        """Group name -> item numbers and correctness, as intervals need them: of each run, and of each line of the
        table that has every run."""
        kept = {one.group: one for one in self.kept}
        rows = completed([row for row in self.rows if row.get("selection") == selection], kept)
        found: dict[str, Systems] = {}
        for domain in domains(rows):
            one = kept.get(domain.group)
            if one is None:
                continue
            answers = one.answers(selection=selection)
            runs = [run for run in domain.runs if run[0] in one.rows]
            correct = {name: _all_of(ids, runs, answers) for name, ids in _lines(domain).items()}
            found[domain.name] = Systems(
                items=[one.rows[seed] for seed, _ in runs],
                correct={name: of for name, of in correct.items() if of is not None},
                seeds=[seed for seed, _ in runs],
                weak_seeds=[weak for _, weak in runs],
                answers=answers,
            )
        return found

    def table(self, *, selection: str = "last", unverified: Collection[str] | None = None) -> Table:
        """Accuracy and PGR per system and domain with 95 % intervals; `print` it, or render it with `report`.

        unverified: names of methods whose formula could not be checked; None takes the rows' word.
        """
        told = {str(row.get("method")) for row in self.rows if row.get("verified") is False}
        doubtful = sorted(told) if unverified is None else unverified
        rows = completed(self.rows, {one.group: one for one in self.kept})
        return summarise(rows, self.systems(selection=selection), selection=selection, unverified=doubtful)

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of the last epoch, or how many rows there are of another selection."""
        selections = dict.fromkeys(str(row.get("selection")) for row in self.rows)
        if not selections:
            return "no results"
        return self.table(selection="last" if "last" in selections else next(iter(selections)))._repr_html_()

    def picture(self, kind: str = "accuracy", path: str | Path | None = None, **options: Any) -> Any:
        """A matplotlib figure of these results, written to `path` too: `report.pictures.picture` says which kinds."""
        return plugins.load(DRAWN, PICTURES_GROUP, "picture")(self, kind, path, **options)

    def compare(self, a: str, b: str, *, selection: str = "last") -> dict[str, Interval]:
        """Group name -> the interval of accuracy(a) - accuracy(b) over the runs that both have (crossed bootstrap).

        Matched by seed, weak seed and item. `UsageError` for an unknown selection or name, or no run in common.
        """
        if selection not in CRITERION:
            raise UsageError(f"unknown selection {selection!r}{nearest(selection, CRITERION)}")
        kept = {one.group: one for one in self.kept}
        rows = completed([row for row in self.rows if row.get("selection") == selection], kept)
        systems = self.systems(selection=selection)
        out: dict[str, Interval] = {}
        for domain in domains(rows):
            if domain.name not in systems:
                continue
            of, lines = Kept(systems[domain.name]), _lines(domain)
            first, second = (_line_called(name, lines, domain) for name in (a, b))
            shared = tuple(
                run for run in of.systems.runs if all(_id(one, run) in of.systems.answers for one in (first, second))
            )
            if not shared:
                raise UsageError(
                    f"{domain.name}: {a!r} and {b!r} have no seed in common under {selection!r}; fit both on one"
                )
            resamples = of.resamples(shared)
            means = [
                resamples.means([of.systems.answers[str(_id(one, run))] for run in shared]) for one in (first, second)
            ]
            out[domain.name] = resamples.interval(means[0] - means[1])
        return out

    def curves(self) -> list[dict[str, Any]]:
        """One record per run and epoch: method, seed, weak_seed, epoch, and each curve's value (None for NaN)."""
        out: list[dict[str, Any]] = []
        for one in self.fits:
            for epoch in range(one.epochs + 1):
                record: dict[str, Any] = {
                    "method": one.method,
                    "seed": one.seed,
                    "weak_seed": one.weak_seed,
                    "supervision": one.supervision,
                    "epoch": epoch,
                }
                record |= {name: files.clean(float(curve[epoch])) for name, curve in one.curves.items()}
                out.append(record)
        return out

    def stopping(self) -> list[dict[str, Any]]:
        """What stopping early is worth: one record per run, from its curves.

        For each selection its epoch and its accuracy on the test (`epoch_oracle`, `acc_oracle`; None where the run has
        no such selection), and what it gains over the last epoch (`gain_oracle`, `gain_weak_val`, `gain_test_best`).
        A run that overfits the weak labels has a large `gain_oracle`; `gain_weak_val` is what can be had of it without
        ground truth.
        """
        out: list[dict[str, Any]] = []
        for one in self.fits:
            epochs, curve = one.selected_epoch, one.curves["acc_test"]
            found = {name: files.clean(float(curve[epochs[name]])) if name in epochs else None for name in CRITERION}
            record: dict[str, Any] = {
                "method": one.method,
                "seed": one.seed,
                "weak_seed": one.weak_seed,
                "supervision": one.supervision,
            }
            last = found["last"]
            for name, value in found.items():
                record |= {f"epoch_{name}": epochs.get(name), f"acc_{name}": value}
                if name != "last":
                    record[f"gain_{name}"] = None if value is None or last is None else value - last
            out.append(record)
        return out

    def best(self, selection: str = "weak_val", *, method: str | None = None) -> Fitted:
        """The run that does best on hold-val under `selection` (weak agreement, or truth for `oracle`), no ceilings.

        The result gives `to_torch()`, `save(path)` and `export(path)`.
        """
        if selection not in CRITERION:
            raise UsageError(f"unknown selection {selection!r}{nearest(selection, CRITERION)}")
        names = {one.method for one in self.fits if not one.ceiling}
        if method is not None and method not in names:
            raise UsageError(f"{method!r} was not fitted{nearest(method, names)}")
        found = [
            (one, one.fitted)
            for one in self.fits
            if not one.ceiling and one.fitted and selection in one.fitted.selections and method in (None, one.method)
        ]
        if not found:
            raise UsageError(f"no fitted head with selection {selection!r}; fit a method first")

        def merit(pair: tuple[Outcome, Fitted]) -> float:
            value = pair[0].at_selection(selection, CRITERION[selection])
            return -1.0 if value is None else value

        return max(found, key=merit)[1].under(selection)

    def save(
        self, path: str | Path, *, selections: Sequence[str] | None = None, written: Sequence[Row] = ()
    ) -> list[Row]:
        """Append the rows to a JSONL file and keep predictions in `<path>.preds/`; the rows as written, naming them.

        written: rows that an earlier call has put there, which are returned in their place and not written again.
        """
        target = Path(path)
        there = {_key(row): row for row in written}
        new = [row for row in self.rows if _key(row) not in there]
        if not new:
            return [there[_key(row)] for row in self.rows]
        chosen = list(selections or dict.fromkeys(r["selection"] for r in self.rows if "selection" in r))
        wanted = {(group_of(row), row.get("run_id")) for row in new}
        place: dict[tuple[Group, str], str] = {}
        for kept in self.kept:
            systems = [s for s in kept.systems if s.role == "reference" or (kept.group, s.run_id) in wanted]
            if not any(s.role != "reference" for s in systems):
                continue
            some = replace(kept, systems=tuple(systems))
            stem, index = predictions.save(some, target.with_name(f"{target.name}.preds"), chosen)
            place |= {(kept.group, run): f"{target.name}.preds/{stem}.npy#{i}" for run, i in index.items()}
        out: list[Row] = []
        for row in self.rows:
            kept_row = row.copy()
            kept_row["preds"] = place.get((group_of(row), row.get("run_id", "")))
            out.append(there.get(_key(row), kept_row))
        files.append(target, [row for row in out if _key(row) not in there])
        return out

    @staticmethod
    def load(path: str | Path, *, torn: list[str] | None = None) -> Results:
        """Rows of a JSONL file with the predictions that they name; later rows replace earlier ones of the same run.

        A folder that many writers filled stands for all its files.

        What cannot be read is told to `torn`: a torn line, and predictions that are gone, which cost their own rows'
        intervals. Without `torn` damaged predictions are a `DataError`.
        """
        target = Path(path)
        latest = _latest(files.read(target, torn=torn))
        inside = target / "rows" if target.is_dir() else target  # what lies beside it is in the folder
        kept: list[Predictions] = []
        for pointer in dict.fromkeys(str(row.get("preds")).rpartition("#")[0] for row in latest if row.get("preds")):
            try:
                kept.append(predictions.load(predictions.find(f"{pointer}#", inside)))
            except DataError as error:
                if torn is None:
                    raise
                torn.append(f"{error}; its rows have no intervals")
        return Results(rows=latest, kept=_merged(kept))


def _lines(domain: Domain) -> dict[str, dict[Run, str | None]]:
    """Line of the table -> run -> the id of its run."""
    found = {name: domain.reference(key, measure)[1] for name, key, measure in REFERENCES}
    found |= {system.label: system.ids() for system in domain.systems}
    return {**found, BEST: domain.reference("acc_ceiling_best", "ceiling_best")[1]}


def _id(ids: Mapping[Run, str | None], run: Run) -> str | None:
    return ids.get(run, ids.get((run[0], None)))


def _all_of(
    ids: Mapping[Run, str | None], runs: Sequence[Run], answers: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]] | None:
    """The answers of every run, or None where one is missing."""
    found = [answers.get(str(_id(ids, run))) for run in runs]
    return None if not found or any(one is None for one in found) else [one for one in found if one is not None]


def _line_called(name: str, lines: Mapping[str, dict[Run, str | None]], domain: Domain) -> dict[Run, str | None]:
    """The runs of a line by its label, or by its method where only one line is of that method."""
    if name in lines:
        return lines[name]
    alike = [system.label for system in domain.systems if system.method == name]
    if len(alike) > 1:
        raise UsageError(f"{domain.name}: {name!r} was fitted as {' and as '.join(map(repr, alike))}; say which")
    if not alike:
        known = [line for line, ids in lines.items() if ids]
        raise UsageError(f"{name!r} was not fitted in {domain.name}{nearest(name, known)}")
    return lines[alike[0]]


def _latest(rows: Iterable[Row]) -> list[Row]:
    """One row per run, selection and group: the last."""
    return list({_key(row): row for row in rows}.values())


def _key(row: Row) -> tuple[Any, ...]:
    return row.get("run_id"), row.get("selection"), group_of(row)


def _merged(kept: Sequence[Predictions]) -> tuple[Predictions, ...]:
    """One `Predictions` per group; of two runs with one id, and of two test sets of one seed, the later wins."""
    merged: dict[Group, Predictions] = {}
    for one in kept:
        before = merged.get(one.group)
        merged[one.group] = one if before is None else _later(before, one)
    return tuple(merged.values())


def _later(before: Predictions, after: Predictions) -> Predictions:
    replaced = {s for s in before.rows if s in after.rows and not np.array_equal(before.rows[s], after.rows[s])}
    systems = {s.run_id: s for s in before.systems if s.seed not in replaced} | {s.run_id: s for s in after.systems}
    truth = np.full(max(len(before.truth), len(after.truth)), -1, np.int64)
    for source in (before, after):
        known = np.flatnonzero(source.truth >= 0)
        truth[known] = source.truth[known]
    return replace(
        after,
        systems=tuple(systems.values()),
        rows={**before.rows, **after.rows},
        truth=truth,
        ids=after.ids or before.ids,
    )
