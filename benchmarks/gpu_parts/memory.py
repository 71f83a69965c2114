"""Stage 6: the memory that a stack takes at its peak, against what the plan counted for it."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu_parts.settings import Settings
from benchmarks.heads_parts import engine
from benchmarks.heads_parts.worlds import make_world
from w2s_fast.train.evaluate import MOST_LOGITS
from w2s_fast.train.memory import free_bytes, run_bytes, shared_bytes
from w2s_fast.train.run import resolve

WITHIN = 1.0
"""The peak may not exceed what was counted, or the plan makes stacks that do not fit."""


def stage(settings: Settings) -> dict[str, Any]:
    """Bytes beyond what was taken before, per precision, for the most runs of a call."""
    shape = settings.cases[0]
    world = make_world(shape).to(settings.device)
    count = max(settings.counts)
    runs = engine.runs_of(settings.recipe("KD"), range(count))
    setups = [replace(resolve(i, run), n_train=shape.n_train) for i, run in enumerate(runs)]
    rows = []
    for precision in settings.precisions:
        counted = sum(run_bytes(s, d=shape.d, k=shape.k) for s in setups)
        counted += shared_bytes(
            world.x,
            setups,
            k=shape.k,
            scored=shape.n_val,
            teachers=1,
            chunk=MOST_LOGITS,
            dtype=world.x.dtype,
            device=world.x.device,
        )
        peak = None
        if settings.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            engine.fit(world, runs, precision=precision)
            peak = torch.cuda.max_memory_allocated() - before
        rows.append(
            {
                "precision": precision,
                "runs": count,
                "counted_bytes": counted,
                "peak_bytes": peak,
                "peak_of_counted": None if peak is None else peak / counted,
            }
        )
    fits = all(row["peak_of_counted"] is None or row["peak_of_counted"] <= WITHIN for row in rows)
    return {"rows": rows, "free_bytes": free_bytes(torch.device(settings.device)), "passed": fits}
