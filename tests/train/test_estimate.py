"""What a stack costs: bytes against arithmetic and allocations, seconds against the clock, and too little memory."""

import sys
from dataclasses import replace

import pytest
import torch
from tasks import task, thirds

from w2s_fast.core.errors import TrainError
from w2s_fast.train import Run, engine, fit_heads, memory
from w2s_fast.train.estimate import estimate
from w2s_fast.train.gemm import PRECISIONS
from w2s_fast.train.memory import check_memory, free_bytes, gib, run_bytes
from w2s_fast.train.plan import group
from w2s_fast.train.run import resolve

CPU = torch.device("cpu")
PLAN = sys.modules["w2s_fast.train.plan"]


def fits(t, runs, parts, **options):
    given = {"splits": parts, "supervisions": [t.sup], "start": t.start, "truth": t.y, **options}
    return sorted(fit_heads(t.x, runs, **given), key=lambda f: f.index)


def test_bytes_of_a_run_by_hand():
    adam = resolve(0, Run(head="linear", loss="kd", batch_size=512))
    sgd = resolve(0, Run(head="linear", loss="kd", batch_size=512, solver="sgd"))
    # weights, gradients, four selections and Adam's two moments; twelve tables of logits; a batch twice
    assert run_bytes(adam, d=512, k=345) == 4 * (8 * 345 * 513 + 12 * 512 * 345 + 2 * 512 * 512)
    assert run_bytes(adam, d=512, k=345) - run_bytes(sgd, d=512, k=345) == 4 * 345 * 513
    assert run_bytes(adam, d=512, k=345, dtype=torch.float64) == 2 * run_bytes(adam, d=512, k=345)


def test_free_memory_is_the_systems():
    free = free_bytes(CPU)
    assert free is not None and 1 << 20 < free < 1 << 50


def test_a_system_that_does_not_say_is_not_checked(monkeypatch):
    def absent(*_, **__):
        raise OSError

    monkeypatch.setattr("builtins.open", absent)
    monkeypatch.setattr(memory.os, "sysconf", absent)
    assert free_bytes(CPU) is None
    check_memory([resolve(0, Run(head="linear", loss="kd"))], shared=1 << 60, d=9, k=5, dtype=torch.float32, device=CPU)


def test_too_little_memory_says_how_much_before_anything_is_allocated(monkeypatch):
    t = task()
    monkeypatch.setattr(engine, "prepared", lambda *_, **__: pytest.fail("features were prepared"))
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10_000)
    big = Run(head="linear", loss="kd", batch_size=1 << 20)
    with pytest.raises(TrainError) as told:
        fits(t, [Run(head="linear", loss="kd", batch_size=2), big], [thirds(t.n, 60)])
    # a batch is never larger than the train rows that there are
    need = run_bytes(replace(resolve(1, big), n_train=60), d=t.d, k=t.k)
    assert need == run_bytes(resolve(1, replace(big, batch_size=60)), d=t.d, k=t.k)
    text = str(told.value)
    assert gib(need) in text and "0.0 MiB are free" in text and "batch_size=1048576" in text
    assert "lower batch_size" in text and "precision" not in text
    with pytest.raises(TrainError, match="use precision='fp32'"):
        fits(t, [big], [thirds(t.n, 60)], precision="fp64")


def test_features_count_too(monkeypatch):
    t = task()
    run = Run(head="linear", loss="kd", batch_size=16)
    own = run_bytes(resolve(0, run), d=t.d, k=t.k)
    monkeypatch.setattr(memory, "free_bytes", lambda _: own + 4 * t.n * t.d)
    with pytest.raises(TrainError, match="one run needs"):
        fits(t, [run], [thirds(t.n, 60)])
    monkeypatch.setattr(memory, "free_bytes", lambda _: own + 4 * (2 * t.n * t.d + 4 * t.n * t.k))
    assert fits(t, [run], [thirds(t.n, 60)])[0].status == "ok"


def test_stacks_are_as_wide_as_memory_allows(monkeypatch):
    t = task()
    runs = [Run(head="linear", loss="kd", batch_size=16, epochs=1) for _ in range(8)]
    each = run_bytes(resolve(0, runs[0]), d=t.d, k=t.k)
    for free, width in ((2 * 2 * each, 2), (2 * 4 * each, 4), (each, 1), (None, 8)):
        monkeypatch.setattr(PLAN, "free_bytes", lambda _, free=free: free)
        stacks = group([resolve(i, r) for i, r in enumerate(runs)], d=t.d, k=t.k, device=CPU)
        assert {len(s) for s in stacks} == {width}


def test_running_out_on_the_way_is_a_sentence(monkeypatch):
    t = task()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("w2s_fast.heads.linear.Linear.init", full)
    with pytest.raises(TrainError, match=r"out of memory on cpu while training 1 runs together \(batch_size=16\)"):
        fits(t, [Run(head="linear", loss="kd", batch_size=16)], [thirds(t.n, 60)])


def test_seconds_grow_with_the_work():
    setup = replace(resolve(0, Run(head="linear", loss="kd", batch_size=256, epochs=10)), n_train=2048)
    size = {"n_train": 2048, "scored": 512, "d": 256, "k": 64, "precision": PRECISIONS["fp32"], "device": CPU}
    one = estimate([setup], **size)
    # rates are measured once per shape, so that these are exact
    more = estimate([setup], **{**size, "n_train": 4096}).seconds - one.seconds
    still = estimate([setup], **{**size, "n_train": 8192}).seconds - one.seconds
    assert more > 0 and still == pytest.approx(3 * more)
    longer = replace(setup, run=replace(setup.run, epochs=20))
    assert 1.8 * one.seconds < estimate([longer], **size).seconds <= 2 * one.seconds
    assert estimate([setup] * 4, **size).bytes == 4 * one.bytes == 4 * run_bytes(setup, d=256, k=64)
