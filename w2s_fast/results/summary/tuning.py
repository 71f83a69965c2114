"""Tuning without the domain that is reported: each method's configuration is picked by the other domains' hold-val."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.rows import Row, reads_truth
from w2s_fast.results.summary.domain import (
    SUPERVISIONS,
    Domain,
    Group,
    System,
    configuration,
    domains,
    group_of,
)
from w2s_fast.results.summary.systems import Run, Systems

Block = tuple[object, ...]
"""What domains must share to be tuned on each other: everything of their group but domain and data set."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The configuration of one method that one domain is reported with.

    score: its mean accuracy on hold-val over the other domains, a fraction. of: how many configurations it was picked
    from.
    """

    domain: str
    method: str
    configuration: str
    score: float
    of: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """Rows of the picked configurations alone, each under its method's bare name, with ceilings as they were.

    systems: correctness per group under the same names. count: configurations per method, the same for all.
    """

    rows: list[Row]
    systems: dict[Group, Systems]
    choices: tuple[Choice, ...]
    count: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """One group of rows: a domain, its systems by label, and its (seed, weak seed) pairs."""

    group: Group
    domain: Domain
    systems: Mapping[str, System]
    runs: set[Run]


def method_of(row: Row) -> str:
    """The method behind a row: its name without what a grid adds in brackets, and who teaches where that is not a weak
    model and not in the name."""
    name, supervised = str(row.get("method")).partition("[")[0], str(row.get("supervision")).partition("(")[0]
    plain = supervised in ("None", *SUPERVISIONS) or name.startswith(supervised)
    return name if plain else f"{name} under {supervised}"


def leave_one_domain_out(
    rows: Iterable[Row], systems: Mapping[Group, Systems] | None = None, *, selection: str = "last"
) -> Tuned:
    """For every domain and method, the configuration with the best mean `acc_val` over the other domains.

    A configuration is what `CONFIGURATION` tells apart within one `method_of`. It takes part if every run of every
    domain has it; equal ones under two names count once. All methods pick from equally many: where one has more, those
    with the smallest digest of (method, configuration) stay, so that neither the order of the file nor any result
    decides. Domains weigh the same; ties go to the first name. Students that were shown ground truth are left out.
    Errors: `DataError` for fewer than two domains, and where no configuration is complete.
    """
    chosen = [row for row in rows if row.get("selection") == selection]
    units: dict[Block, list[Unit]] = {}
    for unit in units_of(chosen):
        units.setdefault(_block(unit.group), []).append(unit)
    if not units:
        raise DataError(f"there is no result row of selection {selection!r} to tune on")
    notes: list[str] = []
    kept: dict[Block, dict[str, list[str]]] = {}
    for block, members in units.items():
        if len(members) < 2:
            raise DataError(
                f"leaving one domain out needs two domains or more, and there is only {members[0].domain.name}; fit "
                "the same methods on others: w2s-fast sweep FILE.toml with several data sets"
            )
        kept[block] = complete(members, notes)
    count = min(len(labels) for methods in kept.values() for labels in methods.values())
    out: list[Row] = []
    choices: list[Choice] = []
    for block, members in units.items():
        offered = {method: reduced(method, labels, count) for method, labels in kept[block].items()}
        for unit in members:
            others = [other for other in members if other is not unit]
            for method, labels in offered.items():
                scores = {label: _score(label, others) for label in labels}
                best = min(labels, key=lambda label: (-scores[label], label))
                choices.append(
                    Choice(
                        domain=unit.domain.name, method=method, configuration=best, score=scores[best], of=len(labels)
                    )
                )
                out += [_called(row, method) for row in unit.systems[best].rows.values()]
            out += [row for ceiling in unit.domain.ceilings for row in ceiling.rows.values()]
    most = {method: len(labels) for methods in kept.values() for method, labels in methods.items()}
    return Tuned(
        rows=out,
        systems=dict(systems or {}),
        choices=tuple(choices),
        count=count,
        notes=(*_told(choices, count, most), *notes),
    )


def units_of(rows: Sequence[Row]) -> list[Unit]:
    """The groups of these rows with what may be tuned."""
    found: list[Unit] = []
    for group, domain in zip(dict.fromkeys(map(group_of, rows)), domains(rows), strict=True):
        students = {s.label: s for s in domain.methods if not any(reads_truth(row) for row in s.rows.values())}
        runs = {run for system in students.values() for run in system.rows}
        found.append(Unit(group=group, domain=domain, systems=students, runs=runs))
    return found


def _block(group: Group) -> Block:
    return (group[1], group[2], *group[4:])


def complete(
    units: Sequence[Unit], notes: list[str], *, key: str = "acc_val", name: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """method -> labels of its distinct configurations that every run of every domain has, sorted.

    key: what they are compared by. name: label -> what it is a configuration of (None: `method_of` its rows).
    """
    labels = sorted({label for unit in units for label in unit.systems})
    found: dict[str, dict[tuple[tuple[str, ...], ...], str]] = {}
    partial: list[str] = []
    for label in labels:
        systems = [unit.systems.get(label) for unit in units]
        of = next(method_of(row) for s in systems if s is not None for row in s.rows.values())
        method = of if name is None else name[label]
        whole = [
            system
            for system, unit in zip(systems, units, strict=True)
            if system is not None and set(system.accuracies(key)) == unit.runs
        ]
        if len(whole) < len(units):
            partial.append(label)
            continue
        found.setdefault(method, {}).setdefault(tuple(map(_configuration, whole)), label)
    if not found:
        raise DataError(
            "no configuration has an accuracy on hold-val in every run of every domain "
            f"({', '.join(unit.domain.name for unit in units)}); fit the same grid on all of them"
        )
    if partial:
        notes.append(f"Left out of tuning, as not every run of every domain has them: {', '.join(partial)}.")
    return {method: list(of.values()) for method, of in found.items()}


def _configuration(system: System) -> tuple[str, ...]:
    return configuration(next(iter(system.rows.values())))


def reduced(method: str, labels: Sequence[str], count: int) -> list[str]:
    """So many of a method's labels, by a digest that no result enters."""
    return sorted(sorted(labels, key=lambda label: digest_json([method, label]))[:count])


def _score(label: str, units: Sequence[Unit]) -> float:
    means = []
    for unit in units:
        values = unit.systems[label].accuracies("acc_val")
        means.append(math.fsum(values.values()) / len(values))
    return math.fsum(means) / len(means)


def _called(row: Row, method: str) -> Row:
    renamed = row.copy()
    renamed["method"] = method
    return renamed


def _told(choices: Sequence[Choice], count: int, most: Mapping[str, int]) -> list[str]:
    told = [
        f"Tuned by leaving one domain out: each method's configuration is the best of {count} on the hold-val ground "
        "truth of the other domains."
    ]
    reduced = [f"{method} ({number})" for method, number in sorted(most.items()) if number > count]
    if reduced:
        told.append(
            f"Every method picks from {count}: of {', '.join(reduced)} as many were drawn, by a digest of their names."
        )
    for domain in dict.fromkeys(choice.domain for choice in choices):
        mine = [f"{c.configuration} ({100 * c.score:.1f})" for c in choices if c.domain == domain]
        told.append(f"{domain}: {', '.join(mine)}; in parentheses accuracy in % on the others' hold-val.")
    return told
