"""`summarise`: one page of the table per domain, and their mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean, median

from w2s_fast.core.errors import DataError, nearest
from w2s_fast.core.intervals import REPLICATES
from w2s_fast.core.rows import Row
from w2s_fast.results.summary.domain import Domain, System, domains
from w2s_fast.results.summary.notes import Facts, notes
from w2s_fast.results.summary.ratio import Ratio, Score, mean_cell, ratio_cell
from w2s_fast.results.summary.systems import Kept, Run, Systems
from w2s_fast.results.summary.table import EMPTY, MEAN, Cell, Column, Line, Table

COLUMNS = (
    Column(name="accuracy", title="accuracy %", kind="accuracy"),
    Column(name="pgr", title="PGR", kind="ratio"),
    Column(name="pgr_best", title="PGR best", kind="ratio"),
    Column(name="pgr_zs", title="PGR zs", kind="ratio"),
    Column(name="pgr_median", title="PGR median", kind="ratio"),
    Column(name="runs", title="runs", kind="count"),
)
REFERENCES = (
    ("weak", "acc_weak", "weak"),
    ("zero-shot", "acc_zero_shot", "zero_shot"),
    ("fusion", "acc_fusion", "fusion"),
)
BEST = "best ceiling"
RISING = 0.01
"""A rise of a ceiling over the last quarter of its epochs from which the notes tell of it, a fraction."""


def summarise(
    rows: Iterable[Row],
    correctness: Mapping[str, Systems] | None = None,
    *,
    selection: str = "last",
    unverified: Collection[str] = (),
    replicates: int = REPLICATES,
) -> Table:
    """The table of one selection: per domain weak, zero-shot, fusion, methods, ceilings; over several
    different domains, their mean.

    `rows` are result rows; `correctness` holds per group name (the domain) the `Systems` of the same selection, and
    gives accuracies and PGR their 95 % intervals where it has the runs that the rows name (else a note tells).
    Columns: accuracy (mean over runs), PGR against the ceiling of the same head, against the best ceiling, and from
    the better of weak and zero-shot (ratios of means), the median PGR over runs, and the number of runs. `unverified`
    names methods whose formula could not be checked. Errors: `DataError` without rows, or none of that selection.
    """
    given = list(rows)
    if not given:
        raise DataError("there is no result row to report; make some with: w2s-fast train --out FILE")
    chosen = [row for row in given if row.get("selection") == selection]
    if not chosen:
        known = {str(row.get("selection")) for row in given}
        raise DataError(f"no result row has selection {selection!r}{nearest(selection, known)}")
    kept = correctness or {}
    pages = [_Page(domain, kept.get(domain.name), replicates=replicates) for domain in domains(chosen)]
    lines = [line for page in pages for line in page.lines()]
    rankings = dict.fromkeys(page.domain.ranking for page in pages)
    means: list[Line] = []
    for ranking in rankings:
        same = [page for page in pages if page.domain.ranking == ranking]
        if len(same) > 1 and len({page.domain.domain for page in same}) == len(same):
            title = MEAN.format(len(same)) + (f" ({ranking})" if len(rankings) > 1 else "")
            means += _mean_lines(same, lines, title=title)
    lines += means
    return Table(
        title="Weak-to-strong results",
        columns=COLUMNS,
        rows=tuple(lines),
        notes=notes(
            [page.facts() for page in pages], selection=selection, unverified=unverified, replicates=replicates
        ),
    )


class _Page:
    """One domain: scores of its systems, with intervals where the predictions of their runs were kept."""

    def __init__(self, domain: Domain, systems: Systems | None, *, replicates: int) -> None:
        self.domain = domain
        self.kept: Kept | None = None
        known = [] if systems is None else [run for run in domain.runs if run in set(systems.runs)]
        if systems is not None and known:
            self.kept = Kept(systems.only(known), replicates=replicates)
        self.given = systems is not None
        self.references = {name: self._score(*domain.reference(key, measure)) for name, key, measure in REFERENCES}
        self.systems = {system.label: self._score(system.accuracies(), system.ids()) for system in domain.systems}
        self.best = self._score(*domain.reference("acc_ceiling_best", "ceiling_best"))
        self.base = self.references["weak"]
        if self.references["zero-shot"].value > self.base.value:
            self.base = self.references["zero-shot"]

    def _score(self, accuracies: Mapping[Run, float], ids: Mapping[Run, str | None]) -> Score:
        kept = self.kept
        draw = None if kept is None else lambda runs: kept.means(ids, accuracies, runs)
        return Score(runs=accuracies, kept=kept, draw=draw)

    def ceiling(self, system: System) -> Score:
        """The ceiling that a method is measured against, as its own rows name it."""
        return self._score(system.accuracies("acc_ceiling"), system.ids("ceiling"))

    def ratio(self, base: Score, score: Score, ceiling: Score) -> Ratio:
        """The parts of a PGR."""
        return Ratio.on_shared_runs(score.minus(base), ceiling.minus(base))

    def ratios(self, system: System) -> dict[str, Ratio]:
        """The three PGR of a method."""
        score, weak, same = self.systems[system.label], self.references["weak"], self.ceiling(system)
        return {
            "pgr": self.ratio(weak, score, same),
            "pgr_best": self.ratio(weak, score, self.best),
            "pgr_zs": self.ratio(self.base, score, same),
        }

    def lines(self) -> list[Line]:
        """The domain's part of the table."""
        out: list[Line] = []
        for name, score in self.references.items():
            prior = {} if name == "weak" else {"pgr_best": self.ratio(self.references["weak"], score, self.best)}
            absent = None if name == "weak" else (self.domain.note() or "n/a")
            out.append(self._line(name, "reference", score, prior, absent=absent))
        for system in self.domain.methods:
            single = [row.get("pgr") for row in system.rows.values() if row.get("acc_ceiling") is not None]
            ratios, score = self.ratios(system), self.systems[system.label]
            out.append(self._line(system.label, "method", score, ratios, middle=_median_cell(single)))
        for system in self.domain.ceilings:
            out.append(self._line(system.label, "ceiling", self.systems[system.label], {}))
        if self.best.runs:
            out.append(self._line(BEST, "ceiling", self.best, {}))
        return out

    def _line(
        self,
        name: str,
        kind: str,
        score: Score,
        ratios: Mapping[str, Ratio],
        *,
        middle: Cell = EMPTY,
        absent: str | None = None,
    ) -> Line:
        accuracy = Cell(note=absent) if not score.runs else mean_cell([score])
        shown = {key: ratio_cell([part]) if score.runs else EMPTY for key, part in ratios.items()}
        cells = {"accuracy": accuracy, **shown, "pgr_median": middle, "runs": Cell(value=len(score.runs))}
        return Line(
            group=self.domain.name, system=name, kind=kind, cells=tuple(cells.get(c.name, EMPTY) for c in COLUMNS)
        )

    def score_of(self, name: str) -> Score:
        """The score of any line."""
        return self.best if name == BEST else {**self.references, **self.systems}[name]

    def _rising(self) -> list[str]:
        """Ceilings whose accuracy on hold-val rose by a point or more over the last quarter of their training."""
        rises = {system.label: list(system.accuracies("rise_val").values()) for system in self.domain.ceilings}
        means = {label: mean(values) for label, values in rises.items() if values}
        return [f"{label} (+{100 * rise:.1f} points)" for label, rise in means.items() if rise >= RISING]

    def facts(self) -> Facts:
        """What the notes under the table need to know."""
        scores = {**self.references, **self.systems}
        unmatched = [name for name, score in scores.items() if self.kept and score.runs and score.means is None]
        return Facts(
            name=self.domain.name,
            runs=self.domain.runs,
            components=self.kept.resamples(tuple(self.kept.systems.runs)).components if self.kept else None,
            one_test_set=self.kept.systems.one_test_set if self.kept else None,
            predictions=self.given,
            unmatched=unmatched,
            left_out=self.domain.left_out,
            rising=self._rising(),
            remark=self.domain.note(),
            methods=[system.method for system in self.domain.methods],
            pgr=any(system.accuracies("acc_ceiling") for system in self.domain.methods),
        )


def _mean_lines(pages: Sequence[_Page], lines: Sequence[Line], *, title: str) -> list[Line]:
    """Systems that every domain has, averaged: accuracies with equal weight, PGR as a ratio of means over domains."""
    per_page = [{line.system: line for line in lines if line.group == page.domain.name} for page in pages]
    out: list[Line] = []
    for name, first in per_page[0].items():
        if not all(name in page and page[name].cells[0].value is not None for page in per_page):
            continue
        accuracy = mean_cell([page.score_of(name) for page in pages])
        cells = {"accuracy": accuracy}
        for key, parts in _ratios_of(name, first.kind, pages).items():
            cells[key] = ratio_cell(parts)
        out.append(
            Line(group=title, system=name, kind=first.kind, cells=tuple(cells.get(c.name, EMPTY) for c in COLUMNS))
        )
    return out


def _ratios_of(name: str, kind: str, pages: Sequence[_Page]) -> dict[str, list[Ratio]]:
    if kind == "reference" and name != "weak":
        return {"pgr_best": [p.ratio(p.references["weak"], p.score_of(name), p.best) for p in pages]}
    if kind != "method":
        return {}
    found = [page.ratios(next(s for s in page.domain.methods if s.label == name)) for page in pages]
    return {key: [ratios[key] for ratios in found] for key in found[0]}


def _median_cell(single: Sequence[float | None]) -> Cell:
    """The median of the runs' own PGR; null ones are guarded and counted."""
    if not single:
        return EMPTY
    defined = [value for value in single if value is not None]
    guarded = len(single) - len(defined)
    note = f"{guarded}/{len(single)} guarded" if guarded else None
    return Cell(value=median(defined) if defined else None, note=note)
