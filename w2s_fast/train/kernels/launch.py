"""Whether the kernels can run, and on which device they are launched."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor


def why_not(device: torch.device | str) -> str | None:
    """Why the kernels cannot run on a device, in words for the log; None if they can."""
    device = torch.device(device)
    if find_spec("triton") is None:
        return "triton is not installed"
    if interpreted():
        return None
    if device.type != "cuda":
        return f"the device is {device.type}, not cuda"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
        return "the GPU is older than compute capability 7.0, which Triton needs"
    if os.name == "posix" and not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return "there is no C compiler (cc, gcc, clang or $CC), which Triton needs to launch kernels"
    return None


def available(device: torch.device | str) -> bool:
    """Whether the kernels run on a device: Triton and a GPU, or Triton's interpreter on any device."""
    return why_not(device) is None


def interpreted() -> bool:
    """Whether Triton's interpreter was asked for (TRITON_INTERPRET=1): kernels then run in numpy, slowly."""
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on", "yes")


def on(x: Tensor) -> AbstractContextManager[object]:
    """Launches inside go to the device of x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
