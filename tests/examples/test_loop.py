"""examples/loop.py runs as it is printed, and shows what its header says."""

import subprocess
import sys
from pathlib import Path

LOOP = Path(__file__).resolve().parents[2] / "examples" / "loop.py"


def test_the_loop_on_arrays_runs_and_cpl_beats_its_teacher_and_its_start(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(LOOP)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}
    assert list(found) == ["weak", "zero-shot", "ce+lp", "cpl", "ceiling"]
    assert max(found["weak"], found["zero-shot"]) < found["cpl"] < found["ceiling"]
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def test_it_stays_short() -> None:
    code = [line for line in LOOP.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 70
