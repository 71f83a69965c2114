"""Rows from before rows said what measured them: their references and ceilings, found among what was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from w2s_fast.core.rows import Row
from w2s_fast.results.predictions import CEILING_SELECTION, Predictions
from w2s_fast.results.summary.domain import Group, group_of, is_ceiling

TOLERANCE = 1e-9
NAMES = {"weak": "weak", "zero-shot": "zero_shot", "fusion": "fusion"}


def completed(rows: Sequence[Row], kept: Mapping[Group, Predictions]) -> list[Row]:
    """The rows, of which those without `measured_by` get it from the kept predictions of their group.

    A ceiling is that of the same seed whose accuracy the row has, and where several have it that of the same head:
    old rows name it in no other way. Rows that say it themselves are left as they are.
    """
    ceilings: dict[tuple[Group, object, object], list[Row]] = {}
    for row in rows:
        if is_ceiling(row):
            ceilings.setdefault((group_of(row), row.get("seed"), row.get("selection")), []).append(row)
    return [row if "measured_by" in row else _completed(row, kept.get(group_of(row)), ceilings) for row in rows]


def _completed(
    row: Row, kept: Predictions | None, ceilings: Mapping[tuple[Group, object, object], Sequence[Row]]
) -> Row:
    found: dict[str, str | None] = {}
    seeds = (row.get("weak_seed"), None)
    for system in kept.systems if kept is not None else ():
        if system.role == "reference" and system.seed == row.get("seed") and system.weak_seed in seeds:
            found[NAMES.get(system.name, system.name)] = system.run_id
    if not is_ceiling(row):
        read = CEILING_SELECTION.get(str(row.get("selection")), "last")
        known = ceilings.get((group_of(row), row.get("seed"), read), ())
        found["ceiling"] = _of_accuracy(known, row.get("acc_ceiling"), row.get("head"))
        found["ceiling_best"] = _of_accuracy(known, row.get("acc_ceiling_best"), None)
    return Row(**{**row, "measured_by": found})  # type: ignore[typeddict-item]


def _of_accuracy(ceilings: Sequence[Row], accuracy: float | None, head: str | None) -> str | None:
    if accuracy is None:
        return None
    alike = [one for one in ceilings if abs((one.get("acc_w2s") or 0.0) - accuracy) <= TOLERANCE]
    own = [one for one in alike if _name(one.get("head")) == _name(head)]
    return next((one.get("run_id") for one in (*own, *alike)), None)


def _name(head: str | None) -> str:
    return str(head).partition("(")[0]
