"""`fit_heads`: many runs in, one `Fit` each out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from w2s_fast.core import processor
from w2s_fast.core.errors import TrainError, UsageError, nearest
from w2s_fast.heads.head import Features, Start
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.batch import Tables
from w2s_fast.train.checks import check_inputs, check_rows
from w2s_fast.train.compiled import Compiler
from w2s_fast.train.context import EngineContext, SplitTensors
from w2s_fast.train.evaluate import MOST_LOGITS
from w2s_fast.train.features import prepared
from w2s_fast.train.full_batch import check_full
from w2s_fast.train.fused import make_fused
from w2s_fast.train.gemm import PRECISIONS, Precision
from w2s_fast.train.kernels import why_not
from w2s_fast.train.loop import Progress, fits
from w2s_fast.train.memory import check_memory, most_tables, shared_bytes
from w2s_fast.train.run import Fit, Run, SplitRows, check_supervision, resolve
from w2s_fast.train.select import CRITERIA
from w2s_fast.train.step import shape_of
from w2s_fast.train.stream import Stream

log = logging.getLogger("w2s_fast")
SELECTIONS = tuple(CRITERIA)
KERNELS = ("auto", "torch", "triton")
COMPILE = ("auto", "never", "always")


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
    kernels: str = "auto",
    compile: str = "auto",
    selections: Sequence[str] = SELECTIONS,
    on_progress: Progress | None = None,
) -> Iterator[Fit]:
    """Train every run and yield its `Fit` when it ends, in no promised order (`Fit.index` is the place in `runs`).

    x: features f[N, d], a tensor or an object that streams batches. truth: i[N], -1 = unknown; read for scoring only.
    precision: `fp32` (IEEE), `tf32` (on CUDA; elsewhere fp32), `bf16` (operands of products; the rest is single; fp32
    on a CPU without its instructions, and rows say so) or `fp64`. kernels: `triton` where it serves (`auto`: on CUDA),
    or `torch` alone, the oracle. compile: losses by torch.compile on a CPU (`auto`: where the steps pay for it). Test
    rows are scored in every epoch only for `test_best`. on_progress is told (runs done, runs in all). All arguments are
    checked before the first run starts; raises `UsageError`, `SpecError` or `TrainError`.
    """
    if not isinstance(x, Tensor) and not hasattr(x, "batches"):
        raise UsageError(
            f"features are a {type(x).__name__}; give a tensor f[N, d] (torch.as_tensor), or a Features object"
        )
    if compile not in COMPILE:
        raise UsageError(f"compile {compile!r} is not one of {', '.join(COMPILE)}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    for name in selections:
        if name not in CRITERIA:
            raise UsageError(f"no selection {name!r}{nearest(name, CRITERIA)}")
    place = _device(device)
    kind = _served(precision, place)
    dtype = kind.master
    if start.text is not None:
        start = replace(start, text=start.text.to(device=place, dtype=dtype))
    setups = [resolve(index, run, start) for index, run in enumerate(runs)]
    known = torch.as_tensor(np.asarray(truth) if not isinstance(truth, Tensor) else truth).to(place, torch.int64)
    check_inputs(x, setups, splits=splits, supervisions=supervisions, start=start, truth=known)
    for setup in setups:
        check_supervision(setup, supervisions[setup.run.supervision])

    n, used = x.shape[0] if isinstance(x, Tensor) else x.n, {s.run.split for s in setups}
    rows = [check_rows(number, split, n, used=number in used) for number, split in enumerate(splits)]
    setups = [replace(s, n_train=len(rows[s.run.split].train)) for s in setups]
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
    context = EngineContext(
        raw=prepared(x, unit_rows=False, scale=1.0, master=dtype, operand=dtype, device=place),
        shaped=shaped,
        splits=[
            SplitTensors(train=r.train, val=torch.as_tensor(r.val).to(place), test=torch.as_tensor(r.test).to(place))
            for r in rows
        ],
        supervisions=_moved(supervisions, dtype=dtype, device=place, keep=isinstance(x, Stream)),
        start=start,
        truth=known,
        tables=Tables(most=most_tables(place)),
        precision=kind,
        fuse=make_fused if _kernels(kernels, place) else lambda stack: None,
        compiler=Compiler(compile if place.type == "cpu" else "never", setups, k=start.k),
        device=place,
    )
    for setup in setups:
        check_full(setup, supervisions[setup.run.supervision], k=start.k, d=start.d)
    load = (time.perf_counter() - clock) / max(1, len(setups))
    return fits(context, setups, selections=tuple(selections), on_progress=on_progress, load=load)


def _moved(
    supervisions: Sequence[Supervision], *, dtype: torch.dtype, device: torch.device, keep: bool
) -> list[Supervision]:
    moved: dict[int, Supervision] = {}
    for s in supervisions:
        if id(s) not in moved:
            moved[id(s)] = s.to(dtype=dtype, device=device, keep=keep)
    return [moved[id(s)] for s in supervisions]


def _served(precision: str, device: torch.device) -> Precision:
    if precision == "bf16" and device.type == "cpu" and not processor.has_bf16():
        log.warning("precision bf16 is fp32 here: %s", processor.NO_BF16)
        return PRECISIONS["fp32"]
    return PRECISIONS[precision]


def _kernels(kernels: str, device: torch.device) -> bool:
    if kernels not in KERNELS:
        raise UsageError(f"kernels {kernels!r} is not one of {', '.join(KERNELS)}")
    if kernels == "torch" or (kernels == "auto" and device.type != "cuda"):
        return False
    reason = why_not(device)
    if reason and kernels == "triton":
        raise UsageError(f"kernels='triton' cannot run: {reason}; use kernels='auto'")
    return reason is None


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
