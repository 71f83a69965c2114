"""Units of work: functions of plain JSON values, whose results lie in the shared cache or in a folder of results.

A unit may be done twice (its worker was killed, or thought dead): the result is the same, and is written once whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from w2s_fast.core import rows
from w2s_fast.core.shares import Share
from w2s_fast.core.specs import Scalar
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.studies.written import beside, keep, to_values
from w2s_fast.tasks.extraction import extract_all

Unit = Mapping[str, Any]
FIT, EXTRACT = "w2s_fast.launch.units:fit_unit", "w2s_fast.launch.units:extract_part"


def fit_units(experiment: Experiment, out: str | Path) -> list[dict[str, Any]]:
    """One unit per task of an experiment (data set x strong x weak, all seeds), for `fit_unit`."""
    asked, count = to_values(experiment), sum(1 for _ in experiment.points())
    cache = None if experiment.cache is None else str(experiment.cache)
    folder = str(Path(out).absolute())
    return [{"asked": asked, "unit": number, "units": count, "cache": cache, "out": folder} for number in range(count)]


def fit_unit(unit: Unit) -> dict[str, Any]:
    """Fit one task of an experiment and leave its rows, predictions and experiment in the folder `out`.

    unit: `asked` (an experiment's options), `unit` of `units`, `cache` or None, `out`. Gives the file's name, its rows
    and how many of them diverged; a file that is there already is not made again. Errors are those of `Experiment.of`
    and of the fits.
    """
    experiment = Experiment.of(unit["asked"], cache=unit["cache"])
    share = Share(index=int(unit["unit"]), count=int(unit["units"]))
    name = f"{experiment.digest[:12]}-{share.index:05d}-of-{share.count:05d}.jsonl"
    folder = Path(unit["out"])
    if (folder / name).exists():
        return {"file": name, **_counts(rows.read(folder / name))}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unit-") as draft:
        file = Path(draft) / name
        made = [row for results in Study.of(experiment, share=share).fit() for row in results.save(file)]
        keep(experiment, file)
        publish(file, folder)
    return {"file": name, **_counts(made)}


def _counts(made: Iterable[rows.Row]) -> dict[str, int]:
    states = [row.get("status") for row in made]
    return {"rows": len(states), "diverged": sum(state != "ok" for state in states)}


def publish(file: Path, folder: Path) -> None:
    """Move a results file and what lies beside it into a folder; the rows last, so that what they name is there."""
    for beside_it in (file.with_name(f"{file.name}.preds"), beside(file)):
        if beside_it.exists():
            target = folder / beside_it.name
            target.mkdir(exist_ok=True)
            for one in beside_it.iterdir():
                shutil.move(one, target / one.name)
    file.replace(folder / file.name)


def extract_units(asked: Mapping[str, Any], count: int, *, cache: str | Path | None = None) -> list[dict[str, Any]]:
    """`count` units that share the parts of an extraction, for `extract_part`; asked: what `extract_part` takes."""
    named = None if cache is None else str(cache)
    return [{**asked, "part": number, "parts": count, "cache": named} for number in range(count)]


def extract_part(unit: Unit) -> dict[str, Any]:
    """Make those parts of banks whose numbers leave `part` when divided by `parts`; who makes the last completes them.

    unit: `data` and `models` (names), `options` (fields of `ExtractOptions`), `reading` (root, identity, class_names,
    templates), `part` of `parts`, `cache` or None. Gives parts made, parts that others still owe, and images not read.
    """
    options: dict[str, Scalar] = dict(unit.get("options") or {})
    records = list(
        extract_all(
            unit["data"],
            unit["models"],
            options=ExtractOptions(**options),  # type: ignore[arg-type] - checked by the extraction
            cache=unit["cache"],
            share=Share(index=int(unit["part"]), count=int(unit["parts"])),
            **(unit.get("reading") or {}),
        )
    )
    totals = {key: sum(record[key] for record in records) for key in ("made_parts", "missing", "failures")}
    return {**totals, "banks": sorted({str(record["key"]) for record in records if record["digest"]})}


def function_of(name: str) -> Callable[[Unit], dict[str, Any]]:
    """The function that "module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
