"""Rows of one domain, sorted into systems: which run is which, under which label, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from w2s_fast.core.hashing import digest_json, number_repeats
from w2s_fast.core.rows import Row, reads_truth
from w2s_fast.results.summary.systems import Run

CEILING = "ceiling"
"""The role of a run that was trained on ground truth to measure others."""

CONFIGURATION = (
    "head", "loss", "init", "init_norm", "feat_scale", "template", "supervision", "optimizer", "schedule", "lr",
    "warmup", "weight_decay", "epochs", "batch_size", "tau_s", "tau_w", "precision",
)  # fmt: skip
"""What tells rows of one method apart that do not say what was asked, and what labels show first."""
SHOWN_ELSEWHERE = ("feature_key", "text_key", "truth_digest", "split", "weak_keys", "head", "loss", "supervision")
"""Parts of a question that no label shows: those of the group, and those that other columns have."""

Group = tuple[str, str | None, str | None, str | None, str | None, str]
"""What results may be joined and ranked: one domain, strong encoder, weak model, data set, split mode, and whether
students saw test images (`transductive`) or not (`inductive`)."""

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

    def ids(self, measure: str | None = None) -> dict[Run, str | None]:
        """Run -> the id of that run, or of what its row says that it was measured against (`ceiling`, ...)."""
        if measure is None:
            return {run: row.get("run_id") for run, row in self.rows.items()}
        return {run: (row.get("measured_by") or {}).get(measure) for run, row in self.rows.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """One table group: a domain (with strong and weak models in its name where the results hold several)."""

    name: str
    group: Group
    systems: list[System]
    left_out: list[str] = field(default_factory=list[str])

    @property
    def domain(self) -> str:
        """The domain of the group."""
        return self.group[0]

    @property
    def ranking(self) -> str:
        """Among whom its students are ranked: `inductive` or `transductive`."""
        return self.group[-1]

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

    def reference(self, key: str, measure: str) -> tuple[dict[Run, float], dict[Run, str | None]]:
        """Run -> a reference's accuracy (`acc_weak`, ...), as the rows of that run agree to say, and its id."""
        merged: dict[Run, float] = {}
        named: dict[Run, str | None] = {}
        for system in reversed(self.methods or self.ceilings):
            found, ids = system.accuracies(key), system.ids(measure)
            merged |= found
            named |= {run: ids[run] for run in found}
        return {run: merged[run] for run in self.runs if run in merged}, named

    def note(self) -> str | None:
        """Why there is no zero-shot reference, as rows tell it."""
        notes = (row.get("note") for system in self.systems for row in system.rows.values())
        return next((note for note in notes if note), None)


def fractions(rows: Mapping[Run, Row], key: str) -> dict[Run, float]:
    """Run -> the value of one key, where it is not null."""
    found = {run: row.get(key) for run, row in rows.items()}
    return {run: float(value) for run, value in found.items() if isinstance(value, int | float)}


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
        out.append(Domain(name=names[group], group=group, systems=_systems(done), left_out=left_out))
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


def is_ceiling(row: Row) -> bool:
    """Whether a row is of a ceiling; files from before rows said their role have it in the method's name."""
    role = row.get("role")
    return role == CEILING if role else str(row.get("method")).split("+")[0] == CEILING


def configuration(row: Row) -> tuple[str, ...]:
    """The settings of a row, as labels show them."""
    return tuple(str(row.get(key)) for key in CONFIGURATION)


def _systems(rows: Sequence[Row]) -> list[System]:
    """Rows by what was asked: one question is one system, under the name that came first, however often it was run."""
    asked: dict[tuple[Any, ...], str] = {}
    for row in rows:
        if row.get("question"):
            asked[row.get("method"), is_ceiling(row), *configuration(row)] = row["question"]  # type: ignore[typeddict-item]
    variants: dict[tuple[Any, ...], dict[Run, Row]] = {}
    for row in rows:
        settings = (row.get("method"), is_ceiling(row), *configuration(row))
        question = row.get("question") or asked.get(settings)
        key = settings if question is None else (is_ceiling(row), question)
        variants.setdefault(key, {})[row.get("seed"), row.get("weak_seed")] = row
    by_method: dict[tuple[str, bool], list[dict[Run, Row]]] = {}
    for runs in variants.values():
        first = next(iter(runs.values()))
        by_method.setdefault((first.get("method") or "?", is_ceiling(first)), []).append(runs)
    out: list[System] = []
    for (method, ceiling), several in by_method.items():
        labels = number_repeats(_labels(method, ceiling, several))
        out += [
            System(label=label, method=method, ceiling=ceiling, rows=runs)
            for label, runs in zip(labels, several, strict=True)
        ]
    return out


def _labels(method: str, ceiling: bool, several: Sequence[dict[Run, Row]]) -> list[str]:
    """A label for each variant of a method: its name, with the fields in which the variants differ."""
    some = [next(iter(runs.values())) for runs in several]
    settings = [configuration(row) for row in some]
    asked = [row.get("asked") or {} for row in some]
    names = [
        key for key in dict.fromkeys(k for one in asked for k in one) if key not in (*CONFIGURATION, *SHOWN_ELSEWHERE)
    ]
    told: list[list[str]] = [
        [f"{key}={value}" for key, value in differing] for differing in _differing(CONFIGURATION, settings)
    ]
    beyond = _differing(names, [tuple(_brief(one.get(key)) for key in names) for one in asked])
    out: list[str] = []
    for row, shown, more in zip(some, told, beyond, strict=True):
        words = [f"{key}={value}" for key, value in more if value != "None"] + shown
        words = [word for word in words if word.partition("=")[2] not in SUPERVISIONS]
        if reads_truth(row) and not ceiling:
            words.insert(0, "ground truth")
        out.append(f"{method} ({', '.join(words)})" if words else method)
    return out


def _differing(names: Sequence[str], values: Sequence[tuple[str, ...]]) -> list[list[tuple[str, str]]]:
    at = [n for n in range(len(names)) if len({one[n] for one in values}) > 1]
    return [[(names[n], one[n]) for n in at] for one in values]


def _brief(value: Any) -> str:
    """A part of a question in a word: keys of banks are long."""
    return digest_json(value)[:6] if isinstance(value, dict | list) else str(value)
