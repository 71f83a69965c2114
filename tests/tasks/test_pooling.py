"""Pooled domains: rows, halves, teachers and other encoders' features are those of each domain, joined."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from w2s_fast import fit
from w2s_fast.core.errors import UsageError
from w2s_fast.data import drawn, drawn_source
from w2s_fast.data.splits import halves
from w2s_fast.store.refs import list_refs
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.tasks.opening import open_task
from w2s_fast.tasks.pooling import JoinedBlocks, pool_tasks
from w2s_fast.tasks.task import Task
from w2s_fast.train.stream import ArrayBlocks, Stream


def domain(name: str, *, n: int = 60, k: int = 3, d: int = 4, seed: int = 0, ids: list[str] | None = None) -> Task:
    rng = np.random.default_rng(seed)
    text = np.random.default_rng(9).normal(size=(k, d))
    return Task.from_arrays(
        features=rng.normal(size=(n, d)),
        weak_logits={s: rng.normal(size=(n, k)) for s in (0, 1)},
        labels=np.arange(n) % k,
        text=text,
        ids=ids or [f"{name}-{i}" for i in range(n)],
        name=name,
        d_train=np.arange(n) < n // 3,
        teachers={"more": rng.normal(size=(n, k)), name: rng.normal(size=(n, k))},
        encoders={"weak/0": rng.normal(size=(n, 5)), name: rng.normal(size=(n, 5))},
    )


def test_every_row_keeps_what_its_domain_says_of_it() -> None:
    tasks = [domain("b", seed=1), domain("a", n=45, seed=2)]
    pooled = pool_tasks(tasks)
    assert (pooled.data, len(pooled.ids)) == ("a+b", 105) and pooled.ids == tasks[1].ids + tasks[0].ids
    assert pooled.manifest.groups == ("a",) * 45 + ("b",) * 60 and pooled.domain == "pool of a, b"
    for task, rows in ((tasks[1], slice(0, 45)), (tasks[0], slice(45, None))):
        torch.testing.assert_close(pooled.features[rows], task.features)
        torch.testing.assert_close(pooled.labels[rows], task.labels)
        for seed in (0, 1):
            torch.testing.assert_close(pooled.weak_logits[seed][rows], task.weak_logits[seed])
        torch.testing.assert_close(pooled.more_teachers["more"][rows], task.more_teachers["more"])
        torch.testing.assert_close(pooled.open_features("weak/0")[rows], task.open_features("weak/0"))  # type: ignore[misc]
        mine = {pooled.ids[r] for r in halves(pooled.manifest)[0]} & set(task.ids)
        assert mine == {task.ids[r] for r in halves(task.manifest)[0]}
    assert set(pooled.more_teachers) == {"more"} and pooled.weak_models == {0: "weak/0", 1: "weak/1"}
    with pytest.raises(UsageError, match="'b'"):
        pooled.open_features("b")  # type: ignore[misc]
    again = pool_tasks([*reversed(tasks)])
    assert again.ids == pooled.ids and again.keys == pooled.keys and again.keys["features"] != tasks[0].keys["features"]
    split = pooled.splits(seed=0)
    assert split.digest == again.splits(seed=0).digest and len(split.test) == 14


def test_an_image_of_two_domains_is_two_rows_and_never_in_d_train_and_a_pool() -> None:
    shared = ["0" * 31 + str(i) for i in range(4)]
    a, b = domain("a", seed=1), domain("b", seed=2)
    ids_a, ids_b = list(a.ids), list(b.ids)
    ids_a[0], ids_b[0] = shared[0], shared[0]  # D_train of both
    ids_a[40], ids_b[41] = shared[1], shared[1]  # the pool of both
    ids_a[1], ids_b[42] = shared[2], shared[2]  # D_train of a, the pool of b
    ids_a[43], ids_b[2] = shared[3], f"{shared[3]}#2"  # the pool of a, D_train of b, where it is the second
    ids_b[3] = shared[3] + "x"
    told: list[str] = []
    tasks = [domain("a", seed=1, ids=ids_a), domain("b", seed=2, ids=ids_b)]
    pooled = pool_tasks(tasks, say=told.append)
    assert len(pooled.ids) == 118 and len(set(pooled.ids)) == 118 and len(told) == 2
    assert {f"{shared[0]}@b", f"{shared[1]}@b", shared[0], shared[1], shared[3] + "x"} <= set(pooled.ids)
    d_train, pool = ({pooled.ids[r] for r in part} for part in halves(pooled.manifest)[:2])
    assert not {i.partition("@")[0] for i in d_train} & {i.partition("@")[0].partition("#")[0] for i in pool}
    assert len(d_train) == 38 and {shared[2], shared[3]} <= pool
    row = pooled.ids.index(shared[2])
    torch.testing.assert_close(pooled.features[row], tasks[1].features[42])
    torch.testing.assert_close(pooled.open_features("weak/0")[row], tasks[1].open_features("weak/0")[42])  # type: ignore[misc, index]
    first = tasks[0].features.numpy()
    gap = np.concatenate([np.zeros((5, 4), np.float32), first])
    stream = Stream(blocks=ArrayBlocks(table=gap), rows=np.arange(5, 65))
    streamed = pool_tasks([replace(tasks[0], features=stream), tasks[1]], say=told.append)
    assert isinstance(streamed.features, Stream)
    read = torch.cat([x for _, x in streamed.features.batches(torch.arange(118), 16)])
    torch.testing.assert_close(read, pooled.features)


def test_streamed_domains_are_joined_without_reading_them() -> None:
    tasks = [domain("a", n=70, seed=1), domain("b", n=45, seed=2)]
    whole = pool_tasks(tasks)
    some = np.arange(0, 70)
    streamed = [
        replace(t, features=Stream(blocks=ArrayBlocks(table=t.features.numpy()), rows=r))
        for t, r in zip(tasks, (some, None), strict=True)
    ]
    for mixed in (streamed, [streamed[0], tasks[1]]):
        pooled = pool_tasks(mixed)
        assert isinstance(pooled.features, Stream) and (pooled.features.n, pooled.features.d) == (115, 4)
        found = [x for _, x in pooled.features.batches(torch.arange(115), 16)]
        torch.testing.assert_close(torch.cat(found), whole.features)
    rows = [
        fit(t, loss="kd", head="linear", seeds=1, epochs=3, batch_size=16).rows for t in (whole, pool_tasks(streamed))
    ]
    assert [r["acc_w2s"] for r in rows[0]] == pytest.approx([r["acc_w2s"] for r in rows[1]], abs=0.1)


def test_joined_blocks_are_whole_but_for_the_last() -> None:
    tables = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) for n in (5, 4, 3)]
    joined = JoinedBlocks(parts=tuple(ArrayBlocks(table=t, block=4) for t in tables))
    assert (joined.n, joined.starts) == (15, [0, 8, 12])
    read = np.concatenate([joined.read(i) for i in range(4)])
    for start, table in zip(joined.starts, tables, strict=True):
        np.testing.assert_array_equal(read[start : start + len(table)], table)
    assert (read[5:8] == 0).all() and len(read) == 15


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda a: domain("b", k=4), "classes"),
        (lambda a: domain("b", d=6), "width of features: 4 and 6"),
        (lambda a: replace(domain("b"), strong="drawn:clip"), "strong encoder: 'arrays' and 'drawn:clip'"),
        (lambda a: replace(domain("b"), text=2 * a.text), "text"),
        (lambda a: domain("a"), "twice"),
        (lambda a: replace(domain("b"), weak_logits={7: domain("b").weak_logits[0]}), "weak seed"),
    ],
)
def test_unlike_tasks_are_refused(other, told: str) -> None:  # type: ignore[no-untyped-def]
    a = domain("a")
    with pytest.raises(UsageError, match=told):
        pool_tasks([a, other(a)])
    with pytest.raises(UsageError, match="at least two"):
        pool_tasks([a])


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Drawn domains of 720 images: the whole D_train, and two images a class in the pool."""
    monkeypatch.setattr(drawn, "POOL_PER_CLASS", 2)
    drawn_source._domain.cache_clear()
    yield 720
    drawn_source._domain.cache_clear()


def test_a_study_pools_drawn_domains_and_extracts_nothing_again(tmp_path: Path, few_drawings: int) -> None:
    data, said = ("drawn:sketch", "drawn:clipart"), []
    with pytest.raises(UsageError, match="--data A B"):
        Experiment.of({"data": data[:1], "pool": True, "loss": "ce"}).sets()
    asked = {"data": data, "strong": "drawn:cnn/real-0", "weak": "drawn:cnn/0", "pool": True, "loss": "ce"}
    study = Study.of(Experiment.of(asked, cache=tmp_path))
    [pooled] = study.tasks()
    [again] = study.tasks(say=said.append)
    assert pooled.keys == again.keys and not [line for line in said if "extracting" in line]
    assert pooled.data == "drawn:clipart+drawn:sketch" and len(pooled.ids) == 2 * few_drawings
    # another network on each domain: that of the first serves all of them
    common = pooled.open_features("drawn:cnn/0")  # type: ignore[misc]
    torch.testing.assert_close(common, pooled.open_features("drawn:cnn/clipart-0"))  # type: ignore[misc]
    alone = [open_task(d, strong="drawn:cnn/real-0", weak="drawn:cnn/0", cache=tmp_path) for d in reversed(data)]
    torch.testing.assert_close(common[:few_drawings], alone[0].open_features("drawn:cnn/0"))  # type: ignore[misc]
    assert not torch.allclose(common[few_drawings:], alone[1].open_features("drawn:cnn/0"))  # type: ignore[misc]
    with pytest.raises(UsageError, match="timm:resnet18"):
        pooled.open_features("weak:r18/0")  # type: ignore[misc]
    # one network by two names is one bank
    key_of = {ref.model: ref.key for ref in list_refs(tmp_path) if ref.data == data[1]}
    assert key_of["drawn:cnn/0"] == key_of["drawn:cnn/clipart-0"] != key_of["drawn:cnn/real-0"]
