"""Rows of one domain, sorted into systems: which run is which, under which label, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from w2s_fast.core.rows import Row
from w2s_fast.results.summary.systems import Run

CEILING = "ceiling"
"""Methods of this name or beginning (`ceiling+lp`) are ceilings: trained on ground truth."""

CONFIGURATION = (
    "head", "loss", "init", "init_norm", "feat_scale", "template", "supervision", "optimizer", "schedule", "lr",
    "warmup", "weight_decay", "epochs", "batch_size", "tau_s", "tau_w", "precision",
)  # fmt: skip
"""Two rows of one method that differ here are different systems."""

DONE = (None, "ok")
SUPERVISIONS = ("weak", "gt")
"""Those that a label does not spell out: weak is what methods are for, and ground truth is written as such."""


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """One method or ceiling at one configuration: its rows per run."""

    label: str
    method: str
    ceiling: bool
    rows: dict[Run, Row]

    def accuracies(self, key: str = "acc_w2s") -> dict[Run, float]:
        """Run -> a fraction of the rows, where it is not null."""
        return fractions(self.rows, key)


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """One table group: a domain (with strong and weak models in its name where the results hold several)."""

    name: str
    domain: str
    systems: list[System]
    ranking: str = "inductive"
    left_out: list[str] = field(default_factory=list[str])

    @property
    def methods(self) -> list[System]:
        """The systems that are not ceilings."""
        return [system for system in self.systems if not system.ceiling]

    @property
    def ceilings(self) -> list[System]:
        """Ceilings, by head."""
        return [system for system in self.systems if system.ceiling]

    @property
    def runs(self) -> list[Run]:
        """(seed, weak seed) of the methods (of the ceilings where there is no method), sorted."""
        found = {run for system in self.methods or self.ceilings for run in system.rows}
        return sorted(found, key=lambda run: tuple((part is None, part or 0) for part in run))

    def reference(self, key: str) -> dict[Run, float]:
        """Run -> a reference's accuracy (`acc_weak`, ...), as the rows of that run agree to say."""
        merged: dict[Run, float] = {}
        for system in reversed(self.methods or self.ceilings):
            merged |= system.accuracies(key)
        return {run: merged[run] for run in self.runs if run in merged}

    def note(self) -> str | None:
        """Why there is no zero-shot reference, as rows tell it."""
        notes = (row.get("note") for system in self.systems for row in system.rows.values())
        return next((note for note in notes if note), None)

    def ceiling_names(self, method: System) -> list[str]:
        """The ceilings' methods, those of the method's own head first."""
        own = {row.get("head") for row in method.rows.values()}
        named = {head.partition("(")[0] for head in own if head}

        def distance(ceiling: System) -> int:
            heads = {row.get("head") or "" for row in ceiling.rows.values()}
            if heads & own:
                return 0
            return 1 if {head.partition("(")[0] for head in heads} & named else 2

        return [c.method for c in sorted(self.ceilings, key=distance)]


def fractions(rows: Mapping[Run, Row], key: str) -> dict[Run, float]:
    """Run -> the value of one key, where it is not null."""
    found = {run: row.get(key) for run, row in rows.items()}
    return {run: float(value) for run, value in found.items() if isinstance(value, int | float)}


Group = tuple[str, str | None, str | None, str | None, str | None, str]
"""What results may be joined and ranked: one domain, strong encoder, weak model, data set, split mode, and whether
students saw test images (`transductive`) or not (`inductive`)."""


def group_of(row: Row) -> Group:
    """The group that a row belongs to."""
    domain = row.get("domain") or row.get("data") or ""
    seen = "transductive" if row.get("transductive") else "inductive"
    return domain, row.get("strong"), row.get("weak"), row.get("data"), row.get("split"), seen


def group_names(groups: Iterable[Group]) -> dict[Group, str]:
    """A name for each group: its domain, with whatever else tells groups of one domain apart."""
    given = list(dict.fromkeys(groups))
    names: dict[Group, str] = {}
    for group in given:
        alike = [other for other in given if other[0] == group[0]]
        differing = [str(group[n]) for n in range(1, len(group)) if len({other[n] for other in alike}) > 1]
        names[group] = group[0] + (f" ({', '.join(differing)})" if differing else "")
    return names


def domains(rows: Iterable[Row]) -> list[Domain]:
    """Rows of one selection by group, then by method and configuration; a later row of a run replaces the earlier."""
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    names = group_names(groups)
    out: list[Domain] = []
    for group, members in groups.items():
        current = _current(members)
        done = [row for row in current if row.get("status") in DONE and row.get("acc_w2s") is not None]
        failed = [row for row in current if not any(row is kept for kept in done)]
        left_out = [f"{row.get('method')} seed {row.get('seed')} ({_reason(row)})" for row in failed]
        if len(current) < len(members):
            left_out.append(
                f"{len(members) - len(current)} older rows of other features, supervisors, labels or splits"
            )
        out.append(
            Domain(name=names[group], domain=group[0], systems=_systems(done), ranking=group[-1], left_out=left_out)
        )
    return out


def _current(members: Sequence[Row]) -> list[Row]:
    """The rows that rest on the last row's features, text and labels, and on each seed's last supervisor and split."""

    def rests_on(row: Row) -> dict[tuple[str, Any], Any]:
        on: dict[tuple[str, Any], Any] = {
            (key, None): row.get(key) for key in ("feature_key", "text_key", "truth_digest")
        }
        on["split_hash", row.get("seed")] = row.get("split_hash")
        if row.get("weak_seed") is not None:
            on["weak_key", row.get("weak_seed")] = row.get("weak_key")
        return on

    newest: dict[tuple[str, Any], Any] = {}
    for row in members:
        newest |= rests_on(row)
    return [row for row in members if all(newest[key] == value for key, value in rests_on(row).items())]


def _reason(row: Row) -> str:
    status = row.get("status")
    return "no accuracy" if status in DONE else str(status)


def _systems(rows: Sequence[Row]) -> list[System]:
    by_method: dict[str, dict[tuple[str, ...], dict[Run, Row]]] = {}
    for row in rows:
        configuration = tuple(str(row.get(key)) for key in CONFIGURATION)
        runs = by_method.setdefault(row.get("method") or "?", {}).setdefault(configuration, {})
        runs[row.get("seed"), row.get("weak_seed")] = row
    out: list[System] = []
    for method, variants in by_method.items():
        differing = [n for n in range(len(CONFIGURATION)) if len({variant[n] for variant in variants}) > 1]
        for variant, runs in variants.items():
            some = next(iter(runs.values()))
            ceiling = method.split("+")[0] == CEILING
            told = [f"{CONFIGURATION[n]}={variant[n]}" for n in differing if variant[n] not in SUPERVISIONS]
            if some.get("reads_truth", some.get("supervision") == "gt") and not ceiling:
                told.insert(0, "ground truth")
            label = f"{method} ({', '.join(told)})" if told else method
            out.append(System(label=label, method=method, ceiling=ceiling, rows=runs))
    return out
