"""The GPU's one command: on tiny tasks, on a CPU, without the packages that a bare machine with torch lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks import gpu
    from benchmarks.gpu_parts import checks, speed, tables
    from benchmarks.gpu_parts.settings import CASES, Settings
    from benchmarks.heads_parts.worlds import make_world
finally:
    sys.path.remove(str(ROOT))

ABSENT = "zarr numcodecs google_crc32c open_clip timm faiss transformers typer rich safetensors sklearn obstore scipy"
BARE = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT.split()!r}))
sys.argv[0] = "benchmarks/gpu.py"
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def quick(seconds=60.0, **rest):
    return Settings.of("cpu", quick=True, seconds=seconds, into={}, rates=None, **rest)


def test_runs_without_what_a_bare_machine_lacks(tmp_path):
    out = tmp_path / "results" / "g.json"
    stages = ["machine", "heads", "accuracy", "extraction", "memory", "others"]
    command = [sys.executable, "-c", BARE, "--device", "cpu", "--quick", "--out", str(out), "--stages", *stages]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert list(result["stages"]) == stages
    assert not [one["traceback"] for one in result["stages"].values() if "error" in one]
    rows = result["stages"]["heads"]["rows"]
    assert {(row["loss"], row["runs"]) for row in rows} == {(x, n) for x in ("KD", "CPL") for n in (1, 3)}
    for row in rows:
        assert row["runs_an_hour"] == pytest.approx(3600 / row["engine_s"])
        assert row["ratio_resident"] == pytest.approx(row["resident_s"] / row["engine_s"])
        assert f"{row['runs_an_hour']:,.0f}" in done.stdout
    assert result["stages"]["extraction"]["read"] == result["stages"]["extraction"]["images"] == 24
    assert result["stages"]["others"]["left_out_jobs"] == {"prompt": "open_clip is not installed"}
    assert {one["status"][0] for one in result["stages"]["others"]["jobs"].values()} == {"ok"}
    assert result["stages"]["others"]["profile"]
    with pytest.raises(ValueError, match="whole runs on a GPU"):
        tables.readme(result)
    assert "1.00" in tables.against(result, result)


def test_the_engine_is_checked_against_loops_and_beside_a_run_that_diverges(monkeypatch):
    settings = quick()
    world = make_world(settings.cases[0])
    assert all(one["passed"] for one in (*checks.naive(world, settings), *checks.graphs(world, settings)))
    assert checks.diverging(world, settings)["passed"]
    monkeypatch.setattr(checks, "NAIVE_GAP", -1.0)
    assert not checks.diverging(world, settings)["passed"]


def test_a_stage_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    def broken(settings):
        settings.into["rows"] = []
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.STAGES, "heads", (broken, 5.0))
    out = tmp_path / "g.json"
    monkeypatch.setattr(
        sys,
        "argv",
        ["gpu.py", "--device", "cpu", "--quick", "--out", str(out), "--stages", "machine", "heads", "memory"],
    )
    assert gpu.main() == 1
    stages = json.loads(out.read_text())["stages"]
    assert "no such kernel" in stages["heads"]["traceback"] and "rows" in stages["memory"]
    assert "failed: heads" in capsys.readouterr().err


def test_what_time_does_not_allow_is_said():
    found = speed.stage(quick(seconds=-1.0))
    assert len(found["rows"]) == 1 and len(found["left_out_rows"]) == 3


def test_questions_cover_the_issue():
    asked = list(speed.questions(Settings.of("cuda", quick=False, seconds=1.0, into={}, rates=None)))
    assert len(asked) == len(set(asked)) == 3 * (5 * 3 + 3 * 2 * 3)
    assert {shape for shape, *_ in asked} == set(CASES) and {count for *_, count in asked} == {1, 16, 64, 128}


def test_readme_is_made_of_the_file():
    row = {"case": "clipart", "d": 512, "loss": "KD", "precision": "bf16", "runs": 64, "engine_s": 5e-4}
    row |= {"runs_an_hour": 7.2e6, "of_floor": 0.4, "of_unfused": None, "ratio_resident": 12.34}
    gate = {"points": -0.1, "points_low": -0.25, "points_high": 0.05, "seeds": 32}
    result = {
        "device": "cuda",
        "quick": False,
        "stages": {
            "machine": {"about": {"gpu": "A GPU", "date": "2026-01-01", "versions": {"torch": "2.11"}}},
            "heads": {"rows": [row]},
            "accuracy": {"gates": [gate]},
        },
    }
    told = tables.readme(result)
    for word in ("A GPU", "7,200,000", "40 %", "12.3x", "32 paired seeds", "0.10 points", "+- 0.15"):
        assert word in told
