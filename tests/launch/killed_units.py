"""Units for workers that are killed: the first to come to a unit waits for its end, the next one does the work."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2s_fast.launch.units import extract_part
from w2s_fast.store import layout

layout.PART_ROWS = 16


def killed_once(unit: Mapping[str, Any]) -> dict[str, Any]:
    """`extract_part`, whose first worker on the first share leaves its number and goes no further."""
    pid = Path(unit["here"]) / "pid"
    if unit["part"] == 0:
        try:
            with pid.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass
        else:
            time.sleep(300)
    return extract_part(unit)
