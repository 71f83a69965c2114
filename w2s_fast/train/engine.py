"""`fit_heads`: many runs in, one `Fit` each out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from w2s_fast.core.errors import TrainError, UsageError, nearest
from w2s_fast.heads.head import Features, Start
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.batch import Tables
from w2s_fast.train.checks import check_inputs, check_rows
from w2s_fast.train.evaluate import MOST_LOGITS
from w2s_fast.train.features import prepared
from w2s_fast.train.full import check_full, live_of
from w2s_fast.train.gemm import PRECISIONS
from w2s_fast.train.live import Live, SplitTensors, World, shape_of
from w2s_fast.train.memory import check_memory, in_memory, shared_bytes
from w2s_fast.train.plan import group
from w2s_fast.train.run import Fit, Run, Setup, SplitRows, check_supervision, resolve
from w2s_fast.train.select import CRITERIA, Track
from w2s_fast.train.stream import Stream

SELECTIONS = tuple(CRITERIA)
Progress = Callable[[int, int], None]


def fit_heads(
    x: Tensor | Features,
    runs: Sequence[Run],
    *,
    splits: Sequence[SplitRows],
    supervisions: Sequence[Supervision],
    start: Start,
    truth: ArrayLike | Tensor,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    selections: Sequence[str] = SELECTIONS,
    on_progress: Progress | None = None,
) -> Iterator[Fit]:
    """Train every run and yield its `Fit` when it ends, in no promised order (`Fit.index` is the place in `runs`).

    x: features f[N, d], a tensor or an object that streams batches. truth: i[N], -1 = unknown; read for scoring only.
    precision: `fp32` (IEEE), `tf32` (on CUDA; elsewhere fp32), `bf16` (operands of products; the rest is single) or
    `fp64`. Test rows are scored in every epoch only for `test_best`. on_progress is told (runs done, runs in all). All
    arguments are checked before the first run starts; raises `UsageError`, `SpecError` or `TrainError`.
    """
    if not isinstance(x, Tensor) and not hasattr(x, "batches"):
        raise UsageError(
            f"features are a {type(x).__name__}; give a tensor f[N, d] (torch.as_tensor), or a Features object"
        )
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    for name in selections:
        if name not in CRITERIA:
            raise UsageError(f"no selection {name!r}{nearest(name, CRITERIA)}")
    place, kind = _device(device), PRECISIONS[precision]
    dtype = kind.master
    if start.text is not None:
        start = replace(start, text=start.text.to(device=place, dtype=dtype))
    setups = [resolve(index, run, start) for index, run in enumerate(runs)]
    known = torch.as_tensor(np.asarray(truth) if not isinstance(truth, Tensor) else truth).to(place, torch.int64)
    check_inputs(x, setups, splits=splits, supervisions=supervisions, start=start, truth=known)
    for setup in setups:
        check_supervision(setup, supervisions[setup.run.supervision])

    rows = [
        check_rows(number, split, x.shape[0] if isinstance(x, Tensor) else x.n) for number, split in enumerate(splits)
    ]
    shared = shared_bytes(
        x,
        setups,
        k=start.k,
        scored=max((len(r.val) + len(r.test) for r in rows), default=0),
        teachers=sum(s.teachers for s in {id(s): s for s in supervisions}.values()),
        chunk=MOST_LOGITS,
        dtype=dtype,
        device=place,
    )
    check_memory(setups, shared=shared, d=start.d, k=start.k, dtype=dtype, device=place)
    clock = time.perf_counter()
    shaped = {
        (unit, scale, operand): prepared(
            x,
            unit_rows=unit,
            scale=scale,
            master=dtype,
            operand=kind.operand if operand else dtype,
            device=place,
        )
        for unit, scale, operand in {shape_of(s.head) for s in setups}
    }
    world = World(
        raw=prepared(x, unit_rows=False, scale=1.0, master=dtype, operand=dtype, device=place),
        shaped=shaped,
        splits=[
            SplitTensors(train=r.train, val=torch.as_tensor(r.val).to(place), test=torch.as_tensor(r.test).to(place))
            for r in rows
        ],
        supervisions=_moved(supervisions, dtype=dtype, device=place, keep=isinstance(x, Stream)),
        start=start,
        truth=known,
        tables=Tables(),
        precision=kind,
        device=place,
    )
    setups = [replace(s, n_train=len(rows[s.run.split].train)) for s in setups]
    for setup in setups:
        check_full(setup, supervisions[setup.run.supervision], k=start.k, d=start.d)
    load = (time.perf_counter() - clock) / max(1, len(setups))
    return _fits(world, setups, tuple(selections), precision, on_progress, load)


def _fits(
    world: World,
    setups: Sequence[Setup],
    selections: tuple[str, ...],
    precision: str,
    on_progress: Progress | None,
    load: float,
) -> Iterator[Fit]:
    done = 0
    stacks = group(setups, d=world.start.d, k=world.start.k, device=world.device, window=world.raw.window)
    for number, stack in enumerate(stacks):
        with in_memory(stack, device=world.device, dtype=world.dtype):
            for fit in _train(world, stack, selections, precision):
                done += 1
                if on_progress is not None:
                    on_progress(done, len(setups))
                yield replace(fit, stack=number, seconds={"load": load, **fit.seconds})


def _train(world: World, stack: Sequence[Setup], selections: tuple[str, ...], precision: str) -> Iterator[Fit]:
    clock = time.perf_counter()
    live = live_of(world, stack)
    tracks = [Track(epochs=s.run.epochs, selections=selections) for s in live.setups]
    epoch = 0
    while len(live):
        losses = torch.full((len(live),), torch.nan, dtype=world.dtype, device=world.device)
        if epoch > 0:
            losses = live.train_epoch(epoch - 1)
        fine = live.finite() & (losses.isfinite() if epoch > 0 else True)
        # one transfer to the host per epoch
        fine_here, losses_here = torch.stack([fine.to(torch.float64), losses.to(torch.float64)]).tolist()
        clock = _share(tracks, "train", clock)
        scores = live.evaluate(test="test_best" in selections).tolist()
        staying: list[int] = []
        ended: list[tuple[int, bool]] = []
        for r, track in enumerate(tracks):
            if not fine_here[r]:
                ended.append((r, False))
                continue
            taken = track.log(epoch, losses_here[r], scores[r])
            if taken:
                track.hold(taken, epoch, live.theta_of(r))
            if epoch >= track.epochs:
                ended.append((r, True))
            else:
                staying.append(r)
        _predict(live, [(r, tracks[r]) for r, fine_to_end in ended if fine_to_end])
        clock = _share(tracks, "evaluate", clock)
        leaving = [(live.setups[r], tracks[r], fine_to_end) for r, fine_to_end in ended]
        if ended:
            live.keep(staying)
            tracks = [tracks[r] for r in staying]
        for setup, track, fine_to_end in leaving:
            yield _finish(setup, track, epoch, fine_to_end, precision, world)
        # the consumer's time between two fits is not ours
        clock = time.perf_counter() if leaving else clock
        epoch += 1


def _predict(live: Live, ended: Sequence[tuple[int, Track]]) -> None:
    """Predictions of every selection of the runs that have ended, all runs together."""
    held = [(r, track, epoch, theta) for r, track in ended for epoch, theta in track.held().items()]
    found = live.predicted([(r, theta) for r, _, _, theta in held])
    for (_, track, epoch, _), classes in zip(held, found, strict=True):
        track.predicted |= {name: classes for name, at in track.epoch.items() if at == epoch}


def _share(tracks: Sequence[Track], what: str, since: float) -> float:
    now = time.perf_counter()
    for track in tracks:
        track.seconds[what] += (now - since) / len(tracks)
    return now


def _finish(setup: Setup, track: Track, epoch: int, fine: bool, precision: str, world: World) -> Fit:
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
        resolved=setup.resolved(precision=precision, device=world.device.type, order=world.raw.declared),
        notes=notes,
    )


def _moved(
    supervisions: Sequence[Supervision], *, dtype: torch.dtype, device: torch.device, keep: bool
) -> list[Supervision]:
    moved: dict[int, Supervision] = {}
    for s in supervisions:
        if id(s) not in moved:
            moved[id(s)] = s.to(dtype=dtype, device=device, keep=keep)
    return [moved[id(s)] for s in supervisions]


def _device(device: str | torch.device) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UsageError(f"no device {device!r}; use 'cpu' or 'cuda'") from None
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is not supported; use 'cpu' or 'cuda'")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise TrainError("device 'cuda' was asked for and torch finds none; use device='cpu'")
    return place
