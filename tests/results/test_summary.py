"""The summary of `core.summary` (tested here, beside its made-up results): values, intervals, guards and notes."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from report_worlds import RATES, correctness, kept, rows_of, world

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.intervals import Resamples
from w2s_fast.core.rows import Row
from w2s_fast.results.summary import BEST, EMPTY, Cell, Systems, Table, summarise, text, wide

METHODS = ("ce+lp", "kd+lp", "cpl")


def mean(systems: Systems, name: str) -> float:
    return float(np.mean([run.mean() for run in systems.correct[name]]))


def notes(table: Table) -> str:
    return "\n".join(table.notes)


@pytest.fixture(scope="module")
def two() -> tuple[list[Row], dict[str, Systems], Table]:
    rows, systems = world(("clipart", "sketch"))
    return rows, systems, summarise(rows, systems)


def test_accuracies_are_means_over_runs_of_the_kept_predictions(
    two: tuple[list[Row], dict[str, Systems], Table],
) -> None:
    _, systems, table = two
    assert table.groups == ("clipart", "sketch", "mean of 2 domains")
    assert table.domains == ("clipart", "sketch")
    assert table.systems == ("weak", "zero-shot", "fusion", *METHODS, "ceiling+lp", "ceiling+proto", BEST)
    for domain in table.domains:
        for name in RATES:
            assert table.cell(domain, name, "accuracy").value == pytest.approx(mean(systems[domain], name), abs=1e-12)
            assert table.cell(domain, name, "runs").value == 5


def test_intervals_are_those_of_the_crossed_bootstrap(two: tuple[list[Row], dict[str, Systems], Table]) -> None:
    _, systems, table = two
    one = systems["sketch"]
    resamples = Resamples(one.items, seeds=one.seeds, weak_seeds=one.weak_seeds)
    means = {name: resamples.means(correct) for name, correct in one.correct.items()}
    for name in RATES:
        expected, cell = resamples.interval(means[name]), table.cell("sketch", name, "accuracy")
        assert (cell.low, cell.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    for name in METHODS:
        ceiling = "ceiling+proto" if name == "cpl" else "ceiling+lp"
        expected = resamples.pgr(means["weak"], means[name], means[ceiling])
        cell = table.cell("sketch", name, "pgr")
        assert expected.interval is not None
        assert cell.value == pytest.approx(expected.value, rel=1e-12)
        assert (cell.low, cell.high) == (pytest.approx(expected.interval.low), pytest.approx(expected.interval.high))


def test_the_best_ceiling_may_be_another_head_in_every_run(two: tuple[list[Row], dict[str, Systems], Table]) -> None:
    _, systems, table = two
    one = systems["clipart"]
    best = [max(one.correct["ceiling+lp"][r], one.correct["ceiling+proto"][r], key=np.mean) for r in range(5)]
    resamples = Resamples(one.items, seeds=one.seeds, weak_seeds=one.weak_seeds)
    means = {name: resamples.means(c) for name, c in {**one.correct, "best": best}.items()}
    expected = resamples.interval(means["best"])
    cell = table.cell("clipart", BEST, "accuracy")
    assert (cell.value, cell.low) == (pytest.approx(expected.estimate), pytest.approx(expected.low))
    for name in ("zero-shot", "fusion", *METHODS):
        ratio = resamples.pgr(means["weak"], means[name], means["best"])
        cell = table.cell("clipart", name, "pgr_best")
        assert ratio.interval is not None
        assert (cell.value, cell.high) == (pytest.approx(ratio.value), pytest.approx(ratio.interval.high))


def test_pgr_zs_starts_from_the_better_of_weak_and_zero_shot() -> None:
    for zero_shot, base in ((0.6, "zero-shot"), (0.5, "weak")):
        rows, systems = world(rates={**RATES, "zero-shot": zero_shot})
        table, one = summarise(rows, systems), systems["clipart"]
        gap = mean(one, "ceiling+lp") - mean(one, base)
        expected = (mean(one, "kd+lp") - mean(one, base)) / gap
        assert table.cell("clipart", "kd+lp", "pgr_zs").value == pytest.approx(expected)


def test_of_ceilings_with_one_accuracy_that_of_the_own_head_is_taken() -> None:
    """Only the intervals can tell them apart: the other head's ceiling is right on other items."""
    _, systems = world(seeds=2)
    correct = dict(systems["clipart"].correct)
    correct["ceiling+lp"] = [run[::-1].copy() for run in correct["ceiling+proto"]]
    one = kept(systems["clipart"].items, correct, [(0, 0), (1, 1)])
    rows = rows_of("clipart", one)
    resamples = one.resamples()
    means = {name: resamples.means(c) for name, c in correct.items()}
    for table in (summarise(rows, {"clipart": one}), summarise(rows[::-1], {"clipart": one})):
        for name, ceiling in (("cpl", "ceiling+proto"), ("kd+lp", "ceiling+lp")):
            expected = resamples.pgr(means["weak"], means[name], means[ceiling]).interval
            assert expected is not None
            assert table.cell("clipart", name, "pgr").low == pytest.approx(expected.low, rel=1e-9)


def test_the_mean_over_domains(two: tuple[list[Row], dict[str, Systems], Table]) -> None:
    _, systems, table = two
    group = table.groups[-1]
    one, other = (table.cell(d, "cpl", "accuracy") for d in table.domains)
    cell = table.cell(group, "cpl", "accuracy")
    assert one.value is not None and other.value is not None and one.half is not None and other.half is not None
    assert cell.value == pytest.approx((one.value + other.value) / 2)
    assert cell.half == pytest.approx(math.hypot(one.half, other.half) / 2)
    gains = [mean(s, "cpl") - mean(s, "weak") for s in systems.values()]
    gaps = [mean(s, "ceiling+proto") - mean(s, "weak") for s in systems.values()]
    ratio = table.cell(group, "cpl", "pgr")
    assert ratio.value == pytest.approx(sum(gains) / sum(gaps))
    assert ratio.half is not None
    assert table.cell(group, "cpl", "runs") == EMPTY
    assert "equal weight" in notes(table)


def test_the_median_counts_the_guarded() -> None:
    rows, systems = world()
    for row in rows:
        if row["method"] == "cpl" and row["seed"] in (1, 3):
            row["pgr"] = None
        if row["method"] == "kd+lp":
            row["pgr"] = None
    table = summarise(rows, systems)
    kept = [row["pgr"] for row in rows if row["method"] == "cpl" and row["pgr"] is not None]
    assert table.cell("clipart", "cpl", "pgr_median") == Cell(value=median(kept), note="2/5 guarded")
    assert table.cell("clipart", "kd+lp", "pgr_median") == Cell(note="5/5 guarded")


@pytest.mark.parametrize(
    ("gained", "lost", "note"),
    [(0, 20, "ceiling < weak"), (10, 10, "no gap"), (12, 8, "gap ≤ 2 SE"), (30, 0, None)],
)
def test_an_undefined_pgr_is_told_and_has_no_value(gained: int, lost: int, note: str | None) -> None:
    _, systems = world(seeds=3)
    correct, ceilings = dict(systems["clipart"].correct), []
    for weak in correct["weak"]:
        ceiling = weak.copy()
        ceiling[np.flatnonzero(~weak)[:gained]] = True
        ceiling[np.flatnonzero(weak)[:lost]] = False
        ceilings.append(ceiling)
    correct |= {"ceiling+lp": ceilings, "ceiling+proto": ceilings}
    one = kept(systems["clipart"].items, correct, [(0, 0), (1, 1), (2, 2)])
    rows = rows_of("clipart", one)
    table = summarise(rows, {"clipart": one})
    for column in ("pgr", "pgr_best"):
        cell = table.cell("clipart", "cpl", column)
        assert (cell.value is None) == (note is not None)
        assert cell.note == note
    bare = summarise(rows).cell("clipart", "cpl", "pgr")
    assert bare.note == (None if gained > lost else note)


def test_without_predictions_there_are_values_and_no_intervals() -> None:
    rows, systems = world(("clipart", "sketch"))
    table, full = summarise(rows), summarise(rows, systems)
    for line, other in zip(table.rows, full.rows, strict=True):
        assert all(cell.low is None for cell in line.cells)
        for cell, complete in zip(line.cells, other.cells, strict=True):
            assert cell.value == (None if complete.value is None else pytest.approx(complete.value))
    assert "No intervals: the kept predictions were not given." in notes(table)


def test_predictions_of_other_rows_give_no_interval() -> None:
    rows, systems = world()
    wrong = dict(systems["clipart"].correct)
    wrong["cpl"] = [~run for run in wrong["cpl"]]
    one = systems["clipart"]
    table = summarise(rows, {"clipart": kept(one.items, wrong, one.runs)})
    assert table.cell("clipart", "cpl", "accuracy").low is None
    assert table.cell("clipart", "cpl", "pgr").low is None
    assert table.cell("clipart", "kd+lp", "accuracy").low is not None
    assert "clipart: no interval for cpl; the kept predictions are not those of these rows." in table.notes
    elsewhere = kept(one.items, one.correct, [(seed + 10, weak) for seed, weak in one.runs])
    assert "are of other runs than the rows" in notes(summarise(rows, {"clipart": elsewhere}))


def test_rows_of_some_of_the_kept_runs_use_those_alone() -> None:
    rows, systems = world()
    some = [row for row in rows if row["seed"] in (1, 4)]
    table, one = summarise(some, systems), systems["clipart"].only([(4, 4), (1, 1)])
    expected = one.resamples()
    cell = table.cell("clipart", "cpl", "accuracy")
    assert cell.value == pytest.approx(mean(one, "cpl"))
    assert cell.half == pytest.approx(expected.interval(expected.means(one.correct["cpl"])).half, rel=0.1)


@pytest.mark.parametrize(
    ("seeds", "weak_seeds", "said", "components"),
    [
        (5, None, "5 seeds, a weak model per seed.", "items + seeds + weak models"),
        (3, 1, "3 seeds, one weak model (how weak models vary is not covered).", "items + seeds"),
        (2, 3, "2 seeds x 3 weak models.", "items + seeds + weak models"),
        (1, 1, "1 seed, one weak model (how weak models vary is not covered).", "items"),
    ],
)
def test_the_notes_say_what_is_covered(seeds: int, weak_seeds: int | None, said: str, components: str) -> None:
    rows, systems = world(seeds=seeds, weak_seeds=weak_seeds)
    table = summarise(rows, systems)
    assert said in table.notes
    few = any(1 < n <= 3 for n in (seeds, weak_seeds or 1))
    assert any("are few" in note for note in table.notes) == few
    assert any(note.endswith(f"which covers {components}.") for note in table.notes)
    ceilings = table.cell("clipart", "ceiling+lp", "runs").value
    assert ceilings == seeds
    assert table.cell("clipart", "cpl", "runs").value == seeds * (weak_seeds or 1)


@pytest.mark.parametrize(("rotated", "said"), [(True, "its own fold"), (False, "one test set for all seeds")])
def test_the_notes_say_which_split(rotated: bool, said: str) -> None:
    assert said in notes(summarise(*world(rotated=rotated)))


def test_a_sentence_that_holds_in_some_domains_names_them() -> None:
    rows, systems = world(("clipart", "sketch"))
    table = summarise(rows, {"clipart": systems["clipart"]})
    assert any(note.startswith("sketch: No intervals") for note in table.notes)
    assert any(note.startswith("clipart: Mean over runs") for note in table.notes)


def test_failed_runs_are_left_out_and_named() -> None:
    rows, systems = world(seeds=3)
    for row in rows:
        if row["method"] == "cpl" and row["seed"] == 1:
            row.update(status="diverged", acc_w2s=0.01)
        if row["method"] == "kd+lp" and row["seed"] == 2:
            row.update(acc_w2s=None)
    table = summarise(rows, systems)
    assert table.cell("clipart", "cpl", "runs").value == 2
    own = systems["clipart"].only([(0, 0), (2, 2)])
    expected = own.resamples().interval(own.resamples().means(own.correct["cpl"]))
    assert table.cell("clipart", "cpl", "accuracy").low == pytest.approx(expected.low), "an interval over its own runs"
    assert "clipart: left out: kd+lp seed 2 (no accuracy), cpl seed 1 (diverged)." in table.notes
    assert table.cell("clipart", "weak", "runs").value == 3


def test_configurations_of_one_method_are_never_mixed() -> None:
    rows, systems = world(seeds=2)
    changed = [Row(**{**row, "lr": 0.1, "run_id": row["run_id"] + "'"}) for row in rows if row["method"] == "kd+lp"]
    table = summarise([*rows, *changed], systems)
    assert {"kd+lp (lr=0.01)", "kd+lp (lr=0.1)", "cpl"} < set(table.systems)
    truth = [Row(**{**row, "supervision": "gt"}) for row in rows if row["method"] == "kd+lp"]
    assert {"kd+lp", "kd+lp (ground truth)"} < set(summarise([*rows, *truth], systems).systems)


def test_a_later_row_of_a_run_replaces_the_earlier() -> None:
    rows, _ = world(seeds=2)
    again = [Row(**{**row, "acc_w2s": 0.25}) for row in rows if row["method"] == "cpl"]
    cell = summarise([*rows, *again]).cell("clipart", "cpl", "accuracy")
    assert cell.value == 0.25


def test_two_encoders_of_one_domain_are_two_groups() -> None:
    rows, systems = world(seeds=2)
    other = rows_of("clipart", systems["clipart"], strong="drawn:other")
    table = summarise([*rows, *other], systems)
    assert table.domains == ("clipart (drawn:clip)", "clipart (drawn:other)")


def test_no_zero_shot_is_told_with_its_reason() -> None:
    systems = correctness(
        np.random.default_rng(0),
        [(0, 0), (1, 1)],
        n=100,
        rotated=True,
        rates=RATES,
    )
    rows = rows_of("digits", systems, acc_zero_shot=None, acc_fusion=None, note="n/a: no text tower")
    table = summarise(rows, {"digits": systems})
    assert table.cell("digits", "zero-shot", "accuracy") == Cell(note="n/a: no text tower")
    assert table.cell("digits", "cpl", "pgr_zs").value == table.cell("digits", "cpl", "pgr").value


def test_ceilings_alone_and_unverified_methods() -> None:
    rows, systems = world(seeds=2)
    alone = summarise([row for row in rows if row["method"].startswith("ceiling")])
    assert alone.cell("clipart", "ceiling+lp", "accuracy").value is not None
    table = summarise(rows, systems, unverified=("cpl", "raven"))
    assert "Not verified against the authors' code or text: cpl." in table.notes


def test_selections() -> None:
    rows, systems = world(seeds=2)
    best = [Row(**{**row, "selection": "test_best", "acc_w2s": 0.9}) for row in rows]
    table = summarise([*rows, *best], selection="test_best")
    assert table.cell("clipart", "cpl", "accuracy").value == 0.9
    assert "the test set itself" in notes(table)
    assert summarise([*rows, *best], systems).cell("clipart", "cpl", "accuracy").value != 0.9
    with pytest.raises(DataError, match=r"no result row has selection 'lsat'; did you mean 'last'"):
        summarise(rows, selection="lsat")
    with pytest.raises(DataError, match="there is no result row"):
        summarise([])


def test_wide_turns_groups_into_columns(two: tuple[list[Row], dict[str, Systems], Table]) -> None:
    _, _, table = two
    turned = wide(table, "pgr")
    assert [column.title for column in turned.columns] == ["clipart", "sketch", "mean of 2 domains"]
    assert turned.systems == table.systems
    assert turned.cell("", "cpl", "sketch") == table.cell("sketch", "cpl", "pgr")
    with pytest.raises(UsageError, match="no column 'prg'; did you mean 'pgr'"):
        wide(table, "prg")


def test_a_table_prints_aligned_and_gives_records(two: tuple[list[Row], dict[str, Systems], Table]) -> None:
    _, _, table = two
    blocks = str(table).split("\n\n")
    assert len(blocks) == 1 + 3 + 1
    for block in blocks[1:4]:
        assert len({len(line) for line in block.splitlines()}) == 1
    records = table.records()
    assert len(records) == len(table.rows)
    assert records[0]["system"] == "weak"
    assert records[0]["pgr"] is None
    assert records[0]["accuracy_low"] < records[0]["accuracy"] < records[0]["accuracy_high"]


@pytest.mark.parametrize(
    ("cell", "kind", "shown"),
    [
        (Cell(value=0.7314, low=0.7214, high=0.7414), "accuracy", "73.1 ±1.0"),
        (Cell(value=1.291, low=1.041, high=1.541), "ratio", "1.29 ±0.25"),
        (Cell(value=0.5, note="1/5 guarded"), "ratio", "0.50 (1/5 guarded)"),
        (Cell(value=5), "count", "5"),
        (Cell(value=-0.00001), "ratio", "0.00"),
        (Cell(note="gap ≤ 2 SE"), "ratio", "gap ≤ 2 SE"),
        (EMPTY, "ratio", "–"),
    ],
)
def test_cells_in_words(cell: Cell, kind: str, shown: str) -> None:
    assert text(cell, kind) == shown
