"""Epochs on static buffers: warmed up once, recorded once, replayed; by a CPU stand-in that records every operation."""

from __future__ import annotations

import pytest
import torch
from cpu_tape import Tape

from w2s_fast.core.errors import TrainError
from w2s_fast.train.kernels import EpochGraph
from w2s_fast.train.solver import make_solver

R, N, D, K, B, STEPS = 2, 24, 4, 3, 8, 3


class Small:
    """Softmax regression of two runs by hand, an epoch of three steps; `slip` makes it read the host."""

    def __init__(self, slip=None):
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(N, D, generator=g)
        self.y = torch.nn.functional.one_hot(torch.randint(0, K, (N,), generator=g), K).float()
        self.w = torch.randn(R, K, D, generator=g)
        self.state = {"m": torch.zeros_like(self.w), "v": torch.zeros_like(self.w)}
        self.solver = make_solver("adam")
        self.slip = slip
        self.epochs = 0

    def tensors(self):
        return (self.w, *self.state.values())

    def __call__(self, buffers):
        self.epochs += 1
        total = torch.zeros(R)
        for step in range(STEPS):
            rows = buffers["rows"][:, step * B : (step + 1) * B]
            x, y = self.x[rows], self.y[rows]
            logp = torch.log_softmax(x @ self.w.mT, dim=-1)
            total += -(logp * y).sum(dim=(1, 2))
            grad = (logp.exp() - y).mT @ x * buffers["inverse"][step].view(-1, 1, 1)
            move = buffers["move"][step]
            if self.slip == "python":
                move = 0.01 * self.epochs
            if self.slip == "item":
                move = float(move[0])
            numbers = {"move": move, "root": buffers["root"][step], "l2": 0.0}
            self.solver.update(self.w, grad, self.state, numbers, None)
        return total / N


def epochs(count):
    """Fresh tensors per epoch, unlike in everything."""
    g = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield {
            "rows": torch.stack([torch.randperm(N, generator=g) for _ in range(R)]),
            "move": 0.1 * torch.rand(STEPS, R, generator=g),
            "root": torch.rand(STEPS, R, generator=g) + 0.5,
            "inverse": torch.rand(STEPS, R, generator=g),
        }


def train(work, recorder, count=5):
    if recorder is not None:
        recorder.state = work.tensors()
    graph = EpochGraph(work, recorder, device="cpu")
    losses = []
    for values in epochs(count):
        losses.append(graph.run(values))
        for x in values.values():
            x.fill_(0 if x.dtype == torch.int64 else torch.nan)
    return graph, torch.stack(losses)


def test_replayed_epochs_equal_those_done_step_by_step():
    plain, taped, tape = Small(), Small(), Tape()
    wanted = torch.stack([plain(values) for values in epochs(5)])
    graph, losses = train(taped, tape)
    assert graph.captured and graph.why is None
    assert (tape.warmed, tape.captured) == (1, 1)
    assert taped.epochs == 2, "Python ran for the warm-up and the recording alone"
    assert torch.equal(losses, wanted), "copies: later epochs do not write into earlier losses"
    assert all(map(torch.equal, taped.tensors(), plain.tensors()))
    assert len(set(wanted[:, 0].tolist())) == 5


def test_a_number_from_python_shows():
    """The stand-in freezes what Python computed, as a graph does; so an epoch that leans on it is found out."""
    plain, taped = Small("python"), Small("python")
    wanted = torch.stack([plain(values) for values in epochs(5)])
    _, losses = train(taped, Tape())
    assert torch.equal(losses[:2], wanted[:2])
    assert not torch.allclose(losses[3:], wanted[3:])


def test_reading_the_host_falls_back_and_says_why():
    plain, taped, tape = Small("item"), Small("item"), Tape()
    wanted = torch.stack([plain(values) for values in epochs(5)])

    graph, losses = train(taped, tape)
    assert not graph.captured
    assert graph.why is not None and "_local_scalar_dense" in graph.why and graph.why.startswith("RuntimeError: ")
    assert torch.equal(losses, wanted)
    assert tape.captured == 1, "not tried again"


def test_errors_of_the_package_are_not_swallowed():
    class Wrong(Tape):
        def capture(self, work):
            raise TrainError("a loss returned the wrong shape")

    graph = EpochGraph(Small(), Wrong(), device="cpu")
    first, second = epochs(2)
    graph.run(first)
    with pytest.raises(TrainError, match="wrong shape"):
        graph.run(second)


def test_without_a_recorder_epochs_run_as_they_are():
    plain, work = Small(), Small()
    wanted = torch.stack([plain(values) for values in epochs(5)])
    graph, losses = train(work, None)
    assert not graph.captured and graph.why
    assert torch.equal(losses, wanted)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "rows": v["rows"][:1]},
        lambda v: {**v, "move": v["move"].double()},
        lambda v: {n: x for n, x in v.items() if n != "root"},
        lambda v: {**v, "valid": torch.ones(R, N)},
    ],
)
def test_buffers_keep_their_shape(change):
    graph = EpochGraph(Small(), Tape(), device="cpu")
    first, second = epochs(2)
    graph.run(first)
    with pytest.raises(TrainError, match="make another EpochGraph"):
        graph.run(change(second))
