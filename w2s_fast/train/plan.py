"""Which runs are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

from w2s_fast.heads.head import Head
from w2s_fast.losses.loss import slice_key
from w2s_fast.train.memory import free_bytes, run_bytes
from w2s_fast.train.run import Run, Setup, SplitRows, resolve

Stack = tuple[Run, ...]
"""Runs of one head class, input scale, batch size and solver."""

CPU_STACK = 4
GPU_STACK = 128


def plan(
    runs: Sequence[Run], *, splits: Sequence[SplitRows], d: int, k: int, device: str | torch.device
) -> list[Stack]:
    """Runs as stacks, each sorted by (split, seed) and then by loss.

    On a CPU a stack holds up to four runs that share all batches (larger ones leave the cache). On a GPU stacks
    mix splits and seeds, up to 128. Either is as wide as half of the free memory and the head's `max_stack` allow.
    """
    setups = [resolve(index, run) for index, run in enumerate(runs)]
    return [tuple(s.run for s in stack) for stack in group(setups, d=d, k=k, device=torch.device(device))]


def group(setups: Sequence[Setup], *, d: int, k: int, device: torch.device) -> list[list[Setup]]:
    """`plan` on resolved runs."""
    alike: dict[tuple[Any, ...], list[Setup]] = {}
    for setup in setups:
        alike.setdefault(stack_key(setup), []).append(setup)
    stacks: list[list[Setup]] = []
    for members in alike.values():
        seen: dict[tuple[Any, ...], int] = {}
        rank = {s.index: seen.setdefault(slice_key(s.loss), len(seen)) for s in members}
        members.sort(key=lambda s: (s.run.split, s.run.seed, rank[s.index], s.index))
        solver = members[0].solver
        widest = solver.stack or _widest(members[0], d=d, k=k, device=device)
        open_key: tuple[int, int] | None = None
        for setup in members:
            key = (setup.run.split, setup.run.seed)
            shares = device.type != "cpu" or key == open_key or solver.full_batch
            if not shares or not stacks or len(stacks[-1]) >= widest or open_key is None:
                stacks.append([])
            stacks[-1].append(setup)
            open_key = key
    return stacks


def stack_key(setup: Setup) -> tuple[Any, ...]:
    """What runs of one stack have in common: the head but for fields that only `init` reads, batch size, solver."""
    head = setup.head
    kept = tuple((f.name, _hashable(getattr(head, f.name))) for f in fields(head) if f.name not in head.starting)
    solver = setup.solver
    batch = None if solver.full_batch else setup.run.batch_size
    return (type(head), kept, batch, solver, setup.index if solver.stack == 1 else None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | tuple | None) else id(value)


def _widest(setup: Setup, *, d: int, k: int, device: torch.device) -> int:
    head: Head = setup.head
    limit = CPU_STACK if device.type == "cpu" else GPU_STACK
    free = free_bytes(device)
    if free is not None:
        limit = max(1, min(limit, int(free / 2 / run_bytes(setup, d=d, k=k))))
    return limit if head.max_stack is None else max(1, min(limit, head.max_stack))
