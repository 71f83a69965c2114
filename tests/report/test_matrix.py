"""Matrices weak x strong against the summary of each pair alone."""

from __future__ import annotations

import pytest
from report_worlds import world

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import Row
from w2s_fast.report.matrix import matrices
from w2s_fast.results.summary import Group, Systems, group_of, summarise

WEAK = {"small": ("weak:small", "weak:small/@*"), "large": ("weak:large",), "never run": ("weak:none",)}
STRONG = {"B/32": ("open_clip:B-32/openai", "open_clip:B-32/@*"), "L/14": ("open_clip:L-14",)}
PAIRS = {
    ("small", "B/32"): "open_clip:B-32/@/file",
    ("small", "L/14"): "open_clip:L-14",
    ("large", "B/32"): "open_clip:B-32/openai",
}


@pytest.fixture(scope="module")
def pairs() -> tuple[list[Row], dict[Group, Systems], dict[tuple[str, str], list[Row]]]:
    rows: list[Row] = []
    systems: dict[Group, Systems] = {}
    alone: dict[tuple[str, str], list[Row]] = {}
    for n, ((weak, strong), name) in enumerate(PAIRS.items()):
        made, kept = world(("clipart",), seed=n)
        for row in made:
            row["weak"], row["strong"] = f"weak:{weak}", name
        systems[group_of(made[0])] = kept["clipart"]
        alone[weak, strong] = made
        rows += made
    return rows, systems, alone


def test_each_cell_is_its_pair_s_summary(
    pairs: tuple[list[Row], dict[Group, Systems], dict[tuple[str, str], list[Row]]],
) -> None:
    rows, systems, alone = pairs
    ratio, accuracy = matrices(rows, systems, title="T", weak=WEAK, strong=STRONG, notes=["first"])
    assert [c.name for c in ratio.columns] == list(STRONG) and ratio.groups == ("ce+lp", "kd+lp", "cpl")
    assert [c.name for c in accuracy.columns] == ["weak alone", *STRONG]
    assert accuracy.groups[-1] == "best ceiling"
    for row in ratio.rows:
        for strong, cell in zip(STRONG, row.cells, strict=True):
            if (row.system, strong) not in alone:
                assert cell.value is None and cell.note == "n/a"
                continue
            mine = alone[row.system, strong]
            expected = summarise(mine, {"clipart": systems[group_of(mine[0])]}).cell("clipart", row.group, "pgr")
            assert cell == expected and cell.half is not None
    small = next(row for row in accuracy.rows if (row.group, row.system) == ("cpl", "small"))
    values = [r["acc_weak"] for r in alone["small", "B/32"] if r["method"] == "cpl"]
    assert small.cells[0].value == pytest.approx(sum(v or 0 for v in values) / len(values))
    assert not ratio.notes and accuracy.notes[0] == "first"
    assert len(accuracy.notes) == len(set(accuracy.notes)) and not any("open_clip" in note for note in accuracy.notes)


def test_rows_of_no_pair_are_an_error() -> None:
    rows, _ = world(("clipart",))
    with pytest.raises(DataError, match="no row of selection 'last' belongs to a pair of 'T'"):
        matrices(rows, {}, title="T", weak=WEAK, strong=STRONG)
