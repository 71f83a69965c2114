"""What tables and listings look like: brackets stay, names and numbers keep their lines, reasons go to the notes."""

import pytest
from w2s_fast_cli.output import Output

from w2s_fast.results.summary import Cell, Column, Line, Table, text

REASON = "n/a: open_clip:ViT-B-32/openai has no text tower that knows the class name 'Eyjafjallajökull'"
LONG = "kd+lp[lr=0.01, weight_decay=0.0001]"


def table(*systems: str, groups: tuple[str, ...] = ("sketch",)) -> Table:
    """A table like `summarise` makes, with a zero-shot reference that is not there."""
    number = Cell(value=0.731, low=0.722, high=0.74)
    ratio = Cell(value=0.84, low=0.72, high=0.96)
    lines = [
        Line(
            group=group,
            system=system,
            kind="reference" if system == "zero-shot" else "method",
            cells=(Cell(note=REASON), Cell(), Cell(), Cell(value=0))
            if system == "zero-shot"
            else (number, ratio, Cell(note="ceiling < weak"), Cell(value=5)),
        )
        for group in groups
        for system in ("zero-shot", *systems)
    ]
    columns = (("accuracy", "accuracy", "accuracy"), ("pgr", "PGR", "ratio"), ("pgr_zs", "PGR zs", "ratio"))
    return Table(
        title="Selection [last]",
        columns=tuple(Column(name=n, title=t, kind=k) for n, t, k in (*columns, ("runs", "runs", "count"))),
        rows=tuple(lines),
        notes=(f"{REASON}.",),
    )


@pytest.mark.parametrize("width", [70, *range(76, 90), 100, 140])
def test_names_keep_their_brackets_and_numbers_their_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    Output().table(table(LONG, "cpl"))
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= width
    assert "Selection [last]" in out
    flat = [line.strip() for line in out.splitlines()]
    row = next(line for line in flat if line.startswith("kd+lp["))
    assert "73.1 ±0.9" in row and all(number in out for number in ("0.84 ±0.12", "ceiling < weak"))
    assert row.startswith(LONG) or width < 2 * len(LONG) + 10
    assert width < 100 or ("0.84 ±0.12" in row and "ceiling < weak" in row)
    shown = next(line for line in flat if line.startswith("zero-shot"))
    assert "n/a" in shown and "tower" not in shown
    assert "Eyjafjallajökull" in out


def test_several_domains_side_by_side(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    groups = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch", "mean of 6 domains")
    Output().table(table("aux_argmax+lp", "cpl", groups=groups))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    row = next(line for line in lines if line.startswith("aux_argmax+lp"))
    assert row.count("73.1 ±0.9") >= 6
    rows = [line for line in lines if line.startswith("aux_argmax+lp")]
    assert sum(row.count("73.1 ±0.9") for row in rows) == sum(row.count("0.84 ±0.12") for row in rows) == len(groups)


def test_listings_take_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Output().grid("all [bold]", ["a[b]"], [["kd+lp[lr=0.01]"], ["[/]"]])
    out = capsys.readouterr().out
    assert all(word in out for word in ("all [bold]", "a[b]", "kd+lp[lr=0.01]", "[/]"))


def test_a_sentence_is_no_cell() -> None:
    assert text(Cell(note=REASON), "accuracy") == "n/a"
    assert text(Cell(note="gap ≤ 2 SE"), "ratio") == "gap ≤ 2 SE"
    assert text(Cell(), "ratio") == "–"
