"""Recipes: a paper's table as a file, with what to run, on which data, and the numbers that the paper printed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from w2s_fast.backbones import libraries, library
from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.report.comparison import NUMBERS, PaperColumn, Published
from w2s_fast.results.summary.notes import SELECTIONS
from w2s_fast.studies.experiment import Experiment

SHIPPED = Path(__file__).parent
SCALES = ("full", "drawn")
AXES = ("data", "strong", "weak")
"""Keys of a scale that may be a table label -> name, so that its labels are columns (or lines) of the table."""
ROOT = "{root}"
NONE = "n/a"
"""What a file writes where the paper has no number."""
KEYS = (
    "title", "source", "place", "slips", "open", "columns", "lines", "values", "show", "selection", "paper",
    "supervisors", *SCALES,
)  # fmt: skip
OWN = ("labels", "compared_with")
"""Keys of a scale that are not those of an experiment."""


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What one scale of a recipe asks, the labels of its axes, and which paper column each label stands for.

    asked: options of an `Experiment`. labels: axis -> label -> name as it is asked for (`{root}` unresolved).
    compared_with: our label -> the paper's column.
    """

    asked: Mapping[str, Any]
    labels: Mapping[str, Mapping[str, str]]
    compared_with: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One table of a paper.

    columns: the axis that the table's columns are (`data`, `strong`, `weak`), or `values`, whose columns are the
    systems under the names that `values` gives them (`{}` stands for a system, or a name for each).
    lines: None for a table of systems, `weak` for a matrix weak x strong.
    supervisors: name -> `model`, `seeds` and fields of a weak recipe, for the `weak:NAME` that the scales use.
    paper: kind (accuracy, pgr) -> system -> one fraction or None per paper column. average: whether the paper's column
    of that name may be shown; it is where a column of ours stands beside each of its others. selection: what the
    paper selected epochs by, which tables show. text: the whole file.
    """

    name: str
    title: str
    source: str
    text: str
    columns: str
    scales: Mapping[str, Scale]
    place: str = ""
    slips: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    lines: str | None = None
    values: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict[str, Any])
    show: tuple[str, ...] = ("accuracy",)
    selection: str = "last"
    paper_columns: tuple[str, ...] = ()
    average: bool = True
    paper: Mapping[str, Mapping[str, tuple[float | None, ...]]] = field(default_factory=dict[str, Any])
    supervisors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])

    @staticmethod
    def read(name: str | Path) -> Recipe:
        """The recipe of that name, or of a TOML file; `UsageError` for an unknown name, or naming the file and key."""
        path = SHIPPED / f"{name}.toml" if str(name) in shipped() else Path(name)
        if path.suffix != ".toml":
            raise UsageError(f"unknown recipe {str(name)!r}, and it is no .toml file{nearest(str(name), shipped())}")
        try:
            text = path.read_text(encoding="utf-8-sig")
            found = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"cannot read the recipe {path}: {why}{nearest(path.stem, shipped())}") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not TOML: {error}") from None
        return Recipe.of(found, name=path.stem, text=text, where=str(path))

    @staticmethod
    def of(values: Mapping[str, Any], *, name: str, text: str = "", where: str = "recipe") -> Recipe:
        """The recipe of a table of values, checked key by key."""
        _known(values, KEYS, where)
        for key in ("title", "source", "columns"):
            if not isinstance(values.get(key), str):
                raise UsageError(f"{where}: {key} must be a string, not {values.get(key)!r}")
        columns = values["columns"]
        if columns not in (*AXES, "values"):
            raise UsageError(f"{where}: columns {columns!r} is not an axis{nearest(columns, (*AXES, 'values'))}")
        selection = values.get("selection", "last")
        if selection not in SELECTIONS:
            raise UsageError(f"{where}: selection {selection!r} is none{nearest(str(selection), SELECTIONS)}")
        paper = dict(values.get("paper", {}))
        paper_columns = tuple(paper.pop("columns", ()))
        scales = {one: _scale(values[one], f"{where}, [{one}]") for one in SCALES if one in values}
        if not scales:
            raise UsageError(f"{where}: there is neither a table [full] nor a table [drawn]")
        return Recipe(
            name=name,
            title=values["title"],
            source=values["source"],
            text=text,
            columns=columns,
            scales=scales,
            place=values.get("place", ""),
            slips=tuple(values.get("slips", ())),
            open=tuple(values.get("open", ())),
            lines=values.get("lines"),
            values=values.get("values", {}),
            show=tuple(values.get("show", ("accuracy",))),
            selection=selection,
            paper_columns=paper_columns,
            paper={kind: _numbers(kind, table, paper_columns, where) for kind, table in paper.items()},
            supervisors=values.get("supervisors", {}),
        )

    def scale(self, name: str) -> Scale:
        """That scale; `UsageError` for one that the recipe does not have."""
        if name not in self.scales:
            raise UsageError(f"{self.name} has no scale {name!r}{nearest(name, self.scales)}")
        return self.scales[name]

    def record(self) -> dict[str, Any]:
        """What a listing says of it."""
        return {
            "recipe": self.name,
            "title": self.title,
            "source": self.source,
            "scales": list(self.scales),
            "numbers": sum(
                value is not None for table in self.paper.values() for row in table.values() for value in row
            ),
        }

    def only(self, labels: tuple[str, ...], *, scale: str) -> Recipe:
        """The recipe with these columns alone; `UsageError` for a label that is not a column."""
        if not labels:
            return self
        one = self.scale(scale)
        if self.columns == "values":
            raise UsageError(f"{self.name}: its columns are settings of one run; --only has nothing to choose from")
        known = one.labels[self.columns]
        for label in labels:
            if label not in known:
                raise UsageError(f"{self.name} has no column {label!r} at scale {scale}{nearest(label, known)}")
        kept = {label: known[label] for label in known if label in labels}
        asked = {**one.asked, self.columns: list(kept.values())}
        chosen = replace(one, asked=asked, labels={**one.labels, self.columns: kept})
        return replace(self, scales={**self.scales, scale: chosen}, average=kept == known)

    def published(self, scale: str) -> Published:
        """The paper's numbers, and by which rows of that scale each column is ours."""
        one = self.scale(scale)
        place = {name: n for n, name in enumerate(self.paper_columns)}
        labels = self.values if self.columns == "values" else one.labels[self.columns]
        columns = [
            PaperColumn(
                name=label,
                where=self._where(one, label),
                system=self.values[label] if self.columns == "values" else "{}",
                paper=one.compared_with.get(label, label if label in place else None),
            )
            for label in labels
        ]
        if self.average and set(place) - {column.paper for column in columns} == {"average"}:
            columns.append(PaperColumn(name="average", mean=True, paper="average"))
        return Published(
            title=self.title,
            source=self.source,
            columns=tuple(columns),
            numbers={
                kind: {system: {c: row[place[c]] for c in place} for system, row in table.items()}
                for kind, table in self.paper.items()
            },
            show=self.show,
            notes=self._notes(scale),
        )

    def _where(self, scale: Scale, label: str) -> dict[str, tuple[str, ...]]:
        """Row key -> the globs that its value must match."""
        return {
            axis: tuple(
                glob for own, name in names.items() if axis != self.columns or own == label for glob in globs(name)
            )
            for axis, names in scale.labels.items()
        }

    def _notes(self, scale: str) -> tuple[str, ...]:
        told = [f"Source of the paper's numbers: {self.source}."] if self.paper else [f"Source: {self.source}."]
        if scale == "drawn":
            told.append(
                "This is the miniature on the embedded drawn data: the paper's numbers are of its own data and models, "
                "and only orderings can be compared."
            )
        return (*told, *(f"Slip in the source: {one}" for one in self.slips), *self.open)


def globs(name: str) -> tuple[str, ...]:
    """What a data set or model may be called in rows: under any root, and a model also from any weight file."""
    text = name.replace("[", "[[]").replace(ROOT, "*")
    prefix, _, rest = text.partition(":")
    if prefix not in libraries() or not library(prefix).files:
        return (text,)
    older = f"{prefix}:{rest.partition('/')[0]}/@*"  # results of versions that left the tag out
    return tuple(dict.fromkeys((text, f"{text}@*" if "/" in text else f"{text}/@*", older)))


def _scale(values: Mapping[str, Any], where: str) -> Scale:
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: it must be a table")
    found = {key: value for key, value in values.items() if key not in OWN}
    labels: dict[str, dict[str, str]] = {}
    for axis in AXES:
        given = found.get(axis)
        if given is None:
            raise UsageError(f"{where}: {axis} is missing; give a name, or a table of labels and names")
        names = [given] if isinstance(given, str) else given
        labels[axis] = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
        found[axis] = list(labels[axis].values())
    compared_with = values.get("compared_with", {})
    # the axes are checked when a root is known, and which model libraries there are
    Experiment.of({key: value for key, value in found.items() if key not in AXES}, where=where)
    return Scale(asked=found, labels=labels, compared_with=compared_with)


def _numbers(
    kind: str, table: Mapping[str, Any], columns: tuple[str, ...], where: str
) -> dict[str, tuple[float | None, ...]]:
    """The rows of one kind of number, as fractions; an accuracy is written in percent, a PGR as it is."""
    if kind not in NUMBERS:
        raise UsageError(f"{where}: [paper.{kind}] is not a kind of number{nearest(kind, NUMBERS)}")
    scale = 100.0 if kind == "accuracy" else 1.0
    out: dict[str, tuple[float | None, ...]] = {}
    for system, row in table.items():
        if not isinstance(row, list) or len(row) != len(columns):
            raise UsageError(f"{where}: [paper.{kind}] {system} needs {len(columns)} numbers, one per column")
        for value in row:
            if value != NONE and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise UsageError(f"{where}: [paper.{kind}] {system}: {value!r} is neither a number nor {NONE!r}")
        out[system] = tuple(None if value == NONE else float(value) / scale for value in row)
    return out


def _known(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{nearest(key, known)}")
