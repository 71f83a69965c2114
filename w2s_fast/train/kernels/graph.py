"""A whole training epoch as one CUDA graph that is launched again for every later epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError

Work = Callable[[Mapping[str, Tensor]], Tensor]
"""An epoch: reads its buffers (and state that it moves in place), never the host; what it returns is a tensor."""


class Recorder(Protocol):
    """What turns work into something that can be done again without Python."""

    def warm(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work for good, so that whatever is compiled or allocated once is there before it is recorded."""
        ...

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record the work without doing it: the tensor that every replay writes, and the replay."""
        ...


class CudaRecorder:
    """Warms up and records on a stream of its own; replays are launched on the current one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def warm(self, work: Callable[[], Tensor]) -> Tensor:
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            out = work()
        here.wait_stream(self.stream)
        out.record_stream(here)
        return out

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may go on copying and allocating while this one records
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            out = work()
        return out, graph.replay


class EpochGraph:
    """Runs `work` on static buffers: the first time as it is, then recorded, then replayed.

    The first epoch is the warm-up, so nothing is done twice and no state has to be put back. Where recording fails,
    `why` says so and every epoch runs as it is. Make another one when the tensors that work moves are replaced.
    """

    def __init__(self, work: Work, recorder: Recorder | None, *, device: torch.device | str) -> None:
        self.why: str | None = "no recorder for this device" if recorder is None else None
        self._work = work
        self._recorder = recorder
        self._device = device
        self._buffers: dict[str, Tensor] = {}
        self._out: Tensor | None = None
        self._replay: Callable[[], None] | None = None
        self._warm = False

    @property
    def captured(self) -> bool:
        """Whether epochs are replayed from now on."""
        return self._replay is not None

    def run(self, values: Mapping[str, Tensor]) -> Tensor:
        """One epoch on `values`, tensors of the same names, shapes and types every time; a copy of what it returns."""
        self._fill(values)
        if self._recorder is None or self.why is not None:
            return self._once().clone()
        if not self._warm:
            self._warm = True
            return self._recorder.warm(self._once).clone()
        if self._replay is None:
            try:
                self._out, self._replay = self._recorder.capture(self._once)
            except RuntimeError as error:
                self.why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
                return self._once().clone()
        self._replay()
        assert self._out is not None
        return self._out.clone()

    def _once(self) -> Tensor:
        return self._work(self._buffers)

    def _fill(self, values: Mapping[str, Tensor]) -> None:
        if not self._buffers:
            self._buffers = {name: value.to(self._device, copy=True) for name, value in values.items()}
            return
        for name in self._buffers.keys() | values.keys():
            one, other = self._buffers.get(name), values.get(name)
            if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
                raise TrainError(
                    f"an epoch's buffer {name!r} was {_said(one)} and is {_said(other)}; "
                    "make another EpochGraph when runs leave a stack"
                )
            one.copy_(other, non_blocking=True)


def _said(x: Tensor | None) -> str:
    return "absent" if x is None else f"{tuple(x.shape)} of {x.dtype}"
