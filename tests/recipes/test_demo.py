"""The demo on two domains: it runs offline, says what it found, writes its files, and CPL is far above weak there."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from w2s_fast.recipes import demo


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> demo.Story:
    root = tmp_path_factory.mktemp("demo")
    return demo.run(out=root / "out", data=("drawn:real", "drawn:painting"), cache=root / "cache")


def test_cpl_is_above_weak_where_the_margin_is_wide(told: demo.Story) -> None:
    for domain in ("real", "painting"):
        gain = told.results.compare("cpl", "weak")[domain]
        assert gain.low > 0.05, (domain, gain)


def test_every_row_of_the_table_is_there(told: demo.Story) -> None:
    for domain in ("real", "painting"):
        systems = {row.system for row in told.table.rows if row.group == domain}
        expected = {"weak", "zero-shot", "fusion", *demo.METHODS, "ceiling+lp", "ceiling+proto", "best ceiling"}
        assert systems == expected
    cpl = told.table.cell("real", "cpl", "accuracy")
    rows = [r for r in told.results.rows if (r["domain"], r["method"], r["selection"]) == ("real", "cpl", "last")]
    assert cpl.value == pytest.approx(np.mean([r["acc_w2s"] for r in rows])) and cpl.half is not None
    assert sorted(r["seed"] for r in rows) == sorted(r["weak_seed"] for r in rows) == [0, 1, 2, 3, 4]


def test_what_it_says_agrees_with_the_intervals(told: demo.Story) -> None:
    for claim in told.claims:
        difference = told.results.compare(claim.better, claim.worse)[claim.domain]
        assert claim.difference == difference
        assert (claim.holds == "yes") == (difference.low > 0)
    assert any("cpl > kd+lp > ce+lp > weak" in sentence for sentence in told.said)


def test_its_files_are_whole(told: demo.Story) -> None:
    lines = told.files["rows"].read_text().splitlines()
    assert len(lines) == len(told.results.rows)
    assert {json.loads(line)["status"] for line in lines} == {"ok"}
    assert "best ceiling" in told.files["table"].read_text()
    assert ET.parse(told.files["picture"]).getroot().tag.endswith("svg")
    kept = {json.loads(line)["preds"].partition("#")[0] for line in lines}
    assert all((Path(told.files["rows"]).parent / name).is_file() for name in kept)
