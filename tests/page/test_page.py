"""The page of results as text: its policy, its size, what hostile names become in it, the same bytes every time."""

import json
import re
from pathlib import Path

import pytest
from page_worlds import HOSTILE, hostile_task, rows

from w2s_fast.core.errors import DataError
from w2s_fast.diagnose import diagnose
from w2s_fast.report.page import columns
from w2s_fast.report.page.document import document, encoded, text
from w2s_fast.report.page.results_page import results_page
from w2s_fast.results.results import Results

PLACES = Path(__file__).resolve().parents[2] / "w2s_fast" / "report" / "page"


def hostile_page(folder: Path) -> str:
    """13 hostile texts as class, path, method, run name, title, note, axis and file name."""
    pair = hostile_task(folder)
    return results_page(
        Results(rows=rows(260, hostile=True)),
        title=HOSTILE[0],
        source=HOSTILE[8],
        tasks={HOSTILE[5]: pair},
        diagnoses={HOSTILE[3]: diagnose(pair[1], ("students", "confusion", "purity"))},
        remarks=HOSTILE,
        command=HOSTILE[7],
    )


def test_no_hostile_text_opens_or_ends_an_element(tmp_path: Path) -> None:
    page = hostile_page(tmp_path)
    assert page.count("<script") == page.count("</script>")
    assert set(re.findall(r"<script[^>]*>", page)) <= {
        "<script>", *re.findall(r'<script type="application/json" id="[a-z0-9-]+">', page)
    }  # fmt: skip
    assert page.count("<script>") == 1
    unquoted = re.sub(r'="[^"]*"', "", page)
    assert not re.search(r"<[a-z]+[^>]*\son", unquoted), "no element has a handler"
    assert not re.search(r"<svg", page)
    assert "onerror" not in re.sub(r"&lt;.*?&gt;|\\u003c.*?\\u003e", "", page)
    for raw in "\u2028\u2029\u202e\u202c":
        assert raw not in page
    assert "\\u202egpj.exe" in page, "what turns the line is spelled out"
    for block in re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', page):
        json.loads(block)


def test_the_policy_allows_the_one_style_and_the_one_script() -> None:
    import base64
    import hashlib

    page = document("title", ["<p>body</p>"], {})
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_code_and_ten_thousand_rows_are_small() -> None:
    code = sum((PLACES / name).stat().st_size for name in ("script.js", "style.css"))
    page = results_page(Results(rows=rows(10_000)))
    print(f"code {code:,} bytes, page of 10,000 rows {len(page.encode()):,} bytes")
    assert code <= 20_000
    assert len(page.encode()) <= 1_000_000


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    assert hostile_page(tmp_path) == hostile_page(tmp_path)


def test_columns_hold_every_value() -> None:
    given = [{"a": 1, "b": "x", "c": None, "d": 0.123456789}, {"a": 2.5, "b": "y", "c": None, "d": float("nan")}] * 2
    found = columns.of_records("t", given, ["a", "b", "c", "d", "e"])
    assert [c["name"] for c in found["columns"]] == ["a", "b", "d"]
    assert found["columns"][0]["values"] == [1, 2.5, 1, 2.5]
    assert found["columns"][1] == {"name": "b", "texts": ["x", "y"], "codes": [0, 1, 0, 1]}
    assert found["columns"][2]["values"] == [0.12346, None, 0.12346, None]
    mixed = columns.table("t", ["m"], [[1], ["one"], [None], [True]])["columns"][0]
    assert mixed == {"name": "m", "texts": ["1", "one", "", "True"], "codes": None}, "each text its own"
    assert columns.varying(given, ["a", "b", "c"]) == (["a", "b"], {})
    assert columns.varying([{"a": 1, "b": 2}, {"a": 1, "b": 3}], ["a", "b"]) == (["b"], {"a": "1"})


def test_text_and_json_are_escaped() -> None:
    assert text('<a href="x">&\x00\u200b') == "&lt;a href=&quot;x&quot;&gt;&amp;\\u0000\\u200b"
    assert encoded({"a": "</script>\u2028&"}) == '{"a":"\\u003c/script\\u003e\\u2028\\u0026"}'
    assert json.loads(encoded({"a": "</script>\u2028&é"})) == {"a": "</script>\u2028&é"}


def test_a_page_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no result row"):
        results_page(Results(rows=[]))
