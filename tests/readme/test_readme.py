"""The sessions of README and of the store's README run as they are printed: shell ones, then Python ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "w2s_fast/store/README.md"))


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language that are marked as run in CI."""
    found = re.findall(rf"<!-- run in CI -->\n```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"README has no {language} session that is run in CI"
    return found


def environment(cache: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "W2S_FAST_CACHE": str(cache), "COLUMNS": "140"}


def shell(session: str, cache: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session],
        cwd=folder,
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.timeout(900)
def test_the_shell_session_runs(cache: Path, tmp_path: Path) -> None:
    done = shell(blocks("bash")[0], cache, tmp_path)
    assert "cpl" in done.stdout and "best ceiling" in done.stdout
    assert list(tmp_path.rglob("*.jsonl")) and list(tmp_path.rglob("*.svg"))


def test_the_session_about_the_cache_runs(cache: Path, tmp_path: Path) -> None:
    _, session = blocks("bash")
    done = shell(session, cache, tmp_path)
    assert "rows encoded again" in done.stderr and "c/0/0: it holds 99 bytes instead of" in done.stderr
    assert "taken out: rows 0-" in done.stderr and not list(cache.rglob(".tmp-*"))


def test_the_tests_behind_the_promises_exist() -> None:
    table = README.rpartition("## What the cache promises")[2].partition("```")[0]
    named = re.findall(r"`([a-z_/0-9]+\.py)`", table)
    assert len(named) > 15
    assert not [name for name in named if not (Path(__file__).resolve().parents[1] / name).is_file()]


def test_the_python_sessions_run(cache: Path, tmp_path: Path) -> None:
    for number, session in enumerate(blocks("python")):
        (tmp_path / f"session{number}.py").write_text(session, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, f"session{number}.py"],
            cwd=tmp_path,
            env=environment(cache),
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert done.returncode == 0, done.stdout + done.stderr
