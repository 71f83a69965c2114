"""The zarr facts under any newer Python that is installed with zarr: there zarr may be newer too.

Looked for are `python3.N` on the path, and what $W2S_FAST_PYTHONS names, separated as in $PATH. Such a Python needs
zarr, numpy, google-crc32c and pytest, and nothing of this package's environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "tests" / "store" / "test_store_zarr_facts.py"
NEEDS = "import google_crc32c, numpy, pytest, sys, zarr; print(sys.version_info[1], zarr.__version__)"


def found() -> dict[str, str]:
    """Each newer Python that has what is needed -> the version of its zarr."""
    ours = sys.version_info.minor
    names = [shutil.which(f"python3.{minor}") for minor in range(ours + 1, ours + 9)]
    names += filter(None, os.environ.get("W2S_FAST_PYTHONS", "").split(os.pathsep))
    able: dict[str, str] = {}
    for name in filter(None, names):
        asked = subprocess.run([name, "-I", "-c", NEEDS], capture_output=True, text=True)
        if asked.returncode == 0 and int(asked.stdout.split()[0]) > ours:
            able[name] = asked.stdout.split()[1]
    return able


def run(python: str, tests: Path, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={ROOT}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, f"--basetemp={folder}", *options, str(tests)], capture_output=True, text=True, env=environment
    )


def test_zarr_facts_under_newer_pythons(tmp_path: Path) -> None:
    pythons = found()
    if not pythons:
        pytest.skip("no newer Python with zarr, numpy, google-crc32c and pytest is installed")
    for number, (python, version) in enumerate(pythons.items()):
        done = run(python, FACTS, folder=tmp_path / f"{number}")
        assert done.returncode == 0, f"{python}, zarr {version}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"


def test_this_python_finds_them_true_in_the_same_way(tmp_path: Path) -> None:
    """What the other test runs, run here: it does run the facts, and it fails when one of them does."""
    done = run(sys.executable, FACTS, folder=tmp_path / "facts")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]
    broken = tmp_path / FACTS.name
    broken.write_text(FACTS.read_text().replace("!= VALUES).sum() == 1", "!= VALUES).sum() == 0"))
    shutil.copy(FACTS.with_name("conftest.py"), tmp_path)
    assert run(sys.executable, broken, "-k", "silent", folder=tmp_path / "broken").returncode == 1
