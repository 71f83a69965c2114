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

RunStack = tuple[Run, ...]
"""Runs of one head class, input scale, batch size and solver."""

CPU_STACK = 32
CPU_BYTES = 1 << 20
"""Bytes of a step's largest tensor on a CPU, so that a step stays in the cache: one run where k or d is large."""
GPU_STACK = 128


def plan(
    runs: Sequence[Run], *, splits: Sequence[SplitRows], d: int, k: int, device: str | torch.device
) -> list[RunStack]:
    """Runs as stacks, each sorted by (split, seed) and then by loss.

    Stacks mix splits and seeds. On a CPU they hold up to 32 runs while a step's tensors stay in the cache, on a GPU up
    to 128, on both where features are streamed, as one pass feeds them all. Any is as wide as half of the free memory
    and the head's `max_stack` allow.
    """
    setups = [resolve(index, run) for index, run in enumerate(runs)]
    return [tuple(s.run for s in stack) for stack in group(setups, d=d, k=k, device=torch.device(device))]


def group(
    setups: Sequence[Setup], *, d: int, k: int, device: torch.device, window: int | None = None
) -> list[list[Setup]]:
    """`plan` on resolved runs; window: that of streamed features."""
    alike: dict[tuple[Any, ...], list[Setup]] = {}
    for setup in setups:
        alike.setdefault(stack_key(setup), []).append(setup)
    stacks: list[list[Setup]] = []
    for members in alike.values():
        seen: dict[tuple[Any, ...], int] = {}
        rank = {s.index: seen.setdefault(slice_key(s.loss), len(seen)) for s in members}
        members.sort(key=lambda s: (s.run.split, s.run.seed, rank[s.index], s.index))
        solver = members[0].solver
        widest = solver.stack or _widest(members[0], d=d, k=k, device=device, streamed=window is not None)
        for some in [members] if window is None else _in_step(members, window):
            stacks += [some[at : at + widest] for at in range(0, len(some), widest)]
    return stacks


def _in_step(members: Sequence[Setup], window: int) -> list[list[Setup]]:
    """Runs that a pass can feed together: whose place in it never differs by more than an eighth of a window."""
    found: list[list[Setup]] = []
    for setup in sorted(members, key=lambda s: s.n_train):
        if not found or 8 * (setup.n_train - found[-1][0].n_train) > window:
            found.append([])
        found[-1].append(setup)
    return found


def stack_key(setup: Setup) -> tuple[Any, ...]:
    """What runs of one stack have in common: the head but for fields that only `init` reads, batch size, solver."""
    head = setup.head
    kept = tuple((f.name, _hashable(getattr(head, f.name))) for f in fields(head) if f.name not in head.starting)
    solver = setup.solver
    batch = None if solver.full_batch else setup.run.batch_size
    return (type(head), kept, batch, solver, setup.index if solver.stack == 1 else None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | tuple | None) else id(value)


def _widest(setup: Setup, *, d: int, k: int, device: torch.device, streamed: bool) -> int:
    head: Head = setup.head
    limit = GPU_STACK
    if device.type == "cpu" and not streamed:
        b = setup.run.batch_size
        limit = max(1, min(CPU_STACK, CPU_BYTES // (4 * max(b * k, k * d, b * d))))
    free = free_bytes(device)
    if free is not None:
        # a streamed epoch lists the rows of every run, there and here
        rows = 24 * setup.n_train if streamed else 0
        limit = max(1, min(limit, int(free / 2 / (run_bytes(setup, d=d, k=k) + rows))))
    return limit if head.max_stack is None else max(1, min(limit, head.max_stack))
