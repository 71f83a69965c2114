"""What bf16 does to accuracy: paired seeds on the drawn data, with 95 % intervals.

    python benchmarks/bf16_parity.py --cache DIR [--seeds 32] [--domains sketch real] [--methods cpl kd+lp ce+lp]

Each pair shares split, start and batches. On a processor without bf16 instructions the runs are the same arithmetic,
only slow.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.statistics import t_quantile
from w2s_fast.methods.fit import fit
from w2s_fast.tasks.opening import open_task
from w2s_fast.tasks.task import Task


def accuracies(task: Task, method: str, precision: str, *, seeds: int) -> NDArray[np.float64]:
    """Accuracy in % at the last epoch, one per seed."""
    rows = fit(task, method=method, seeds=seeds, references=False, precision=precision).rows
    last = sorted((row for row in rows if row["selection"] == "last"), key=lambda row: row["seed"])
    return np.array([100 * (row["acc_w2s"] or np.nan) for row in last])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="folder of extracted features; filled if they are missing")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--domains", nargs="+", default=["sketch", "real"])
    parser.add_argument("--methods", nargs="+", default=["cpl", "kd+lp", "ce+lp"])
    given = parser.parse_args()
    print(f"| {given.seeds} paired seeds | bf16 - fp32, points | standard error |\n| :-- | --: | --: |")
    for domain in given.domains:
        task = open_task(f"drawn:{domain}", cache=given.cache)
        for method in given.methods:
            gaps = np.subtract(*(accuracies(task, method, p, seeds=given.seeds) for p in ("bf16", "fp32")))
            error = gaps.std(ddof=1) / len(gaps) ** 0.5
            half = t_quantile(len(gaps) - 1) * error
            print(f"| {domain}, {method} | {gaps.mean():+.3f} ± {half:.3f} | {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
