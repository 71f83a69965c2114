"""The page in Debian's chromium: what is drawn, how fast, what hostile names do, and what axe-core finds."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from page_worlds import rows
from test_page import hostile_page

from w2s_fast.report.page.results_page import results_page
from w2s_fast.results.results import Results

HERE = Path(__file__).resolve().parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
READY = CHROMIUM and shutil.which("node") and (HERE / "node_modules" / "puppeteer-core").is_dir()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not READY, reason="needs chromium, node, and: npm --prefix tests/page install"),
]


def browse(page: Path, *, views: int) -> list[dict[str, Any]]:
    command = ["node", str(HERE / "browse.mjs"), str(HERE), str(CHROMIUM), str(page), str(views)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_ten_thousand_rows(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    given = rows(10_000)
    page.write_text(results_page(Results(rows=given)), encoding="utf-8")
    for found in browse(page, views=5):
        shown = {
            k: found[k]
            for k in ("width", "scheme", "media", "first_paint", "sort_number", "sort_text", "filter", "nodes")
        }
        print(json.dumps(shown))
        assert found["said"] == []
        assert found["requests"] == []
        assert found["axe"] == []
        assert found["unfolded"] == 0
        assert found["too_wide"] <= 0
        assert max(found["nodes"], found["nodes_scrolled"]) <= 1000
        assert found["lowest"] == sorted(r["acc_w2s"] for r in given)[:12]
        assert set(found["first_methods"]) == {"aux+lp"}
        assert set(found["filtered_methods"]) == {"cpl"}
        assert found["filtered"] == f"{sum(r['method'] == 'cpl' for r in given)} of 10000 rows"
        assert found["all"] == "10000 of 10000 rows"
        assert found["last_line"] == 10_001
        if found["media"] == "screen":
            assert found["keyboard"] == "ascending"


def test_hostile_texts_run_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(hostile_page(tmp_path), encoding="utf-8")
    for found in browse(page, views=3):
        assert found["executed"] is None
        assert found["executed_unfolded"] is None
        assert found["said"] == []
        assert found["requests"] == []
        assert found["axe"] == []
        assert found["too_wide"] <= 0
        assert found["gallery_broken"] == 0
        assert "images, page 1" in found["gallery"]
