"""The state of an unfinished fit: one safetensors file, replaced as a whole; what is no tensor is JSON in its header.

Order, augmentation and dropout are functions of (seed, epoch, step) (draws.py), so that weights, optimiser and step
are all there is to keep, and a fit that was killed goes on to the same bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.errors import CacheError, Damaged, NewerFormat, UsageError
from w2s_fast.core.hashing import digest_json

FORMAT = 1
FILE = "state.safetensors"


def write_state(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the state in `folder` at once: a kill at any moment leaves the old or the new one."""
    from safetensors.torch import save_file

    fresh = folder / f".{FILE}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        save_file(plain, fresh, metadata={"w2s_fast": json.dumps({"format": FORMAT, **record})})
        handle = os.open(fresh, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        fresh.replace(folder / FILE)
    except OSError as error:
        raise CacheError(f"the state of training cannot be written to {folder} ({error.strerror or error})") from None
    finally:
        fresh.unlink(missing_ok=True)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and record of the state in `folder`; None where there is none. `Damaged` if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["w2s_fast"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise Damaged(f"{path} cannot be read ({error}); remove {folder} to start again") from None
    if record["format"] > FORMAT:
        raise NewerFormat(f"{path} has format {record['format']}, and this version reads {FORMAT}; update w2s-fast")
    return tensors, record


def check_question(folder: Path, record: Mapping[str, Any], question: Mapping[str, Any]) -> None:
    """`UsageError` naming the first setting in which the state's fit differs from the one that is asked for."""
    theirs = record["question"]
    if digest_json(theirs) == digest_json(json.loads(json.dumps(question))):
        return
    for key in [*theirs, *question]:
        if digest_json(theirs.get(key)) != digest_json(json.loads(json.dumps(question.get(key)))):
            raise UsageError(
                f"{folder} holds a fit with {key} = {theirs.get(key)!r}, and {question.get(key)!r} is asked for; give "
                f"the same settings to go on with it, or another folder (or remove this one) to start anew"
            )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by the position of their parameter: `optim.3.exp_avg`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optim.{number}.{key}": value
        for number, values in state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took out."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optim."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": state})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names start with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `under`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
