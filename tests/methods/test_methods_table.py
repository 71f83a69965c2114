"""METHODS.md says what the package has, and names tests that exist."""

import re
import runpy
from pathlib import Path

from w2s_fast.heads import HEADS
from w2s_fast.methods.presets import METHODS
from w2s_fast.supervisions import SUPERVISIONS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "w2s_fast" / "methods" / "METHODS.md").read_text(encoding="utf-8")


def test_it_is_up_to_date() -> None:
    assert runpy.run_path(str(ROOT / ".ci" / "methods_table.py"))["document"]() == TEXT, "run .ci/methods_table.py"


def test_every_name_is_there_and_every_test_exists() -> None:
    first = re.findall(r"^\| `([^`]+)` \|", TEXT, flags=re.MULTILINE)
    assert first == [*METHODS, *SUPERVISIONS, *HEADS]
    named = set(re.findall(r"tests/[\w/]+\.py", TEXT))
    assert len(named) > 4 and all((ROOT / name).is_file() for name in named)
