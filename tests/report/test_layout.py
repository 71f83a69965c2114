"""Systems x domains in every format, chosen systems and columns, ranks, frames, and what a notebook shows."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from w2s_fast.core.errors import UsageError
from w2s_fast.core.intervals import Interval
from w2s_fast.report.frames import to_pandas, to_parquet, to_polars
from w2s_fast.report.layout import arranged, pages
from w2s_fast.report.ranking import ranks
from w2s_fast.report.tables import to_csv, to_latex, to_markdown
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Cell, Column, Line, Table


def table(names: tuple[str, ...] = ("weak", "a[lr=.1]", "b_1", "c", "ceiling+lp")) -> Table:
    values = {"clip": (0.5, 0.6, 0.8, 0.7, 0.9), "<draw>": (0.4, 0.7, 0.7, -0.1, 0.95)}
    kinds = ("reference", "method", "method", "method", "ceiling")
    return Table(
        title="results",
        columns=(
            Column(name="accuracy", title="accuracy %", kind="accuracy"),
            Column(name="pgr", title="PGR", kind="ratio"),
        ),
        rows=tuple(
            Line(
                group=group,
                system=name,
                kind=kind,
                cells=(
                    Cell(value=value, low=value - 0.01, high=value + 0.01),
                    Cell(value=None if kind != "method" else value / 2),
                ),
            )
            for group, row in values.items()
            for name, kind, value in zip(names, kinds, row, strict=True)
        ),
        notes=("a note",),
    )  # fmt: skip


def test_wide_pages_hold_every_number() -> None:
    accuracy, pgr = pages(table(), layout="wide")
    assert [c.title for c in accuracy.columns] == ["clip", "<draw>"]
    assert [row.system for row in pgr.rows] == ["a[lr=.1]", "b_1", "c"], "lines without a number are left out"
    assert (accuracy.notes, pgr.notes) == ((), ("a note",))
    for row in table().rows:
        assert accuracy.cell("", row.system, row.group) == row.cells[0]
    assert pages(table(), layout="blocks") == [table()]
    with pytest.raises(UsageError, match="did you mean 'wide'"):
        pages(table(), layout="wid")


def test_systems_and_columns_are_chosen_and_ordered() -> None:
    chosen = arranged(table(), systems=["c", "a[lr=.1]", "w*"], columns=["pgr"])
    assert [row.system for row in chosen.rows if row.group == "clip"] == ["c", "a[lr=.1]", "weak"]
    assert [c.name for c in chosen.columns] == ["pgr"]
    assert [row.system for row in pages(chosen, layout="wide")[0].rows] == ["c", "a[lr=.1]"]
    with pytest.raises(UsageError, match="no system 'd'"):
        arranged(table(), systems=["d"])
    with pytest.raises(UsageError, match="did you mean 'pgr'"):
        arranged(table(), columns=["prg"])


def test_ranks_by_hand() -> None:
    found = ranks(table())
    assert {k: v for k, v in found.items() if k[2] == 0} == {
        ("clip", "b_1", 0): 1, ("clip", "c", 0): 2, ("<draw>", "a[lr=.1]", 0): 1, ("<draw>", "b_1", 0): 1
    }  # fmt: skip
    assert not any(system in ("weak", "ceiling+lp") for _, system, _ in found)


def test_latex_marks_the_best_and_the_second_and_has_real_minus_signs() -> None:
    source = to_latex(pages(table(), layout="wide")[0])
    assert r"b\_1 & \textbf{80.0 $\pm$ 1.0} & \textbf{70.0 $\pm$ 1.0} \\" in source
    assert r"c & \underline{70.0 $\pm$ 1.0} & $-$10.0 $\pm$ 1.0 \\" in source
    assert "$<$draw$>$" in source


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    names = ("weak", "a_b%&#$^~{}\\", "±≤–", "c", "ceiling+lp")
    body = "".join(to_latex(page) for page in pages(table(names), layout="wide"))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    )
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_markdown_and_csv_of_wide_tables() -> None:
    page = pages(table(), layout="wide")[0]
    assert "| c | 70.0 ±1.0 | -10.0 ±1.0 |" in to_markdown(page)
    assert to_csv(page).splitlines()[0].startswith("domain,system,kind,clip,clip_low,clip_high,clip_note")


def test_frames_hold_the_records(tmp_path: Path) -> None:
    pandas, parquet = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    polars = pytest.importorskip("polars")
    records = table().records()
    frame = to_pandas(table())
    assert list(frame.columns) == list(records[0])
    assert frame.accuracy.tolist() == [r["accuracy"] for r in records]
    assert pandas.isna(frame.pgr[0])
    assert to_polars(table()).to_dicts() == records
    written = parquet.read_table(to_parquet(table(), tmp_path / "t.parquet"))
    assert written.to_pylist() == records
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.parquet"]
    rows = [{"a": 1, "b": {"x": 2}}, {"a": 1.5, "c": "y"}]
    assert polars.read_parquet(to_parquet(rows, tmp_path / "r.parquet")).to_dicts() == [
        {"a": 1.0, "b": '{"x": 2}', "c": None}, {"a": 1.5, "b": None, "c": "y"}
    ]  # fmt: skip


def test_a_notebook_shows_escaped_tables() -> None:
    html = table(("weak", "<script>x</script>", "b", "c", "ceiling+lp"))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;x" in html
    assert html.count("<tr>") == 1 + 2 + 10
    interval = Interval(estimate=0.5, low=0.4, high=0.6, se=0.05, components="items + seeds")
    assert "0.4000 to 0.6000" in interval._repr_html_()
    assert Results(rows=[])._repr_html_() == "no results"


def test_numbers_are_finite_in_frames() -> None:
    pytest.importorskip("pandas")
    frame = to_pandas([{"a": np.float64("nan")}, {"a": 1.0}])
    assert frame.a.isna().tolist() == [True, False]
    assert io.StringIO(frame.to_csv()).readline() == ",a\n"
