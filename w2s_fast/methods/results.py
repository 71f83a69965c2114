"""What a fit returns: rows, kept predictions, curves, the fitted heads; comparisons with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from w2s_fast.core import rows as files
from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.intervals import Interval, Resamples
from w2s_fast.core.rows import Row
from w2s_fast.core.summary import Systems, Table, summarise
from w2s_fast.methods import predictions
from w2s_fast.methods.predictions import Predictions

if TYPE_CHECKING:
    from w2s_fast.methods.best import BestHead
    from w2s_fast.methods.score import Scored

CRITERION = {"last": "agree_val", "weak_val": "agree_val", "oracle": "acc_val", "test_best": "acc_test"}
"""By which curve `best` compares runs under a selection."""
CEILING_SELECTION = {"last": "last", "weak_val": "oracle", "oracle": "oracle", "test_best": "test_best"}
"""Under which selection the ceiling is read that a student's selection is measured against."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Rows of one or more fits; `+` joins. `kept` holds predictions per domain, `fits` the heads and curves."""

    rows: list[Row]
    kept: tuple[Predictions, ...] = ()
    fits: tuple[Scored, ...] = ()

    def __add__(self, other: Results) -> Results:
        seen = {(r.get("run_id"), r.get("selection")) for r in self.rows}
        fresh = [r for r in other.rows if (r.get("run_id"), r.get("selection")) not in seen]
        return Results(
            rows=[*self.rows, *fresh],
            kept=_merged([*self.kept, *other.kept]),
            fits=self.fits + other.fits,
        )

    @property
    def predictions(self) -> Mapping[str, Predictions]:
        """Domain -> predictions of every system on its test rows."""
        return {kept.domain: kept for kept in self.kept}

    def systems(self, *, selection: str = "last") -> dict[str, Systems]:
        """Domain -> item numbers and correctness per system, as intervals need them."""
        found: dict[str, Systems] = {}
        for kept in self.kept:
            read = {True: CEILING_SELECTION.get(selection, selection), False: selection}
            correct = {name: kept.correct(name, selection=read[name.startswith("ceiling+")]) for name in kept.names()}
            found[kept.domain] = Systems(
                items=kept.items(),
                correct={name: c for name, c in correct.items() if c},
                seeds=[seed for seed, _ in kept.pairs],
                weak_seeds=[weak for _, weak in kept.pairs],
            )
        return found

    def table(self, *, selection: str = "last") -> Table:
        """Accuracy and PGR per system and domain with 95 % intervals; `print` it, or render it with `report`."""
        return summarise(self.rows, self.systems(selection=selection), selection=selection)

    def compare(self, a: str, b: str, *, selection: str = "last") -> dict[str, Interval]:
        """Domain -> the interval of accuracy(a) - accuracy(b), matched by seed and item (crossed paired bootstrap)."""
        out: dict[str, Interval] = {}
        for kept in self.kept:
            for name in (a, b):
                if name not in kept.names():
                    raise UsageError(f"{name!r} was not fitted in {kept.domain}{nearest(name, kept.names())}")
            resamples = Resamples(kept.items(), seeds=[s for s, _ in kept.pairs], weak_seeds=[w for _, w in kept.pairs])
            first, second = (resamples.means(kept.correct(name, selection=selection)) for name in (a, b))
            out[kept.domain] = resamples.interval(first - second)
        return out

    def curves(self) -> list[dict[str, Any]]:
        """One record per run and epoch: method, seed, weak_seed, epoch, and each curve's value (None for NaN)."""
        out: list[dict[str, Any]] = []
        for one in self.fits:
            for epoch in range(one.fit.run.epochs + 1):
                record: dict[str, Any] = {
                    "method": one.arm.method.name,
                    "seed": one.arm.seed,
                    "weak_seed": one.arm.weak_seed,
                    "supervision": one.arm.supervision,
                    "epoch": epoch,
                }
                record |= {name: files.clean(float(curve[epoch])) for name, curve in one.fit.curves.items()}
                out.append(record)
        return out

    def best(self, selection: str = "weak_val", *, method: str | None = None) -> BestHead:
        """The run that does best on hold-val under `selection` (weak agreement, or truth for `oracle`), no ceilings.

        The result gives `to_torch()`, `save(path)` and `export(path)`.
        """
        from w2s_fast.methods.best import BestHead

        if selection not in CRITERION:
            raise UsageError(f"unknown selection {selection!r}{nearest(selection, CRITERION)}")
        names = {s.arm.method.name for s in self.fits if not s.arm.ceiling}
        if method is not None and method not in names:
            raise UsageError(f"{method!r} was not fitted{nearest(method, names)}")
        fitted = [
            s
            for s in self.fits
            if not s.arm.ceiling and selection in s.fit.theta and method in (None, s.arm.method.name)
        ]
        if not fitted:
            raise UsageError(f"no fitted head with selection {selection!r}; fit a method first")

        def merit(one: Scored) -> float:
            curve = one.fit.curves[CRITERION[selection]]
            return float(np.nan_to_num(curve[one.fit.selected_epoch[selection]], nan=-1.0))

        return BestHead(scored=max(fitted, key=merit), selection=selection)

    def save(self, path: str | Path, *, selections: Sequence[str] | None = None) -> list[Row]:
        """Append the rows to a JSONL file and keep predictions in `<path>.preds/`; the rows as written, naming them."""
        target = Path(path)
        chosen = list(selections or dict.fromkeys(r["selection"] for r in self.rows if "selection" in r))
        place: dict[str, str] = {}
        for kept in self.kept:
            stem = f"{kept.domain}-{_stem(kept)}"
            index = predictions.save(kept, target.with_suffix(target.suffix + ".preds"), stem, chosen)
            place |= {run: f"{target.name}.preds/{stem}.npy#{i}" for run, i in index.items()}
        written: list[Row] = []
        for row in self.rows:
            kept_row = row.copy()
            kept_row["preds"] = place.get(row.get("run_id", ""))
            written.append(kept_row)
        files.append(target, written)
        return written

    @staticmethod
    def load(path: str | Path, *, torn: list[str] | None = None) -> Results:
        """Rows of a JSONL file with the predictions that they name; later rows replace earlier ones of the same run."""
        target = Path(path)
        latest = {(r.get("run_id"), r.get("selection")): r for r in files.read(target, torn=torn)}
        names = sorted({str(r.get("preds")).partition("#")[0] for r in latest.values() if r.get("preds")})
        kept = [predictions.load(target.parent / name) for name in names]
        return Results(rows=list(latest.values()), kept=_merged(kept))


def _stem(kept: Predictions) -> str:
    from w2s_fast.core.hashing import digest_ids

    return digest_ids(s.run_id for s in kept.systems)[:12]


def _merged(kept: Sequence[Predictions]) -> tuple[Predictions, ...]:
    """One `Predictions` per domain; systems of equal run id are kept once, the later one."""
    by_domain: dict[str, Predictions] = {}
    for one in kept:
        before = by_domain.get(one.domain)
        if before is None:
            by_domain[one.domain] = one
            continue
        for seed in set(before.rows) & set(one.rows):
            if not np.array_equal(before.rows[seed], one.rows[seed]):
                raise UsageError(
                    f"{one.domain}: seed {seed} has two different test sets; join results of one split mode"
                )
        systems = {s.run_id: s for s in (*before.systems, *one.systems)}
        size = max(len(before.truth), len(one.truth))
        truth = np.full(size, -1, np.int64)
        for source in (before, one):
            known = np.flatnonzero(source.truth >= 0)
            truth[known] = source.truth[known]
        by_domain[one.domain] = replace(
            one,
            systems=tuple(systems.values()),
            rows={**before.rows, **one.rows},
            truth=truth,
            ids=one.ids or before.ids,
        )
    return tuple(by_domain.values())
