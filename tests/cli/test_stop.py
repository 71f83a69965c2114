"""Ctrl-C in a real process, its decoding processes included: one sentence, status 3, no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image


def stopped(argv: list[str], folder: Path, ready: str) -> tuple[int, str]:
    """Start the program in a process group of its own, interrupt the group (as a terminal does) once a thread of it is
    `ready`, and return status and stderr."""
    err = folder / "err.txt"
    environment = {**os.environ, "W2S_FAST_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "w2s_fast_cli", *argv],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 90
            while process.poll() is None and time.monotonic() < deadline and not seen(process.pid, err, ready):
                time.sleep(0.05)
            time.sleep(0.1)
            assert process.poll() is None, err.read_text()
            os.killpg(process.pid, signal.SIGINT)
            return process.wait(timeout=60), err.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def seen(pid: int, err: Path, ready: str) -> bool:
    """Whether stderr holds `ready`; for `workers`, whether the process has two children."""
    if ready == "workers":
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) >= 2
    return ready in err.read_text()


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Images that take a while."""
    for label in ("cat", "dog"):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(60):
            Image.effect_noise((800, 800), 40 + i).convert("RGB").save(tmp_path / "pics" / label / f"{i}.jpg")
    return f"imagefolder:{tmp_path / 'pics'}"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_extract_with_decoders_is_stopped(tmp_path: Path, pictures: str) -> None:
    argv = ["extract", "--data", pictures, "--model", "drawn:clip", "--workers", "2", "--batch-size", "2"]
    status, err = stopped(argv, tmp_path, "workers")
    assert status == 3, err
    assert err.splitlines()[-1].startswith("stopped: finished parts are kept")
    assert "Traceback" not in err and "Error" not in err


@pytest.mark.slow
def test_train_is_stopped_in_its_fits(tmp_path: Path) -> None:
    argv = ["train", "--loss", "kd", "--data", "drawn:sketch", "--epochs", "200000", "--no-references"]
    status, err = stopped(argv, tmp_path, "encoding")
    assert status == 3, err
    assert err.splitlines()[-1] == "stopped: nothing was fitted; extracted parts are kept"
    assert "Traceback" not in err


def test_a_forked_process_leaves_the_talking_to_its_parent() -> None:
    code = """
import os, signal
from w2s_fast_cli.output import Output
with Output().stoppable("all is kept"):
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "stopped: all is kept\n")
