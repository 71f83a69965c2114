"""Recipes of whole networks: a table of a paper as pairs of teacher and student, methods, and a training.

Each scale of a file (`full`, `drawn`, `fashion`) names its data, its pairs, and what it changes in the training; a
pair's teacher is trained first, as `weak:NAME`, where the cache has none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2s_fast.backbones.weak import list_supervisors
from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.paths import cache_root
from w2s_fast.data import canonical
from w2s_fast.finetune.supervisors import train_supervisors
from w2s_fast.finetune.training import Training, known_fields
from w2s_fast.methods.networks import NetworkMethod, NetworkStudy
from w2s_fast.recipes.tables import by_group
from w2s_fast.report.comparison import PaperColumn, Published, comparison
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table

FOLDER = Path(__file__).parent
KEYS = ("title", "source", "note", "protocol", "methods", "training", "paper", "scales")
SCALE_KEYS = ("data", "root", "pairs", "seeds", "training", "weak", "methods")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A column of the table: label, teacher and student, and how the teacher is trained (None: it is there)."""

    label: str
    teacher: str
    student: str
    weak: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """A file of this folder, or one's own."""

    name: str
    table: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> NetworkRecipe:
        """The recipe of that name, or of a TOML file; `UsageError` for an unknown name or key."""
        path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
        if not path.is_file():
            raise UsageError(f"there is no recipe of networks {name!r}{nearest(name, shipped())}")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path}: {error}") from None
        for key in table:
            if key not in KEYS:
                raise UsageError(f"{path}: unknown key {key!r}{nearest(key, KEYS)}")
        for scale in table.get("scales", {}).values():
            for key in scale:
                if key not in SCALE_KEYS:
                    raise UsageError(f"{path}: unknown key {key!r} of a scale{nearest(key, SCALE_KEYS)}")
        return cls(name=path.stem, table=table)

    def record(self) -> dict[str, Any]:
        """What a listing shows."""
        return {"name": self.name, "title": self.table["title"], "scales": list(self.table["scales"])}

    def scale(self, name: str) -> Mapping[str, Any]:
        """The table of a scale."""
        scales = self.table["scales"]
        if name not in scales:
            raise UsageError(f"recipe {self.name} has no scale {name!r}; it has {', '.join(scales)}")
        return scales[name]

    def methods(self, scale: str) -> list[NetworkMethod]:
        """Its losses, with the paper's names."""
        found = self.scale(scale).get("methods") or self.table["methods"]
        return [
            NetworkMethod(
                label=label,
                loss=one["loss"],
                gt=float(one.get("gt", 1.0)),
                more={k: v for k, v in one.items() if k not in ("loss", "gt")},
            )
            for label, one in found.items()
        ]

    def studies(self, scale: str, *, root: Path | None = None, **more: Any) -> Iterator[tuple[Pair, NetworkStudy]]:
        """One study per pair. root: the folder of the data, or what `{root}` in their name stands for."""
        table = self.scale(scale)
        data = table["data"]
        if root is None and scale == "full":
            raise UsageError(f"scale {scale} of {self.name} reads {data}; give --data-root DIR")
        if "{root}" in data:
            data, root = data.replace("{root}", str(root)), None
        elif root is None and "root" in table:
            root = Path(table["root"])
        training = {**self.table.get("training", {}), **table.get("training", {})}
        for key in training:
            if key not in known_fields():
                raise UsageError(f"recipe {self.name}: a training has no {key!r}{nearest(key, known_fields())}")
        for label, names in table["pairs"].items():
            teacher, student = names
            trained = _named(teacher) != teacher
            weak = {"model": teacher, **table.get("weak", {})} if trained else None
            pair = Pair(label=label, teacher=_named(teacher), student=student, weak=weak)
            yield (
                pair,
                NetworkStudy(
                    data=data,
                    student=student,
                    teacher=pair.teacher,
                    methods=self.methods(scale),
                    training=Training(**training),
                    protocol=self.table.get("protocol", "official"),
                    **{"seeds": range(int(table.get("seeds", 3))), "root": root, **more},
                ),
            )

    def run(
        self,
        scale: str,
        *,
        say: Callable[[str], None],
        on_progress: Callable[[str, int, int], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> Iterator[Results]:
        """The results of each pair, its teacher trained first where it is not there."""
        for pair, study in self.studies(scale, **more):
            if pair.weak is not None:
                _train_teacher(pair, study, say=say, on_progress=on_progress, stopped=stopped)
            if stopped():
                return
            yield study.run(say=say, on_progress=on_progress, stopped=stopped)

    def published(self, scale: str) -> Published:
        """The paper's numbers, for the pairs of a scale that bear the labels of its columns."""
        paper = self.table["paper"]
        pairs = self.scale(scale)["pairs"]
        columns = paper["columns"]
        numbers = {
            system: {c: _fraction(v) for c, v in zip(columns, values, strict=True)}
            for system, values in paper["accuracy"].items()
        }
        truth = {method.name: f"{method.name} (ground truth)" for method in self.methods(scale) if method.gt > 0}
        shown = [
            PaperColumn(
                name=label,
                where={"strong": (_globbed(student),), "weak": (_named(teacher),)},
                system={"teacher": "weak", "student": "from scratch", **truth},
                paper=label if label in columns else columns[0],
            )
            for label, (teacher, student) in pairs.items()
        ]
        return Published(
            title=self.table["title"],
            source=self.table["source"],
            columns=tuple(shown),
            numbers={"accuracy": numbers},
            notes=tuple([self.table["note"]] if "note" in self.table else ()),
        )

    def compared(self, results: Results, scale: str, *, selection: str = "last") -> Table:
        """Ours beside the paper's."""
        systems = by_group(results, selection=selection)
        return comparison(results.rows, systems, self.published(scale), selection=selection)


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def _train_teacher(pair: Pair, study: NetworkStudy, **told: Any) -> None:
    assert pair.weak is not None
    name = pair.teacher.removeprefix("weak:")
    say = told.pop("say")
    cache = cache_root(study.cache)
    if any(one.name == name and one.data == canonical(study.data) for one in list_supervisors(cache)):
        return
    given = {k: v for k, v in pair.weak.items() if k not in ("model", "seeds")}
    seeds = range(int(pair.weak.get("seeds", 1)))
    say(f"training {pair.teacher} ({pair.weak['model']})")
    for record in train_supervisors(
        [study.data], model=str(pair.weak["model"]), name=name, seeds=seeds, recipe=given, device=study.device,
        root=study.root, cache=study.cache, **told,
    ):  # fmt: skip
        if record["status"] == "ok":
            say(f"{record['name']}: {record['acc_pool']:.1%} on the pool, {record['seconds']:.0f} s")


def _named(teacher: str) -> str:
    """The supervisor that stands for a teacher that is trained first; others are themselves."""
    if teacher.startswith(("weak:", "drawn:")):
        return teacher
    return "weak:" + teacher.partition(":")[2].partition("/@")[0].replace("/", "-")


def _globbed(text: str) -> str:
    return text.replace("[", "[[]")


def _fraction(value: Any) -> float | None:
    return None if isinstance(value, str) else float(value) / 100
