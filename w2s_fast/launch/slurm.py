"""A SLURM array as text: each of its tasks runs the same command on its own share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from w2s_fast.core.errors import UsageError

NUMBER = "${SLURM_ARRAY_TASK_ID}"


def array_script(
    command: Sequence[str], count: int, *, share: str, cpus: int = 1, gpus: int = 0, name: str = "w2s-fast"
) -> str:
    """A script for `sbatch`, whose task I of `count` runs `command` with the option `share` I/count.

    A task that failed or was preempted is requeued: what it had done is kept, and is not done again.
    """
    if count < 1:
        raise UsageError("there is nothing to run: the array would have no task")
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{count - 1}",
        f"#SBATCH --cpus-per-task={cpus}",
        *([f"#SBATCH --gres=gpu:{gpus}"] if gpus else []),
        "#SBATCH --requeue",
        "#SBATCH --output=slurm-%A-%a.out",
        "set -euo pipefail",
        f"export OMP_NUM_THREADS={cpus}",
        f'exec {shlex.join(command)} {share} "{NUMBER}/{count}"',
    ]
    return "\n".join(lines) + "\n"
