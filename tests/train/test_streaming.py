"""Streamed training against resident training: the same runs where one window holds all, as accurate where not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from tasks import split, task

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.heads import starts
from w2s_fast.train import Run, Supervision, fit_heads, ground_truth, order
from w2s_fast.train.order import window_of_blocks
from w2s_fast.train.stream import ArrayBlocks, Stream

HEADS = ("linear", "prototype(init='weak_mean')", "linear(unit_x=False, x_scale=1)")


class Counted(ArrayBlocks):
    """Blocks that note which of them are read, in order."""

    def __init__(self, **fields):
        super().__init__(**fields)
        object.__setattr__(self, "log", [])

    def read(self, number):
        self.log.append(number)
        return super().read(number)


def stream(x, *, block=8, window=64, rows=None):
    return Stream(blocks=Counted(table=x.numpy(), block=block), window=window, rows=rows)


def fits(t, x, runs, splits, sups=None, **rest):
    found = fit_heads(
        x, runs, splits=splits, supervisions=sups or [t.sup], start=t.start, truth=t.y, **{"precision": "fp32", **rest}
    )
    return sorted(found, key=lambda f: f.index)


def mixed(n, seed, train):
    """A split in random order, as splits sorted by id are."""
    rows = np.random.default_rng(seed).permutation(n)
    middle = train + (n - train) // 2
    return split(rows[:train], rows[train:middle], rows[middle:])


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("block", [8, 7, 1000])
def test_one_window_is_resident_training_to_the_bit(block):
    t = task(n=300, k=5, d=9)
    half = t.x.half()
    splits = [mixed(t.n, s, 190 + s) for s in (0, 1)]
    runs = [
        Run(head=head, loss=loss, seed=s, split=s, batch_size=32, epochs=3)
        for s in (0, 1)
        for head in HEADS
        for loss in ("kd", "aux_conf")
    ]
    sups = [Supervision(weak=t.weak.half())]
    table = stream(half, block=block, window=1000)
    for a, b in zip(fits(t, half.float(), runs, splits, sups), fits(t, table, runs, splits, sups), strict=True):
        assert set(a.theta) == {"last", "weak_val", "oracle", "test_best"}
        for selection in a.theta:
            assert same(a.theta[selection], b.theta[selection])
            assert np.array_equal(a.predicted[selection], b.predicted[selection])
        assert all(np.array_equal(a.curves[name], b.curves[name], equal_nan=True) for name in a.curves)
        assert a.resolved["order"] == b.resolved["order"] == "resident"


def test_an_epoch_sees_every_row_once_window_by_window():
    n = 1003
    table = stream(torch.zeros(n, 2), block=8, window=100)
    rows = np.random.default_rng(0).permutation(n)[:700]
    seen = [table.order(rows, 3, epoch) for epoch in (0, 1, 0)]
    assert all(np.array_equal(np.sort(found), np.sort(rows)) for found in seen)
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])
    # 126 blocks in windows of at most 12
    windows = window_of_blocks(0, 126, 12)
    for found in (seen[0], table.order(rows, 4, 0), table.order(np.arange(n), 3, 0)):
        visited = [w for w, _ in itertools.groupby(windows[found // 8])]
        assert visited == list(range(11)), "runs of any seed and split visit the same windows in the same order"
    resident = rows[order(3, 0, 700)]
    for w in range(11):
        assert np.array_equal(seen[0][windows[seen[0] // 8] == w], resident[windows[resident // 8] == w])
    assert np.array_equal(stream(torch.zeros(n, 2), window=1003).order(rows, 3, 0), resident)


@pytest.mark.parametrize(("blocks", "most"), [(126, 12), (5, 2), (64, 64), (64, 63), (1, 1), (1000, 1)])
def test_windows_are_dealt_evenly_over_the_table(blocks, most):
    windows = -(-blocks // most)
    found = [window_of_blocks(epoch, blocks, most) for epoch in range(3)]
    for one in found:
        assert np.bincount(one, minlength=windows).max() <= most
        for start in range(0, blocks, windows):
            some = one[start : start + windows]
            assert len(set(some.tolist())) == len(some), "neighbours, hence rows of one class, fall into all windows"
    assert windows == 1 or not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("kept", [False, True])
def test_batches_are_the_rows_asked_for_and_never_fill_more_than_two_windows(kept):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g).half()
    rows = np.flatnonzero(np.arange(500) % 7 != 3) if kept else None
    table = stream(x, block=8, window=64, rows=rows)
    mine = x if rows is None else x[torch.from_numpy(rows)]
    assert (table.n, table.d) == (len(mine), 3)
    every = np.arange(table.n)
    two = np.stack([table.order(np.sort(np.random.default_rng(s).permutation(table.n)[:300]), s, 0) for s in (0, 1)])
    orders = {
        "train": table.order(every, 1, 0),
        "ascending": every,
        "two runs": two,
        "random": np.random.default_rng(0).permutation(table.n),
    }
    for name, wanted in orders.items():
        table.blocks.log.clear()
        numbers = (wanted if rows is None else rows[wanted]) // 8
        got = []
        for step, (part, found) in enumerate(table.batches(torch.from_numpy(wanted), 32)):
            got.append(part.shape[-1])
            assert found.dtype == torch.float16 and torch.equal(found, mine[part]), name
            needed_later = set(numbers[..., step * 32 :].reshape(-1).tolist())
            if name != "random":
                read = table.blocks.log
                held = len(read) - len(set(read) - needed_later)
                assert len(set(read)) == len(read) and held <= 16, "two windows of eight blocks"
        assert sum(got) == wanted.shape[-1] and set(got[:-1]) == {32}
    assert len(table.blocks.log) > 63, "in random order blocks are read again rather than held"


def test_one_pass_feeds_all_runs_whatever_their_seed_split_and_loss():
    t = task(n=600, k=4, d=6)
    splits = [mixed(t.n, s, 400) for s in range(3)]
    rest = {"batch_size": 32, "epochs": 4}
    runs = [Run(head="linear", loss=loss, seed=s, split=s, **rest) for s in range(3) for loss in ("kd", "ce")]
    table = stream(t.x, window=96)
    found = fits(t, table, runs, splits)
    assert {f.stack for f in found} == {0}
    assert {f.resolved["order"] for f in found} == {"stream(block=8, window=96)"}
    # one pass to verify, four to train, five to score, one to predict
    assert np.bincount(table.blocks.log).tolist() == [11] * 75
    for run, all_together in zip(runs, found, strict=True):
        (alone,) = fits(t, stream(t.x, window=96), [run], splits)
        for name, p in alone.theta["last"].items():
            assert torch.allclose(p, all_together.theta["last"][name], atol=1e-5), "its company changes nothing"


def test_runs_of_very_different_length_pass_separately():
    t = task(n=600, k=4, d=6)
    splits = [mixed(t.n, 0, 400), mixed(t.n, 1, 396), mixed(t.n, 2, 300)]
    runs = [Run(head="linear", loss="kd", split=s, batch_size=32, epochs=1) for s in range(3)]
    a, b, c = fits(t, stream(t.x, window=96), runs, splits)
    assert a.stack == b.stack != c.stack


def test_starts_that_read_features_stream_them_in_storage_order(monkeypatch):
    monkeypatch.setattr(starts, "CHUNK", 32)
    t = task(n=600, k=4, d=6)
    part = mixed(t.n, 0, 400)
    run = Run(head="prototype(init='weak_mean')", loss="kd", epochs=0)
    table = stream(t.x, window=96)
    (resident,), (streamed,) = fits(t, t.x, [run], [part]), fits(t, table, [run], [part])
    assert torch.allclose(resident.theta["last"]["prototypes"], streamed.theta["last"]["prototypes"], atol=1e-5)
    assert np.array_equal(resident.predicted["last"], streamed.predicted["last"])
    assert max(np.bincount(table.blocks.log)) <= 4


@pytest.mark.parametrize("solver", ["lbfgs", "ridge"])
def test_full_batch_solvers_read_streams_too(solver):
    t = task(n=120, k=3, d=4)
    part = mixed(t.n, 0, 80)
    run = Run(head="linear", loss="brier" if solver == "ridge" else "kd", solver=solver, weight_decay=1e-1)
    (a,), (b,) = (fits(t, x, [run], [part], precision="fp64") for x in (t.x.double(), stream(t.x.double(), window=56)))
    assert all(torch.allclose(p, b.theta["last"][name], atol=1e-6) for name, p in a.theta["last"].items())
    assert b.resolved["order"] is None


def test_half_precision_tables_are_cast_row_by_row():
    t = task(n=300, k=4, d=6)
    part = mixed(t.n, 0, 200)
    low, truth = t.weak.half(), ground_truth(t.y, 4)
    runs = [Run(head="linear", loss="kd", epochs=2), Run(head="linear", loss="ce", epochs=2, supervision=1)]
    wide = fits(t, stream(t.x), runs, [part], [Supervision(weak=low.float()), truth])
    kept = fits(t, stream(t.x), runs, [part], [Supervision(weak=low), ground_truth(t.y, 4, torch.float16)])
    assert all(same(a.theta["last"], b.theta["last"]) for a, b in zip(wide, kept, strict=True))
    moved = Supervision(weak=low).to(dtype=torch.float32, device="cpu", keep=True)
    assert moved.weak.data_ptr() == low.data_ptr() and moved.logits(torch.arange(3)).dtype == torch.float32


def test_rows_that_are_not_finite_are_told_where_a_split_uses_them():
    t = task(n=300)
    part = mixed(t.n, 0, 200)
    x = t.x.clone()
    x[part.val[3], 1] = torch.nan
    run = Run(head="linear", loss="kd", epochs=1)
    with pytest.raises(TrainError, match=f"features of row {part.val[3]} are not finite"):
        fits(t, stream(x), [run], [part])
    without = split(part.train, np.delete(part.val, 3), part.test)
    assert fits(t, stream(x), [run], [without])[0].status == "ok"
    with pytest.raises(UsageError, match="window of 0 rows"):
        stream(x, window=0)


def test_errors_of_the_reading_thread_reach_the_caller():
    class Broken(ArrayBlocks):
        def read(self, number):
            raise TrainError(f"block {number} is gone")

    table = Stream(blocks=Broken(table=np.zeros((300, 2), np.float32), block=8), window=64)
    with pytest.raises(TrainError, match="is gone"):
        list(table.batches(torch.arange(300), 32))


def test_streamed_training_is_as_accurate_as_resident_training(capsys):
    # sorted by class, as image folders lie on disk: in windows of consecutive rows this would fail
    n, k, d, seeds = 8000, 10, 16, range(16)
    t = task(n=n, k=k, d=d, noise=2.0, seed=3)
    rows = t.y.argsort(stable=True)
    t.x, t.y = t.x[rows].half(), t.y[rows]
    sups = [Supervision(weak=t.weak[rows])]
    splits = [mixed(n, s, 4000) for s in seeds]
    runs = [Run(head="linear", loss="kd", seed=s, split=i, batch_size=64, epochs=4) for i, s in enumerate(seeds)]
    table = stream(t.x, window=1000)
    assert -(-table.count // table.most) == 8
    resident, streamed = (fits(t, x, runs, splits, sups, selections=("last",)) for x in (t.x.float(), table))
    truth = t.y.numpy()
    right = [
        [float((f.predicted["last"] == truth[splits[f.index].test]).mean()) for f in found]
        for found in (resident, streamed)
    ]
    gap = np.subtract(right[1], right[0])
    half = student.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
    with capsys.disabled():
        print(f"\nstreamed - resident, {len(gap)} seeds: {gap.mean():+.4f} +- {half:.4f} of {np.mean(right[0]):.3f}")
    assert 0.3 < np.mean(right[0]) < 0.97
    assert abs(gap.mean()) + half < 0.01


def test_memory_is_counted_as_it_is_held(monkeypatch):
    from w2s_fast.train import memory

    t = task(n=3000, k=4, d=256)
    part, run = mixed(t.n, 0, 2000), Run(head="linear", loss="kd", epochs=1, batch_size=32)
    table = stream(t.x.half(), window=512)
    assert table.held_bytes == 2 * 512 * 256 * 2
    needed = memory.run_bytes(memory_setup(run, t), d=t.d, k=t.k) + 4 * 1000 * t.k + table.held_bytes
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed)
    assert fits(t, table, [run], [part])[0].status == "ok"
    with pytest.raises(TrainError, match="one run needs"):
        fits(t, t.x, [run], [part])


def memory_setup(run, t):
    from w2s_fast.train.run import resolve

    return resolve(0, run, t.start)
