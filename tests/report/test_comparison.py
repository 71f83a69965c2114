"""Ours beside a paper's numbers: which rows stand in which column, what each cell says, and what is n/a."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from report_worlds import RATES, world

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import Row
from w2s_fast.report.comparison import PaperColumn, Published, comparison, side_by_side
from w2s_fast.report.tables import to_csv, to_markdown
from w2s_fast.results.summary import Group, Systems, Table, group_of, summarise

DOMAINS = ("clipart", "real")


def published(**changes: Any) -> Published:
    columns = [PaperColumn(name=d, where={"data": (f"*:{d}",)}, paper=d) for d in DOMAINS]
    whole = Published(
        title="A paper",
        source="someone",
        columns=(*columns, PaperColumn(name="average", mean=True, paper="average")),
        numbers={
            "accuracy": {
                "weak": {"clipart": 0.6715, "real": None, "average": None},
                "cpl": {"clipart": 0.731, "real": 0.8541, "average": 0.6474},
                "kd+tp": {"clipart": None, "real": None, "average": 0.6082},
            },
            "pgr": {"cpl": {"clipart": 0.67, "real": None, "average": None}},
        },
        show=("accuracy", "pgr"),
    )
    return replace(whole, **changes)


def both(rows: list[Row], systems: dict[str, Systems]) -> tuple[list[Row], dict[Group, Systems]]:
    return rows, {group_of(row): systems[row["domain"]] for row in rows}


@pytest.fixture(scope="module")
def made() -> tuple[Table, Table]:
    rows, systems = world((*DOMAINS, "sketch"))
    kept = [row for row in rows if row["domain"] in DOMAINS]
    return comparison(*both(rows, systems), published()), summarise(kept, systems)


def test_ours_are_the_summary_s_and_theirs_as_printed(made: tuple[Table, Table]) -> None:
    table, summary = made
    assert table.groups == (*DOMAINS, "average")
    for column, group in zip(table.groups, (*DOMAINS, "mean of 2 domains"), strict=True):
        for system in RATES:
            for kind in ("accuracy", "pgr"):
                ours, theirs = table.cell(column, system, kind), summary.cell(group, system, kind)
                assert ours.value == theirs.value and (ours.low, ours.high) == (theirs.low, theirs.high)
                assert (ours.note == "n/a") == (theirs.value is None and theirs.note is None)
    assert table.cell("clipart", "cpl", "accuracy").half is not None
    assert table.cell("average", "cpl", "paper_accuracy").value == 0.6474
    assert table.cell("real", "weak", "paper_accuracy").note == "n/a"
    assert table.cell("clipart", "cpl", "paper_pgr").value == 0.67
    assert table.cell("clipart", "zero-shot", "paper_accuracy").value is None


def test_systems_that_only_the_paper_has_are_there_without_ours(made: tuple[Table, Table]) -> None:
    table, _ = made
    assert table.cell("average", "kd+tp", "paper_accuracy").value == 0.6082
    assert table.cell("average", "kd+tp", "accuracy").note == table.cell("real", "kd+tp", "pgr").note == "n/a"
    assert table.systems.index("kd+tp") < table.systems.index("ceiling+lp")


def test_side_by_side_has_two_columns_per_column_and_the_paper_s_decimals(made: tuple[Table, Table]) -> None:
    table, summary = made
    wide = side_by_side(table)
    assert [column.title for column in wide.columns] == ["clipart", "paper", "real", "paper", "average", "paper"]
    value = 100 * (summary.cell("clipart", "cpl", "accuracy").value or 0)
    half = 100 * (summary.cell("clipart", "cpl", "accuracy").half or 0)
    lines = to_markdown(wide).splitlines()
    cpl = next(line for line in lines if line.startswith("| cpl |")).split(" | ")
    assert cpl[1:3] == [f"{value:.1f} ±{half:.1f}", "73.10"] and cpl[4] == "85.41"
    weak = next(line for line in lines if line.startswith("| weak |")).rstrip(" |").split(" | ")
    assert weak[2] == "67.15" and weak[4] == weak[6] == "n/a"
    ratio = next(line for line in to_markdown(side_by_side(table, "pgr")).splitlines() if line.startswith("| cpl |"))
    assert ratio.split(" | ")[2] == "0.67"
    header = to_csv(table).splitlines()[0]
    assert "accuracy,accuracy_low,accuracy_high,accuracy_note,paper_accuracy" in header


def test_an_average_needs_every_column() -> None:
    rows, systems = world(("clipart",))
    table = comparison(*both(rows, systems), published())
    assert table.cell("clipart", "cpl", "accuracy").value is not None
    for group in ("real", "average"):
        assert {table.cell(group, s, "accuracy").note for s in table.systems} == {"n/a"}
    assert table.cell("average", "cpl", "paper_accuracy").value == 0.6474


def test_an_average_over_some_columns_is_not_the_paper_s() -> None:
    third = PaperColumn(name="sketch", where={"data": ("*:sketch",)}, paper="sketch")
    *columns, average = published().columns
    rows, systems = world(DOMAINS)
    table = comparison(*both(rows, systems), published(columns=(*columns, third, average)))
    assert table.cell("real", "cpl", "accuracy").value is not None
    assert table.cell("average", "cpl", "accuracy").value is None
    rows, systems = world((*DOMAINS, "sketch"))
    table = comparison(*both(rows, systems), published(columns=(*columns, third, average)))
    assert table.cell("average", "cpl", "accuracy").value is not None


def test_of_several_groups_the_last_written_stands_in_a_column_and_a_note_names_the_other() -> None:
    rows, systems = world(DOMAINS)
    again = [row.copy() for row in world(DOMAINS, seed=3)[0]]
    for row in again:
        row["strong"] = "timm:other"
    table = comparison([*again, *rows], both(rows, systems)[1], published())
    mine = summarise(rows, systems)
    assert table.cell("real", "cpl", "accuracy").value == mine.cell("real", "cpl", "accuracy").value
    assert any(note.startswith("real: of real (drawn:clip") and "timm:other" in note for note in table.notes)
    only = tuple(replace(c, where={**c.where, "strong": ("timm:*",)}) for c in published().columns[:2])
    other = comparison([*again, *rows], {}, published(columns=only))
    assert other.cell("real", "cpl", "accuracy").value == summarise(again).cell("real", "cpl", "accuracy").value


def test_columns_may_be_values_of_a_setting() -> None:
    rates = {**{k: v for k, v in RATES.items() if "+" not in k and k != "cpl"}, "ceiling+lp": 0.8, "ceiling+proto": 0.8}
    rates |= {f"{name}[epochs={n}]": 0.6 + 0.02 * n for name in ("cpl", "kd+lp") for n in (1, 5)}
    rows, systems = world(("clipart",), rates=rates)
    columns = tuple(
        PaperColumn(name=f"{n} epochs", where={"data": ("*:clipart",)}, system=f"{{}}[epochs={n}]") for n in (1, 5)
    )
    table = comparison(*both(rows, systems), published(columns=columns, numbers={}, show=("accuracy",)))
    whole = summarise(rows, systems)
    for n in (1, 5):
        for name in ("cpl", "kd+lp"):
            expected = whole.cell("clipart", f"{name}[epochs={n}]", "accuracy")
            assert table.cell(f"{n} epochs", name, "accuracy") == expected and expected.value is not None
    assert table.systems == ("weak", "zero-shot", "fusion", "cpl", "kd+lp", "best ceiling")


def test_a_column_may_name_each_system_itself() -> None:
    rates = {**RATES, "kd+lp[csl(levels='1')]": 0.7, "kd+lp[csl]": 0.75}
    rows, systems = world(("clipart",), rates=rates)
    where = {"data": ("*:clipart",)}
    columns = (
        PaperColumn(name="1", where=where, system={"soft": "kd+lp[csl(levels='1')]"}, paper="1"),
        PaperColumn(name="8", where=where, system={"soft": "kd+lp[csl]"}),
    )
    numbers = {"pgr": {"soft": {"1": 0.568}}}
    table = comparison(*both(rows, systems), published(columns=columns, numbers=numbers, show=("pgr", "accuracy")))
    whole = summarise(rows, systems)
    assert table.cell("1", "soft", "pgr") == whole.cell("clipart", "kd+lp[csl(levels='1')]", "pgr")
    assert table.cell("8", "soft", "accuracy") == whole.cell("clipart", "kd+lp[csl]", "accuracy")
    assert table.cell("1", "soft", "paper_pgr").value == 0.568 and table.cell("8", "soft", "paper_pgr").note == "n/a"
    assert [s for s in table.systems if "csl" in s] == []
    ratios = side_by_side(table, "pgr")
    assert "weak" not in ratios.systems and "weak" in side_by_side(table).systems and "cpl" in ratios.systems


def test_rows_of_no_column_are_an_error_that_names_both() -> None:
    rows, systems = world(("sketch",))
    with pytest.raises(DataError, match="'A paper' .clipart, real, average.; the rows are of sketch"):
        comparison(*both(rows, systems), published())
