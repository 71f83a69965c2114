from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import MODES, PARTS, Split, export_split, fold_positions, halves, import_split, split

GOLDEN_TEST = [46, 10, 35, 26, 27, 52, 13, 56, 8, 19, 36, 3]
GOLDEN_DIGEST = "7422bbfcf984b7c1f42e75df828ce190a2345a2c5e9cfb7991f40aee5b5b3404"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def world(labels: np.ndarray, *, splits: tuple[str, ...] | None = None, seed: int = 0) -> Manifest:
    n, k = len(labels), int(labels.max()) + 1
    return Manifest(
        name="w",
        root=Path(),
        classes=tuple(f"c{i}" for i in range(k)),
        labels=labels,
        ids=tuple(sha(f"{seed}/{i}")[:32] for i in range(n)),
        uris=tuple(map(str, range(n))),
        splits=splits or ("",) * n,
        groups=("",) * n,
    )


def many(n: int, k: int, *, official: bool = True, seed: int = 0) -> Manifest:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    train = np.arange(k)
    marks = tuple(["train"] * k + ["test"] * n) if official else None
    return world(np.concatenate([train, labels]), splits=marks, seed=seed)


def naive(m: Manifest, mode: str, seed: int) -> dict[str, set[str]]:
    """The protocol (methods/README.md) read aloud, with dicts and hex strings."""
    label = dict(zip(m.ids, m.labels.tolist(), strict=True))

    def dealt(ids: list[str], key: str) -> list[str]:
        out: list[str] = []
        for c in range(len(m.classes)):
            out += sorted((i for i in ids if label[i] == c), key=lambda i: sha(f"{key}:{i}"))
        return out

    if any(m.splits):
        d_train = [i for i, s in zip(m.ids, m.splits, strict=True) if s == "train"]
        pool = [i for i, s in zip(m.ids, m.splits, strict=True) if s == "test"]
    else:
        order = dealt(list(m.ids), "0")
        d_train, pool = order[0::2], order[1::2]
    split_seed, fold, key = (seed // 5, seed % 5, f"{seed // 5}:{seed}") if mode == "rotate" else (0, 0, "0:0")
    order = dealt(pool, str(split_seed))
    test = order[fold::5]
    hold = [i for i in order if i not in set(test)]
    val = dealt(hold, key)[0::5]
    return {"weak_train": set(d_train), "train": set(hold) - set(val), "val": set(val), "test": set(test)}


def named(m: Manifest, s: Split) -> dict[str, set[str]]:
    return {part: {m.ids[row] for row in getattr(s, part)} for part in PARTS}


def test_the_folds_of_domainnets_clipart() -> None:
    m = many(14_604, 345)
    tests = [split(m, seed=s).test for s in range(5)]
    assert [len(t) for t in tests] == [2921, 2921, 2921, 2921, 2920]
    assert len(np.unique(np.concatenate(tests))) == 14_604
    labels = m.labels[345:]
    for t in tests:
        counts, whole = np.bincount(m.labels[t], minlength=345), np.bincount(labels, minlength=345)
        assert np.abs(counts - whole / 5).max() < 1


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(20, 120),
    k=st.integers(2, 6),
    seed=st.integers(0, 40),
    mode=st.sampled_from(MODES),
    official=st.booleans(),
    other=st.integers(0, 1000),
)
def test_parts_are_disjoint_complete_and_as_the_oracle_deals(
    n: int, k: int, seed: int, mode: str, official: bool, other: int
) -> None:
    m = many(n, k, official=official, seed=other)
    s = split(m, mode=mode, seed=seed)
    assert named(m, s) == naive(m, mode, seed)
    every = np.concatenate([getattr(s, part) for part in PARTS])
    assert sorted(every.tolist()) == list(range(len(m)))
    assert set(s.pool.tolist()) == set(every.tolist()) - set(s.weak_train.tolist())
    assert s.official is official and s.test.dtype == np.int64
    # Stratified: no class of the pool is off its share by one item or more.
    whole = np.bincount(m.labels[s.pool], minlength=k)
    assert np.abs(np.bincount(m.labels[s.test], minlength=k) - whole / 5).max() < 1


def test_row_order_and_class_names_change_nothing() -> None:
    m = many(200, 7)
    order = np.random.default_rng(3).permutation(len(m))
    shuffled = replace(
        m,
        labels=m.labels[order],
        ids=tuple(m.ids[i] for i in order),
        splits=tuple(m.splits[i] for i in order),
        uris=tuple(m.uris[i] for i in order),
    )
    renamed = replace(m, classes=tuple(f"z{i}" for i in range(7)), name="other")
    for seed in (0, 3, 11):
        here, there, third = split(m, seed=seed), split(shuffled, seed=seed), split(renamed, seed=seed)
        assert here.digest == there.digest == third.digest
        for part in PARTS:
            assert [m.ids[i] for i in getattr(here, part)] == [shuffled.ids[i] for i in getattr(there, part)]


def test_what_depends_on_the_seed() -> None:
    m = many(300, 4)
    rotate = [split(m, seed=s) for s in range(10)]
    assert [s.split_seed for s in rotate] == [0] * 5 + [1] * 5
    assert len({s.digest for s in rotate}) == 10
    assert len({tuple(s.weak_train) for s in rotate}) == 1
    fixed = [split(m, mode="fixed", seed=s) for s in range(7)]
    assert len({s.digest for s in fixed}) == 1
    assert set(fixed[3].test.tolist()) == set(rotate[0].test.tolist())
    assert split(m, mode="paper", seed=2).digest == fixed[0].digest


def test_the_digest_covers_every_part_and_the_origin() -> None:
    m = many(100, 3, official=False)
    s = split(m, seed=0)
    marks = np.array(["test"] * len(m), object)
    marks[s.weak_train] = "train"
    same = replace(m, splits=tuple(marks.tolist()))
    again = split(same, seed=0)
    assert named(m, s) == named(same, again)
    assert s.digest != again.digest  # halves made here are not an official split
    moved = marks.copy()
    moved[s.weak_train[0]] = "test"
    assert split(replace(m, splits=tuple(moved.tolist())), seed=0).digest != again.digest


def test_golden() -> None:
    """Frozen: a change here silently changes every published number."""
    s = split(many(60, 3), seed=6)
    assert s.test.tolist() == GOLDEN_TEST
    assert s.digest == GOLDEN_DIGEST


def test_deal_positions() -> None:
    m = world(np.array([1, 0, 1, 0, 0]))
    rows = np.arange(5)
    order = sorted(rows, key=lambda r: (m.labels[r], sha(f"7:{m.ids[r]}")))
    assert [order.index(r) for r in rows] == fold_positions(m, rows, key="7").tolist()


def test_export_and_import(tmp_path: Path) -> None:
    m = many(100, 3)
    s = split(m, mode="paper", seed=4)
    path = tmp_path / "split.json"
    export_split(s, m, path)
    back = import_split(path, m)
    assert back.digest == s.digest and back.mode == "paper" and back.seed == 4
    for part in PARTS:
        assert getattr(back, part).tolist() == getattr(s, part).tolist()
    record = json.loads(path.read_text())
    with pytest.raises(DataError, match="is not in w; the split is of another data set"):
        import_split(path, many(100, 3, seed=1))
    cases = [
        ({"parts": {**record["parts"], "val": record["parts"]["test"]}}, "is in both"),
        ({"parts": {**record["parts"], "val": record["parts"]["val"][1:]}}, "do not have the digest"),
        ({"parts": {**record["parts"], "val": []}}, "val is empty"),
        ({"format": 9}, "split format 9"),
        ({"parts": 3}, "is not a split file"),
    ]
    for change, says in cases:
        path.write_text(json.dumps({**record, **change}))
        with pytest.raises(DataError, match=says):
            import_split(path, m)
    path.write_text("[1")
    with pytest.raises(DataError, match="is not a split file"):
        import_split(path, m)
    with pytest.raises(DataError, match="cannot be read"):
        import_split(tmp_path / "none", m)


def test_errors() -> None:
    m = many(50, 2)
    with pytest.raises(UsageError, match="unknown split mode 'rotated'; did you mean 'rotate'"):
        split(m, mode="rotated", seed=0)
    with pytest.raises(UsageError, match="negative"):
        split(m, seed=-1)
    with pytest.raises(DataError, match=r"row 4 .* has no label"):
        split(replace(m, labels=np.where(np.arange(len(m)) == 4, -1, m.labels)), seed=0)
    with pytest.raises(DataError, match="no test images"):
        split(replace(m, splits=("train",) * len(m)), seed=0)
    pool_only = split(replace(m, splits=("test",) * len(m)), seed=0)
    assert not pool_only.weak_train.size and len(pool_only.pool) == len(m) and pool_only.official
    with pytest.raises(DataError, match="row 3 is in neither half"):
        split(replace(m, splits=(*m.splits[:3], "", *m.splits[4:])), seed=0)
    small = world(np.array([0, 1] * 3))
    with pytest.raises(DataError, match="too few images"):
        split(small, seed=3)


def test_halves_are_dealt_once_and_cannot_be_written() -> None:
    m = many(60, 3, official=False)
    first, again = halves(m), halves(m)
    assert first is again and halves(many(60, 3, official=False)) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0][0] = 7
