"""Stage 1: driver and versions, and the rates that floors are made of, measured here."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts.floors import cuda_rates
from benchmarks.heads_parts.timing import machine

LAUNCHES = 2000
PER_GRAPH = 200


def stage(settings: Settings) -> dict[str, Any]:
    """What is here; on a GPU bytes, operations and launches per second."""
    found: dict[str, Any] = {"about": machine(range(torch.get_num_threads()), device=settings.device)}
    if settings.device != "cuda":
        return found
    properties = torch.cuda.get_device_properties(0)
    found |= {
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
        "rates": asdict(cuda_rates(tries=5 if settings.quick else 20)),
        "launch": launches(),
    }
    return found


def launches() -> dict[str, float]:
    """Seconds of a small operation launched by itself, and as one of many in a replayed graph."""
    x = torch.zeros(32, device="cuda")
    alone = _seconds(lambda: [x.add_(1) for _ in range(LAUNCHES)]) / LAUNCHES
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x.add_(1)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(PER_GRAPH):
            x.add_(1)
    return {"alone_s": alone, "in_graph_s": _seconds(graph.replay) / PER_GRAPH}


def _seconds(job: Callable[[], Any], tries: int = 5) -> float:
    job()
    found = []
    for _ in range(tries):
        torch.cuda.synchronize()
        began = time.perf_counter()
        job()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError) as error:
        return f"nvidia-smi: {error}"
