"""Clocks: interleaved repetitions, medians, the cores that are used, and what machine it was."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("w2s-fast", "torch", "numpy", "scikit-learn", "open_clip_torch")
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def use_cores(threads: int) -> list[int]:
    """Bind this process, and every pool of threads in it, to `threads` of the cores it may use; the cores taken."""
    from threadpoolctl import threadpool_limits

    allowed = sorted(os.sched_getaffinity(0))
    taken = allowed[-threads:] if threads <= len(allowed) else allowed
    os.sched_setaffinity(0, taken)
    # read by libraries that are loaded later
    os.environ.update(
        {name: str(len(taken)) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    )
    torch.set_num_threads(len(taken))
    threadpool_limits(len(taken))
    return taken


def timed(job: Callable[[], Any], *, device: str = "cpu") -> tuple[float, Any]:
    """Seconds of one call, waiting for the device before and after, and what it returned."""
    _wait(device)
    start = time.perf_counter()
    found = job()
    _wait(device)
    return time.perf_counter() - start, found


def interleaved(jobs: Mapping[str, Callable[[], Any]], *, repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of every job, `repeats` times; jobs take turns, and every round starts with another one."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for turn in range(repeats):
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(jobs[name], device=device)[0])
    return seconds


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """The range between the quartiles over the median."""
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def machine(cores: Sequence[int], *, device: str) -> dict[str, Any]:
    """What the figures belong to: CPU, cores used and there, vector instructions, GPU, versions, load, date."""
    info = _cpuinfo()
    flags = info.get("flags", "").split()
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "cores_used": len(cores),
        "cores_there": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": [flag for flag in FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "load_at_start": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    return {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in first.splitlines())}
