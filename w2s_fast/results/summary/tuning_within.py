"""Tuning within one data set: by other seeds' hold-val, or without any label by agreement with the weak model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.rows import Row
from w2s_fast.results.summary.domain import Group, System
from w2s_fast.results.summary.systems import Run, Systems
from w2s_fast.results.summary.tuning import Choice, Tuned, Unit, complete, method_of, reduced, units_of


def leave_one_seed_out(
    rows: Iterable[Row], systems: Mapping[Group, Systems] | None = None, *, selection: str = "last"
) -> Tuned:
    """For every domain, method and seed, the configuration with the best mean `acc_val` over the other seeds.

    As `leave_one_domain_out` otherwise: complete configurations alone, equally many per method, no student that was
    shown ground truth. Errors: `DataError` for fewer than two seeds, and where no configuration is complete.
    """
    out: list[Row] = []
    choices: list[Choice] = []
    notes: list[str] = []
    units = units_of([row for row in rows if row.get("selection") == selection])
    kept = {unit.group: complete([unit], notes) for unit in units}
    count = _fewest(kept)
    for unit in units:
        seeds = sorted({seed for seed, _ in unit.runs})
        if len(seeds) < 2:
            raise DataError(f"{unit.domain.name}: tuning on other seeds needs two or more; fit with --seeds 5")
        for method, labels in kept[unit.group].items():
            offered = reduced(method, labels, count)
            for seed in seeds:
                scores = {label: _mean(unit.systems[label], "acc_val", without=seed) for label in offered}
                best = min(offered, key=lambda label: (-scores[label], label))
                choices.append(_choice(unit, method, best, scores[best], len(offered)))
                of_seed = {run: row for run, row in unit.systems[best].rows.items() if run[0] == seed}
                out += [_tuned(row, method, "seeds") for row in of_seed.values()]
        out += [row for ceiling in unit.domain.ceilings for row in ceiling.rows.values()]
    told = [
        f"Tuned by leaving one seed out: each method's configuration is the best of {count} on the hold-val ground "
        "truth of the other seeds, whose hold-val may hold images that this seed tests on.",
        *_counted(choices),
    ]
    return Tuned(rows=out, systems=dict(systems or {}), choices=tuple(choices), count=count, notes=(*told, *notes))


def by_agreement(
    rows: Iterable[Row], systems: Mapping[Group, Systems] | None = None, *, selection: str = "last"
) -> Tuned:
    """For every domain, method and loss, the configuration whose students agree best with the weak labels of hold-val.

    No ground truth takes part. Agreement rewards a student for copying its weak model's errors, and losses differ in
    how much they ask for it: configurations are compared within one loss alone.
    """
    out: list[Row] = []
    choices: list[Choice] = []
    notes: list[str] = []
    units = units_of([row for row in rows if row.get("selection") == selection])
    kept = {unit.group: complete([unit], notes, key="agree_val", name=_with_loss(unit)) for unit in units}
    count = _fewest(kept)
    for unit in units:
        for method, labels in kept[unit.group].items():
            offered = reduced(method, labels, count)
            scores = {label: _mean(unit.systems[label], "agree_val") for label in offered}
            best = min(offered, key=lambda label: (-scores[label], label))
            choices.append(_choice(unit, method, best, scores[best], len(offered)))
            out += [_tuned(row, method, "agreement") for row in unit.systems[best].rows.values()]
        out += [row for ceiling in unit.domain.ceilings for row in ceiling.rows.values()]
    told = [
        f"Tuned without ground truth: each method's configuration, the best of {count}, is the one whose students "
        "agree best with the weak labels of hold-val. Agreement rewards copying the weak model's errors: where "
        "students are better than it, the best configuration by agreement may be far from the best.",
        *_counted(choices),
    ]
    return Tuned(rows=out, systems=dict(systems or {}), choices=tuple(choices), count=count, notes=(*told, *notes))


def _with_loss(unit: Unit) -> dict[str, str]:
    """Label -> the method, with its loss where configurations of one method differ in it."""
    first = {label: next(iter(system.rows.values())) for label, system in unit.systems.items()}
    losses: dict[str, set[str | None]] = {}
    for row in first.values():
        losses.setdefault(method_of(row), set()).add(row.get("loss"))
    several = {method for method, found in losses.items() if len(found) > 1}
    return {
        label: f"{method_of(row)} {row.get('loss')}" if method_of(row) in several else method_of(row)
        for label, row in first.items()
    }


def _fewest(kept: Mapping[Group, Mapping[str, list[str]]]) -> int:
    if not kept:
        raise DataError("there is no result row of this selection to tune on")
    return min(len(labels) for methods in kept.values() for labels in methods.values())


def _mean(system: System, key: str, *, without: object = None) -> float:
    values = [value for run, value in system.accuracies(key).items() if _seed(run) != without]
    return math.fsum(values) / len(values)


def _seed(run: Run) -> object:
    return run[0]


def _choice(unit: Unit, method: str, best: str, score: float, of: int) -> Choice:
    return Choice(domain=unit.domain.name, method=method, configuration=best, score=score, of=of)


def _tuned(row: Row, method: str, how: str) -> Row:
    """The row as one of its method: what was asked of it is the tuning, not the configuration that it picked."""
    changed = {key: value for key, value in row.items() if key not in ("asked", "question")}
    return Row(**{**changed, "method": method, "question": digest_json(["tuned", how, method])[:16]})  # type: ignore[typeddict-item]


def _counted(choices: Iterable[Choice]) -> list[str]:
    """What was picked, per domain: each configuration with how often."""
    found: dict[str, Counter[str]] = {}
    for choice in choices:
        found.setdefault(choice.domain, Counter())[choice.configuration] += 1
    return [
        f"{domain}: {', '.join(name if times == 1 else f'{name} x {times}' for name, times in picked.items())}."
        for domain, picked in found.items()
    ]
