"""The SVG is valid, complete, self-contained, and no two of its texts collide."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
import report_worlds
from hypothesis import given, settings
from hypothesis import strategies as st
from report_worlds import RATES, world

from w2s_fast.core.errors import DataError
from w2s_fast.report.picture import to_svg
from w2s_fast.report.svg import fitted, text_width, wrapped
from w2s_fast.results.summary import Cell, Column, Line, Table, summarise, text

NS = "{http://www.w3.org/2000/svg}"
DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
MANY = {**RATES, "aux+lp": 0.5, "aux_argmax+lp": 0.61, "adapt+lp": 0.665}


def full(monkeypatch: pytest.MonkeyPatch) -> Table:
    for name in ("aux+lp", "aux_argmax+lp", "adapt+lp"):
        monkeypatch.setitem(report_worlds.HEADS, name, "linear")
    rows, systems = world(DOMAINS, rates=MANY, n=200, seeds=3)
    return summarise(rows, systems, replicates=100)


def boxes(root: ElementTree.Element) -> list[tuple[str, float, float, float, float]]:
    """(text, left, top, right, bottom) of every text, by the generous estimate of widths."""
    out = []
    for element in root.iter(f"{NS}text"):
        words, size = element.text or "", float(element.get("font-size", 0))
        x, y, width = float(element.get("x", 0)), float(element.get("y", 0)), text_width(words, size)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
        out.append((words, left, y - 0.8 * size, left + width, y + 0.25 * size))
    return out


def collisions(root: ElementTree.Element) -> list[tuple[str, str]]:
    return [
        (a[0], b[0])
        for a, b in itertools.combinations(boxes(root), 2)
        if min(a[3], b[3]) > max(a[1], b[1]) and min(a[4], b[4]) > max(a[2], b[2])
    ]


def test_six_domains_and_eleven_systems_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    table = full(monkeypatch)
    root = ElementTree.fromstring(to_svg(table))
    assert collisions(root) == []
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(b[1] >= 0 and b[3] <= width and b[2] >= 0 and b[4] <= height for b in boxes(root))
    assert min(float(e.get("font-size", 0)) for e in root.iter(f"{NS}text")) >= 11
    words = [b[0] for b in boxes(root)]
    for domain in DOMAINS:
        assert words.count(domain) == 1
    assert words.count("accuracy, %") == 6
    assert words.count("cpl") == 2
    for line in table.rows:
        if line.group in DOMAINS:
            assert text(line.cells[0], "accuracy") in words


def test_dots_stand_where_their_values_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the axis back from its tick labels, and every accuracy from its dot."""
    table = full(monkeypatch)
    root = ElementTree.fromstring(to_svg(table))
    ticks = [
        (float(e.get("x", 0)), float(e.get("y", 0)), float(e.text or 0))
        for e in root.iter(f"{NS}text")
        if e.get("text-anchor") == "middle" and re.fullmatch(r"[\d.]+", e.text or "")
    ]
    marks = [e for e in root.iter() if e.tag in (f"{NS}circle", f"{NS}rect", f"{NS}polygon") and len(e)]
    checked = 0
    for mark in marks:
        title = mark[0].text or ""
        found = re.fullmatch(r"(\w+), (.+): .* %", title)
        if not found:
            continue
        x, y = _centre(mark)
        below = min(t[1] for t in ticks if t[1] > y)
        mine = sorted(t for t in ticks if t[1] == below)
        heading = next(e for e in root.iter(f"{NS}text") if e.text == found[1])
        left = float(heading.get("x", 0))
        mine = [t for t in mine if left - 1 <= t[0] <= left + 200]
        (x0, _, v0), (x1, _, v1) = mine[0], mine[-1]
        value = v0 + (x - x0) * (v1 - v0) / (x1 - x0)
        cell = table.cell(found[1], found[2], "accuracy")
        assert cell.value is not None
        assert value == pytest.approx(100 * cell.value, abs=0.02)
        checked += 1
    assert checked == 6 * len(table.systems)


def _centre(mark: ElementTree.Element) -> tuple[float, float]:
    if mark.tag == f"{NS}circle":
        return float(mark.get("cx", 0)), float(mark.get("cy", 0))
    if mark.tag == f"{NS}rect":
        half = float(mark.get("width", 0)) / 2
        return float(mark.get("x", 0)) + half, float(mark.get("y", 0)) + half
    points = [tuple(map(float, p.split(","))) for p in mark.get("points", "").split()]
    return sum(p[0] for p in points) / 4, sum(p[1] for p in points) / 4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_any_number_of_domains(count: int) -> None:
    rows, systems = world([f"domain {n}" for n in range(count)], n=60, seeds=2)
    for correct in (systems, None):
        root = ElementTree.fromstring(to_svg(summarise(rows, correct, replicates=50)))
        assert collisions(root) == []


def test_it_loads_nothing_and_has_its_own_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    source = to_svg(full(monkeypatch))
    root = ElementTree.fromstring(source)
    assert not re.search(r"href|url\(|<script|<style|<image|@import|on\w+=", source)
    assert root.get("role") == "img"
    assert root[0].tag == f"{NS}title" and root[1].tag == f"{NS}desc"
    assert (root[2].tag, root[2].get("fill")) == (f"{NS}rect", "#ffffff")
    assert (root[2].get("width"), root[2].get("height")) == (root.get("width"), root.get("height"))
    assert len(source) < 100_000


def tiny(system: str, group: str, cell: Cell) -> Table:
    return Table(
        title=group,
        columns=(
            Column(name="accuracy", title="accuracy %", kind="accuracy"),
            Column(name="pgr", title="PGR", kind="ratio"),
        ),
        rows=(
            Line(group=group, system=system, kind="method", cells=(cell, Cell(note="gap ≤ 2 SE"))),
            Line(group=group, system="weak", kind="reference", cells=(Cell(value=0.5), Cell())),
        ),
        notes=(system,),
    )


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_name_gives_valid_xml_without_collisions(system: str, group: str) -> None:
    root = ElementTree.fromstring(to_svg(tiny(system, group, Cell(value=0.7, low=0.6, high=0.8))))
    assert [c for c in collisions(root) if c[0].strip() and c[1].strip()] == []


@pytest.mark.parametrize(
    "cell",
    [
        Cell(value=0.5),
        Cell(value=0.0, low=0.0, high=0.0),
        Cell(value=1.0, low=1.0, high=1.0),
        Cell(value=0.9, low=-3.0, high=5.0),
        Cell(note="n/a: this encoder has no text tower, and the reason for it is long-winded"),
    ],
)
def test_extreme_cells_stay_inside(cell: Cell) -> None:
    root = ElementTree.fromstring(to_svg(tiny("kd+lp", "clipart", cell)))
    width = float(root.get("width", 0))
    for line in root.iter(f"{NS}line"):
        assert 0 <= float(line.get("x1", 0)) <= float(line.get("x2", 0)) <= width
    assert collisions(root) == []


def test_nothing_to_draw() -> None:
    table = Table(title="t", columns=(Column(name="accuracy", title="a", kind="accuracy"),), rows=())
    with pytest.raises(DataError, match="no accuracy to draw"):
        to_svg(table)


@settings(deadline=None)
@given(st.text(max_size=80), st.floats(20, 300))
def test_text_is_cut_and_wrapped_to_width(words: str, width: float) -> None:
    assert text_width(fitted(words, 11, width), 11) <= width
    assert all(text_width(line, 11) <= width for line in wrapped(words, 11, width))
    if all(text_width(word, 11) <= width for word in words.split()):
        assert " ".join(wrapped(words, 11, width)).split() == words.split()
