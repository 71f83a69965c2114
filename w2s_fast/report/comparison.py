"""Our rows beside the numbers that a paper printed, column by column."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import Row
from w2s_fast.results.summary import BEST, Cell, Column, Group, Line, Systems, Table, group_names, group_of, summarise
from w2s_fast.results.summary.notes import PGR
from w2s_fast.results.summary.table import EMPTY, MEAN

NUMBERS = ("accuracy", "pgr")
"""Kinds of numbers that papers print."""
TITLES = {"accuracy": ("ours %", "paper %"), "pgr": ("ours PGR", "paper PGR")}
KINDS = {"accuracy": ("accuracy", "printed"), "pgr": ("ratio", "ratio")}
ABSENT = Cell(note="n/a")
AXES = {"data": 3, "strong": 1, "weak": 2}
"""Row keys that a column may ask for, and their place in a `Group`."""


@dataclass(frozen=True, kw_only=True)
class PaperColumn:
    """A column of a paper's table: which rows of ours stand in it, and which numbers of the paper's beside them.

    where: `data`, `strong`, `weak` -> globs, one of which the row's value matches. system: what a system is called in
    our rows, `{}` standing for its name, or a name for each system. mean: the average of all other columns (ours only
    where rows stand in each).
    paper: the paper's column, or None.
    """

    name: str
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    system: str | Mapping[str, str] = "{}"
    mean: bool = False
    paper: str | None = None

    def name_of(self, system: str) -> str:
        """What a system is called in our rows of this column."""
        return self.system.format(system) if isinstance(self.system, str) else self.system.get(system, system)

    def takes(self, group: Group) -> bool:
        """Whether the rows of a group stand in this column."""
        return not self.mean and all(
            any(fnmatchcase(str(group[AXES[key]]), glob) for glob in globs) for key, globs in self.where.items()
        )


@dataclass(frozen=True, kw_only=True)
class Published:
    """A paper's table: kind (accuracy or pgr) -> system -> paper column -> a fraction, or None where it printed none.

    show: the kinds that the comparison shows, whether or not the paper has numbers of it.
    """

    title: str
    source: str
    columns: tuple[PaperColumn, ...]
    numbers: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    show: tuple[str, ...] = ("accuracy",)
    notes: tuple[str, ...] = ()

    def number(self, kind: str, system: str, column: PaperColumn) -> Cell:
        """What the paper printed; `n/a` where it printed nothing."""
        value = self.numbers.get(kind, {}).get(system, {}).get(column.paper or "")
        return ABSENT if value is None else Cell(value=value)


def fits(rows: Iterable[Row], published: Published) -> bool:
    """Whether any of the rows stands in one of the paper's columns."""
    return any(column.takes(group_of(row)) for row in rows for column in published.columns)


def comparison(
    rows: Iterable[Row],
    systems: Mapping[Group, Systems],
    published: Published,
    *,
    selection: str = "last",
    unverified: Collection[str] = (),
) -> Table:
    """One group per paper column, one line per system: ours with its 95 % interval, then what the paper printed.

    `systems` holds the correctness of the same selection per group. Of several groups that fit one column the one
    whose rows come last stands in it, and a note names the others. Errors: `DataError` where no row fits any column.
    """
    chosen = [row for row in rows if row.get("selection") == selection]
    groups = list(dict.fromkeys(map(group_of, reversed(chosen))))
    found: dict[str, Group] = {}
    notes = list(published.notes)
    every = group_names(groups)
    for column in published.columns:
        fitting = [group for group in groups if column.takes(group)]
        if fitting:
            found[column.name] = fitting[0]
            others = ", ".join(every[group] for group in fitting[1:])
            notes += [f"{column.name}: of {every[fitting[0]]}; the file also holds {others}."] if others else []
        if column.paper not in (None, column.name):
            notes.append(f"{column.name} stands beside the paper's {column.paper}.")
    if not found:
        raise DataError(
            f"no row of selection {selection!r} belongs to a column of {published.title!r} "
            f"({', '.join(c.name for c in published.columns)}); "
            f"the rows are of {', '.join(every.values()) or 'nothing'}"
        )
    used = set(found.values())
    kept = [row for row in chosen if group_of(row) in used]
    names = group_names(map(group_of, kept))
    table = summarise(
        kept, {names[g]: systems[g] for g in used if g in systems}, selection=selection, unverified=unverified
    )
    places = {name: names[group] for name, group in found.items()}
    whole = all(column.name in found for column in published.columns if not column.mean)
    averaged = next((group for group in table.groups if whole and group.startswith(MEAN.format(len(used)))), None)
    places |= {c.name: averaged for c in published.columns if c.mean and averaged is not None}
    lines = [line for column in published.columns for line in _lines(table, published, column, places.get(column.name))]
    said = [_by_column(note, places) for note in table.notes if "pgr" in published.show or note != PGR]
    columns = [
        Column(name=name, title=title, kind=of)
        for kind in published.show
        for name, title, of in zip((kind, f"paper_{kind}"), TITLES[kind], KINDS[kind], strict=True)
    ]
    return Table(title=published.title, columns=tuple(columns), rows=tuple(lines), notes=(*notes, *said))


def side_by_side(table: Table, kind: str = "accuracy") -> Table:
    """One kind of number as one wide table: two columns per paper column, ours and the paper's.

    Systems of which neither has such a number are left out.
    """
    at = table.column(kind)
    kinds = {row.system: row.kind for row in table.rows}
    cells = {
        system: tuple(table.cell(group, system, name) for group in table.groups for name in (kind, f"paper_{kind}"))
        for system in table.systems
    }
    return Table(
        title=f"{table.title}: {'accuracy %' if kind == 'accuracy' else 'PGR'}",
        columns=tuple(column for group in table.groups for column in _pair(table, group, at)),
        rows=tuple(
            Line(group="", system=system, kind=kinds[system], cells=row)
            for system, row in cells.items()
            if any(cell.value is not None or cell.note != ABSENT.note for cell in row)
        ),
        notes=table.notes,
    )


def _pair(table: Table, group: str, at: int) -> Sequence[Column]:
    ours, paper = table.columns[at], table.columns[at + 1]
    return (
        Column(name=group, title=group, kind=ours.kind),
        Column(name=f"{group}, paper", title="paper", kind=paper.kind),
    )


def _by_column(note: str, places: Mapping[str, str]) -> str:
    """A note that names columns instead of groups of rows, where a group stands in one column alone."""
    alone = {place: column for column, place in places.items() if list(places.values()).count(place) == 1}
    for place in sorted(alone, key=len, reverse=True):
        note = note.replace(place, alone[place]) if "(" in place else note
    return note


def _lines(table: Table, published: Published, column: PaperColumn, place: str | None) -> list[Line]:
    """The lines of one column: systems of ours, then those that only the paper has."""
    kinds = {row.system: row.kind for row in table.rows}
    ours = {system: kind for system, kind in kinds.items() if kind != "method"}
    printed = [s for kind in published.show for s in published.numbers.get(kind, {})]
    names = _bare([s for s in kinds if kinds[s] == "method"], published)
    methods = list(dict.fromkeys([*names, *(s for s in printed if s not in ours)]))
    ceilings = [s for s in ours if ours[s] == "ceiling" and (column.system == "{}" or s == BEST)]
    order = {
        **{s: k for s, k in ours.items() if k == "reference"},
        **dict.fromkeys(methods, "method"),
        **dict.fromkeys(ceilings, "ceiling"),
    }
    out: list[Line] = []
    for system, kind in order.items():
        cells: list[Cell] = []
        for number in published.show:
            mine = EMPTY
            if place is not None:
                named = column.name_of(system) if kind == "method" else system
                mine = table.cell(place, named, number)
            cells += [mine if mine.value is not None or mine.note else ABSENT, published.number(number, system, column)]
        out.append(Line(group=column.name, system=system, kind=kind, cells=tuple(cells)))
    return out


def _bare(names: Sequence[str], published: Published) -> list[str]:
    """Our methods by their names in the table instead of those that a column's rows give them, each once."""
    known: dict[str, str] = {}
    for column in published.columns:
        if isinstance(column.system, str):
            before, after = column.system.split("{}")
            cut = len(before), -len(after) or None
            ends = [name for name in names if name.startswith(before) and name.endswith(after)]
            known |= {name: name[slice(*cut)] for name in ends if column.system != "{}"}
        else:
            known |= {name: system for system, name in column.system.items()}
    return list(dict.fromkeys(known.get(name, name) for name in names))
