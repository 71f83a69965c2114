"""README's head, as an installed package: listed, fitted with several losses, and taken out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
WORLD = """
import sys
import numpy as np
from w2s_fast import Task, fit
from w2s_fast.heads import describe

[listed] = [record for record in describe() if record["name"] == "diagonal"]
assert listed["parameters"]["tau_s"] == 0.05 and listed["equation"].startswith("z_i"), listed
rng = np.random.default_rng(0)
labels = np.arange(200) % 4
means = rng.normal(size=(4, 8))
x = means[labels] + 0.3 * rng.normal(size=(200, 8))
task = Task.from_arrays(features=x, weak_logits=3 * np.eye(4)[labels], labels=labels, text=means + 1.0)
results = fit(task, loss=["kd", "js", "aux_conf"], head="diagonal(tau_s=0.1)", seeds=2, epochs=5, batch_size=16)
rows = [r for r in results.rows if r["selection"] == "last" and r["supervision"] == "weak"]
assert {r["method"] for r in rows} == {"kd+diagonal", "js+diagonal", "aux_conf+diagonal"}, rows
assert all(r["status"] == "ok" and r["tau_s"] == 0.1 for r in rows)
theta = results.best("last").theta
assert (theta["s"] != 1).any() and (theta["text"].norm(dim=-1) - 1).abs().max() < 1e-5, "only s learns"
"""


def block(language: str) -> str:
    [found] = re.findall(rf"<!-- a package in CI -->\n```{language}\n(.*?)```", README, flags=re.DOTALL)
    return str(found)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A folder on the path that holds the package as pip would have put it there."""
    (tmp_path / "my_heads.py").write_text(block("python"), encoding="utf-8")
    about = tmp_path / "my_heads-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-heads\nVersion: 1.0\n", encoding="utf-8")
    group, line = block("toml").strip().splitlines()
    points = (
        re.sub(r'\[project\.entry-points\."(.+)"\]', r"[\1]", group)
        + "\n"
        + line.partition("#")[0].replace('"', "")
        + "\n"
    )
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_the_head_is_a_head(environment: dict[str, str], tmp_path: Path) -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 15, "it is shown to be short"
    done = subprocess.run([sys.executable, "-c", WORLD], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_program_lists_it(environment: dict[str, str], tmp_path: Path) -> None:
    program = [sys.executable, "-m", "w2s_fast_cli", "heads", "--json"]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "diagonal" in [record["name"] for record in json.loads(done.stdout)]
