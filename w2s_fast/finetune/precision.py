"""What a network is computed in: float32, or bfloat16 / float16 where the processor is faster in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def resolve_precision(asked: str, device: torch.device) -> tuple[str, str | None]:
    """(precision, what to tell): `auto` is bf16 on a GPU that has it, else fp32; a CPU without instructions for
    bfloat16 is 1.6 to 2.1 times slower in it, so that fp32 is taken there and said."""
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported()
        if asked == "auto":
            return ("bf16" if has else "fp32"), None
        if asked == "bf16" and not has:
            return "fp32", "this GPU has no bfloat16; computing in fp32"
        return asked, None
    if asked == "bf16" and not _has_bf16():
        return "fp32", "this processor has no bfloat16 instructions and is slower in it; computing in fp32"
    if asked == "fp16":
        return "fp32", "float16 is for GPUs; computing in fp32"
    return ("fp32" if asked == "auto" else asked), None


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context in which a forward pass is computed."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def _has_bf16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(flag in text for flag in BF16_FLAGS)
