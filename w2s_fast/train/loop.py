"""The epochs of stacks: train, score, keep what selections ask for, let runs leave."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from w2s_fast.train.context import EngineContext
from w2s_fast.train.full_batch import stack_of
from w2s_fast.train.memory import in_memory
from w2s_fast.train.plan import group
from w2s_fast.train.run import Fit, Setup
from w2s_fast.train.select import Track
from w2s_fast.train.stack import Stack

log = logging.getLogger("w2s_fast")
Progress = Callable[[int, int], None]


def fits(
    context: EngineContext,
    setups: Sequence[Setup],
    *,
    selections: tuple[str, ...],
    on_progress: Progress | None,
    load: float,
) -> Iterator[Fit]:
    """Every run's fit, stack by stack; `load` is a run's share of the seconds before the first one."""
    done = 0
    for label in dict.fromkeys(f"head {s.run.head}, loss {s.label}" for s in setups if not s.closed):
        log.info("%s: no closed form, gradients come from autograd at its own cost", label)
    stacks = group(setups, d=context.start.d, k=context.start.k, device=context.device, window=context.raw.window)
    for number, members in enumerate(stacks):
        with in_memory(members, device=context.device, dtype=context.dtype):
            for fit in _train(context, members, selections):
                done += 1
                if on_progress is not None:
                    on_progress(done, len(setups))
                yield replace(fit, stack=number, seconds={"load": load, **fit.seconds})


def _train(context: EngineContext, setups: Sequence[Setup], selections: tuple[str, ...]) -> Iterator[Fit]:
    clock = time.perf_counter()
    stack = stack_of(context, setups)
    tracks = [Track(epochs=s.run.epochs, selections=selections) for s in stack.setups]
    epoch = 0
    while len(stack):
        losses = torch.full((len(stack),), torch.nan, dtype=context.dtype, device=context.device)
        if epoch > 0:
            losses = stack.train_epoch(epoch - 1)
        fine = stack.finite() & (losses.isfinite() if epoch > 0 else True)
        # one transfer to the host per epoch
        fine_here, losses_here = torch.stack([fine.to(torch.float64), losses.to(torch.float64)]).tolist()
        compiled, context.compiler.seconds = context.compiler.seconds, 0.0
        _add(tracks, "compile", compiled)
        clock = _share(tracks, "train", clock + compiled)
        scores = stack.evaluate(test="test_best" in selections).tolist()
        staying: list[int] = []
        ended: list[tuple[int, bool]] = []
        for r, track in enumerate(tracks):
            if not fine_here[r]:
                ended.append((r, False))
                continue
            taken = track.log(epoch, losses_here[r], scores[r])
            if taken:
                track.hold(taken, epoch, stack.theta_of(r))
            if epoch >= track.epochs:
                ended.append((r, True))
            else:
                staying.append(r)
        _predict(stack, [(r, tracks[r]) for r, fine_to_end in ended if fine_to_end])
        clock = _share(tracks, "evaluate", clock)
        kernels = stack.kernels
        leaving = [(stack.setups[r], tracks[r], fine_to_end, stack.learned(r)) for r, fine_to_end in ended]
        if ended:
            stack.keep(staying)
            tracks = [tracks[r] for r in staying]
        for setup, track, fine_to_end, learned in leaving:
            yield replace(_finish(setup, track, epoch, fine_to_end, context, kernels), learned=learned)
        # the consumer's time between two fits is not ours
        clock = time.perf_counter() if leaving else clock
        epoch += 1


def _predict(stack: Stack, ended: Sequence[tuple[int, Track]]) -> None:
    """Predictions of every selection of the runs that have ended, all runs together."""
    held = [(r, track, epoch, theta) for r, track in ended for epoch, theta in track.held().items()]
    found = stack.predicted([(r, theta) for r, _, _, theta in held])
    for (_, track, epoch, _), classes in zip(held, found, strict=True):
        track.predicted |= {name: classes for name, at in track.epoch.items() if at == epoch}


def _share(tracks: Sequence[Track], what: str, since: float) -> float:
    now = time.perf_counter()
    _add(tracks, what, now - since)
    return now


def _add(tracks: Sequence[Track], what: str, seconds: float) -> None:
    for track in tracks:
        track.seconds[what] += seconds / len(tracks)


def _finish(setup: Setup, track: Track, epoch: int, fine: bool, context: EngineContext, kernels: str) -> Fit:
    notes = track.notes()
    if not fine:
        where = f"diverged in epoch {epoch} of {track.epochs}"
        cure = "check features and loss" if setup.solver.full_batch else f"lower lr (now {setup.lr})"
        notes = (f"{where}: loss or parameters are not finite; {cure}",)
    seconds = {**track.seconds, "total": sum(track.seconds.values())}
    return Fit(
        index=setup.index,
        run=setup.run,
        head=setup.head,
        status="ok" if fine else "diverged",
        theta=dict(track.theta) if fine else {},
        curves=track.curves,
        predicted={name: p.cpu().numpy() for name, p in track.predicted.items()} if fine else {},
        selected_epoch=dict(track.epoch) if fine else {},
        seconds=seconds,
        resolved=setup.resolved(
            precision=context.precision_of(setup.head),
            device=context.device.type,
            kernels=kernels,
            order=context.raw.declared,
        ),
        notes=notes,
    )
