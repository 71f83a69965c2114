"""What the processor can do, where that decides what is computed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags of bfloat16 instructions: Intel's and AMD's, and ARM's."""
NO_BF16 = "this processor has no bfloat16 instructions, without which bf16 took 3.4 times as long as fp32"
CPUINFO = Path("/proc/cpuinfo")


@cache
def has_bf16() -> bool:
    """Whether a CPU multiplies bfloat16 by instructions of its own; False where the system does not say."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return not BF16.isdisjoint(next(flags, "").split())
