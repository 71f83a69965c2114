"""Matrices weak x strong: one number per pair of a ladder, for each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import Row
from w2s_fast.results.summary import BEST, Cell, Column, Group, Line, Systems, Table, group_names, group_of, summarise

Globs = Mapping[str, tuple[str, ...]]
"""Label -> what a model may be called in rows, as globs."""
KINDS = {"pgr": ("ratio", "PGR"), "accuracy": ("accuracy", "accuracy %")}
ABSENT = Cell(note="n/a")
WEAK = "weak alone"


def matrices(
    rows: Iterable[Row],
    systems: Mapping[Group, Systems],
    *,
    title: str,
    weak: Globs,
    strong: Globs,
    show: Sequence[str] = ("pgr", "accuracy"),
    selection: str = "last",
    notes: Sequence[str] = (),
) -> list[Table]:
    """One table per kind of number: columns are strong encoders, lines weak models, groups methods (of each domain).

    The accuracy table also has the weak models alone (a column of their own) and each encoder's best ceiling. A pair
    without rows is `n/a`. The last table carries the notes. Errors: `DataError` where no row belongs to any pair.
    """
    chosen = [row for row in rows if row.get("selection") == selection]
    pairs: dict[Group, tuple[str, str]] = {}
    for group in dict.fromkeys(map(group_of, chosen)):
        pair = _label(group[2], weak), _label(group[1], strong)
        if pair[0] is not None and pair[1] is not None:
            pairs[group] = pair[0], pair[1]
    if not pairs:
        raise DataError(
            f"no row of selection {selection!r} belongs to a pair of {title!r}: weak {', '.join(weak)}; "
            f"strong {', '.join(strong)}"
        )
    kept = [row for row in chosen if group_of(row) in pairs]
    names = group_names(pairs)
    table = summarise(kept, {names[g]: systems[g] for g in pairs if g in systems}, selection=selection)
    at = {(group[0], *pair): names[group] for group, pair in pairs.items()}
    domains = list(dict.fromkeys(group[0] for group in pairs))
    methods = [system for system in table.systems if system == BEST or _is_method(table, system)]
    found: list[Table] = []
    for kind in show:
        shown = [m for m in methods if m != BEST or kind == "accuracy"]
        lines: list[Line] = []
        for domain in domains:
            for method in shown:
                group = method if len(domains) == 1 else f"{domain}: {method}"
                for one in weak:
                    cells = [_cell(table, at.get((domain, one, other)), method, kind) for other in strong]
                    if kind == "accuracy":
                        places = [at[domain, one, other] for other in strong if (domain, one, other) in at]
                        cells.insert(0, _cell(table, places[0] if places else None, "weak", kind))
                    lines.append(Line(group=group, system=one, kind="method", cells=tuple(cells)))
        heads = ([WEAK] if kind == "accuracy" else []) + list(strong)
        found.append(
            Table(
                title=f"{title}: {KINDS[kind][1]}, weak model x strong encoder",
                columns=tuple(Column(name=head, title=head, kind=KINDS[kind][0]) for head in heads),
                rows=tuple(lines),
            )
        )
    said = dict.fromkeys(_without(note, list(names.values())) for note in table.notes)
    found[-1] = replace(found[-1], notes=(*notes, *said))
    return found


def _without(note: str, names: Sequence[str]) -> str:
    """A note without the list of pairs that it is about."""
    text = note
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    return note if text == note else f"Some pairs: {text.lstrip(', :')}"


def _label(name: str | None, globs: Globs) -> str | None:
    return next((label for label, own in globs.items() if any(fnmatchcase(str(name), glob) for glob in own)), None)


def _is_method(table: Table, system: str) -> bool:
    return any(row.system == system and row.kind == "method" for row in table.rows)


def _cell(table: Table, place: str | None, system: str, kind: str) -> Cell:
    if place is None:
        return ABSENT
    cell = table.cell(place, system, kind)
    return cell if cell.value is not None or cell.note else ABSENT
