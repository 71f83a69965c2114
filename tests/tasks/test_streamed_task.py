"""A task opened from a bank as a stream: the same results, the same errors, and what rows say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import gaussian_task

from w2s_fast import fit
from w2s_fast.core.errors import Damaged, UsageError
from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import Bank, begin_bank, complete_bank, layout, missing_parts, open_key, write_part
from w2s_fast.tasks import features as choosing
from w2s_fast.tasks.features import open_features, weak_logits
from w2s_fast.tasks.task import Task
from w2s_fast.train.stream import Stream

N, D, K = 500, 16, 5


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """500 rows in parts of 64, in half precision but for one part that it cannot hold."""
    monkeypatch.setattr(layout, "PART_ROWS", 64)
    x = gaussian_task(n=N, k=K, d=D).features
    assert isinstance(x, torch.Tensor)
    x, ids = x.numpy().copy(), [row_id(str(i).encode()) for i in range(N)]
    x[200, 3] = 1e5
    where = begin_bank(tmp_path, {"made": 1})
    for part in missing_parts(where, N):
        rows = slice(*layout.row_range(part, N))
        norms = np.linalg.norm(x[rows], axis=1)
        logits = (2 * x[rows, :K]).clip(-9, 9).astype(np.float16)
        write_part(
            where, part, ids=ids[rows], features=x[rows], logits=logits, norms=norms, ok=np.ones(len(norms), bool)
        )
    complete_bank(where, rows=N, rows_digest=digest_ids(ids))
    return open_key(where.name, cache=tmp_path)


def task_of(bank: Bank, stream: bool | int | None, rows: np.ndarray | None = None) -> tuple[Task, list[str]]:
    from dataclasses import replace

    said: list[str] = []
    rows = np.arange(N) if rows is None else rows
    table = open_features(bank, rows, stream=stream, name="it", say=said.append)
    logits = weak_logits(bank, rows, as_stored=isinstance(table, Stream))
    assert logits is not None
    made = gaussian_task(n=N, k=K, d=D)
    from w2s_fast.tasks.opening import kept

    return replace(made, manifest=kept(made.manifest, rows), features=table, weak_logits={0: logits}), said


def without_time(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith("seconds") and name != "stack"}


@pytest.mark.parametrize("dropped", [False, True])
def test_a_stream_that_fits_one_window_gives_the_resident_rows(bank: Bank, dropped: bool) -> None:
    rows = np.flatnonzero(np.arange(N) % 9 != 4) if dropped else np.arange(N)
    arguments = {"method": ["cpl", "kd+lp", "ce+lp"], "seeds": 2, "epochs": 2, "batch_size": 64, "split": "paper"}
    resident, streamed = (task_of(bank, stream, rows)[0] for stream in (False, True))
    assert isinstance(resident.features, torch.Tensor) and isinstance(streamed.features, Stream)
    assert streamed.width == D and streamed.features.n == len(rows)
    assert streamed.weak_logits[0].dtype == torch.float16 and resident.weak_logits[0].dtype == torch.float32
    a, b = fit(resident, **arguments), fit(streamed, **arguments)
    assert [without_time(r) for r in a.rows] == [without_time(r) for r in b.rows]
    assert {r["order"] for r in b.rows} == {"resident"} and a.rows[0]["acc_w2s_pool"] is not None
    assert {r["acc_zero_shot"] is not None and r["acc_fusion"] is not None for r in b.rows} == {True}


def test_rows_declare_the_order_and_runs_in_another_order_are_other_runs(bank: Bank) -> None:
    arguments = {"method": "kd+lp", "seeds": 2, "epochs": 2, "batch_size": 64}
    a, b = (fit(task_of(bank, stream)[0], **arguments) for stream in (False, 128))
    assert {r["order"] for r in b.rows} == {"stream(block=32, window=128)"}
    assert not {r["run_id"] for r in a.rows} & {r["run_id"] for r in b.rows}
    for one, other in zip(a.rows, b.rows, strict=True):
        same = ("acc_weak", "acc_zero_shot", "acc_fusion", "split_hash", "n_train", "seed", "selection", "method")
        assert [one[name] for name in same] == [other[name] for name in same]
    table = task_of(bank, False)[0]
    asked = fit(table, stream=128, **arguments)
    assert [r["run_id"] for r in asked.rows] == [r["run_id"] for r in b.rows], "from memory as from the bank"
    assert [r["acc_w2s"] for r in asked.rows] == [r["acc_w2s"] for r in b.rows]
    with pytest.raises(UsageError, match="--no-stream"):
        fit(task_of(bank, 128)[0], stream=False, **arguments)
    with pytest.raises(UsageError, match="stream=0"):
        task_of(bank, 0)


def test_what_does_not_fit_is_streamed_and_said(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 3 * 4 * N * D
    for free, streams in ((2 * needed, False), (2 * needed - 1, True), (None, False)):
        monkeypatch.setattr(choosing, "free_bytes", lambda device, free=free: free)
        task, said = task_of(bank, None)
        assert isinstance(task.features, Stream) is streams and len(said) == streams
        assert not said or ("it: features are streamed" in said[0] and "--no-stream" in said[0])
        assert isinstance(task_of(bank, False)[0].features, torch.Tensor)


@pytest.mark.parametrize("when", ["before it is read", "after it was verified"])
def test_damage_is_the_error_of_a_resident_read(bank: Bank, when: str) -> None:
    streamed = task_of(bank, 128)[0].features
    assert isinstance(streamed, Stream)
    if when != "before it is read":
        assert streamed.finite.all()
    chunk = layout.parts_dir(bank.folder) / bank.parts[2].commit.directory / "features" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.chmod(0o644)
    chunk.write_bytes(bytes(data))
    with pytest.raises(Damaged) as resident:
        bank.features()
    order = torch.from_numpy(streamed.order(np.arange(N), 0, 0))
    for rows in (order, torch.arange(N)):
        with pytest.raises(Damaged, match=r"features/c/0/0: its bytes .*rows 128-191") as found:
            list(streamed.batches(rows, 32))
        if when == "before it is read":
            assert str(found.value) == str(resident.value)


def test_a_part_that_is_cut_short_is_never_returned(bank: Bank) -> None:
    streamed = task_of(bank, 128)[0].features
    assert isinstance(streamed, Stream) and streamed.finite.all()
    chunk = layout.parts_dir(bank.folder) / bank.parts[1].commit.directory / "features" / "c" / "0" / "0"
    chunk.chmod(0o644)
    with chunk.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(Damaged, match="rows 64-127"):
        list(streamed.batches(torch.from_numpy(streamed.order(np.arange(N), 0, 0)), 32))


def test_blocks_are_read_alone_once_their_part_is_verified(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = task_of(bank, 128)[0].features
    assert isinstance(streamed, Stream)
    wholes: list[int] = []
    real = Bank.part
    monkeypatch.setattr(Bank, "part", lambda self, name, number: wholes.append(number) or real(self, name, number))
    assert streamed.finite.all() and wholes == list(range(8)), "one verified read of each part, in storage order"
    expected = bank.features()
    wholes.clear()
    for epoch in range(3):
        for part, x in streamed.batches(torch.from_numpy(streamed.order(np.arange(N), 1, epoch)), 32):
            assert torch.equal(x.float(), expected[part])
    assert len(wholes) <= 12, "blocks that follow each other by chance take a part whole"
