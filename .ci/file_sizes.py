"""Holds the file sizes of the package: median <= 150 lines, 90th percentile <= 350, none over 450."""

import statistics
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sizes = sorted(
    (len(path.read_text(encoding="utf-8").splitlines()), str(path.relative_to(root)))
    for folder in ("w2s_fast", "cli")
    for path in (root / folder).rglob("*.py")
    if path.name != "__init__.py" or path.stat().st_size
)
lines = [n for n, _ in sizes]
median, ninetieth = statistics.median(lines), lines[int(0.9 * (len(lines) - 1))]
print(f"{len(lines)} files: median {median:.0f}, 90th percentile {ninetieth}, longest {sizes[-1][1]} with {lines[-1]}")
if median > 150 or ninetieth > 350 or lines[-1] > 450:
    sys.exit("file sizes: median <= 150, 90th percentile <= 350, none over 450 lines")
