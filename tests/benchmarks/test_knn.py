"""The benchmark of neighbours runs, and every index of it finds what the exact search finds."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "knn.py"


def test_a_small_run_prints_every_index() -> None:
    command = [sys.executable, str(SCRIPT), "--rows", "3000", "--width", "16", "--queries", "40"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    about, *lines, auto = map(json.loads, out.splitlines())
    assert about["rows"] == 3000
    assert [line["index"] for line in lines] == ["exact", "flat", "ivf", "hnsw"]
    assert all(line["recall"] > 0.9 for line in lines)
    assert lines[1]["recall"] > 0.999
    assert auto["auto"] in auto["expected_s"]
