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
from w2s_fast.train.checks import check_inputs, check_rows
from w2s_fast.train.evaluate import MOST_LOGITS
from w2s_fast.train.features import prepared
from w2s_fast.train.live import Live, SplitTensors, World
from w2s_fast.train.memory import check_memory, in_memory, shared_bytes
from w2s_fast.train.plan import group
from w2s_fast.train.run import Fit, Run, Setup, SplitRows, check_supervision, resolve
from w2s_fast.train.select import CRITERIA, Track

SELECTIONS = tuple(CRITERIA)
PRECISIONS = {"fp32": torch.float32, "fp64": torch.float64}
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
    precision: `fp32` (IEEE) or `fp64`. on_progress is told (runs done, runs in all). All arguments are checked before
    the first run starts; raises `UsageError`, `SpecError` or `TrainError`.
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
    place, dtype = _device(device), PRECISIONS[precision]
    if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
        raise TrainError(
            f"precision 'fp32' means IEEE, and this process has float32 matmul precision "
            f"{torch.get_float32_matmul_precision()!r}; call torch.set_float32_matmul_precision('highest')"
        )
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
    units = {unit: prepared(x, unit_rows=unit, dtype=dtype, device=place) for unit in {s.head.unit_x for s in setups}}
    world = World(
        raw=units[False] if False in units else prepared(x, unit_rows=False, dtype=dtype, device=place),
        units=units,
        splits=[
            SplitTensors(train=r.train, val=torch.as_tensor(r.val).to(place), test=torch.as_tensor(r.test).to(place))
            for r in rows
        ],
        supervisions=_moved(supervisions, dtype=dtype, device=place),
        start=start,
        truth=known,
        dtype=dtype,
        device=place,
    )
    setups = [replace(s, n_train=len(rows[s.run.split].train)) for s in setups]
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
    for number, stack in enumerate(group(setups, d=world.start.d, k=world.start.k, device=world.device)):
        with in_memory(stack, device=world.device, dtype=world.dtype):
            for fit in _train(world, stack, selections, precision):
                done += 1
                if on_progress is not None:
                    on_progress(done, len(setups))
                yield replace(fit, stack=number, seconds={"load": load, **fit.seconds})


def _train(world: World, stack: Sequence[Setup], selections: tuple[str, ...], precision: str) -> Iterator[Fit]:
    clock = time.perf_counter()
    live = Live(world, stack)
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
        table, predicted = live.evaluate()
        scores = table.tolist()
        staying: list[int] = []
        ended: list[tuple[int, bool]] = []
        for r, track in enumerate(tracks):
            if not fine_here[r]:
                ended.append((r, False))
                continue
            taken = track.log(epoch, losses_here[r], scores[r])
            if taken:
                track.hold(taken, epoch, live.theta_of(r), predicted[r])
            if epoch >= track.epochs:
                ended.append((r, True))
            else:
                staying.append(r)
        clock = _share(tracks, "evaluate", clock)
        leaving = [(live.setups[r], tracks[r], fine_to_end) for r, fine_to_end in ended]
        if ended:
            live.keep(staying)
            tracks = [tracks[r] for r in staying]
        for setup, track, fine_to_end in leaving:
            yield _finish(setup, track, epoch, fine_to_end, precision, world.device)
        # the consumer's time between two fits is not ours
        clock = time.perf_counter() if leaving else clock
        epoch += 1


def _share(tracks: Sequence[Track], what: str, since: float) -> float:
    now = time.perf_counter()
    for track in tracks:
        track.seconds[what] += (now - since) / len(tracks)
    return now


def _finish(setup: Setup, track: Track, epoch: int, fine: bool, precision: str, device: torch.device) -> Fit:
    notes = track.notes()
    if not fine:
        where = f"diverged in epoch {epoch} of {track.epochs}"
        notes = (f"{where}: loss or parameters are not finite; lower lr (now {setup.lr})",)
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
        resolved=setup.resolved(precision=precision, device=device.type),
        notes=notes,
    )


def _moved(supervisions: Sequence[Supervision], *, dtype: torch.dtype, device: torch.device) -> list[Supervision]:
    moved: dict[int, Supervision] = {}
    for s in supervisions:
        if id(s) not in moved:
            moved[id(s)] = s.to(dtype=dtype, device=device)
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
