"""One image is in one part: copies are dealt together, and D_train may not hold copies of the pool's images."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import w2s_fast as w2s
from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import contents_of
from w2s_fast.data import open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.repeats import repeats, without_repeats
from w2s_fast.data.splits import MODES, halves, split
from w2s_fast.extract.options import ExtractOptions


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(path)


def folder(root: Path, train: dict[str, list[int]], test: dict[str, list[int]] | None = None) -> str:
    """Class -> the seeds of its images: equal seeds are equal bytes. With `test`, an official split."""
    for part, kinds in (("train", train), ("test", test)) if test is not None else (("", train),):
        for kind, seeds in (kinds or {}).items():
            for number, seed in enumerate(seeds):
                picture(root / part / kind / f"{number}.png", seed)
    return f"imagefolder:{root}"


def parts_of(manifest: Manifest, mode: str, seed: int) -> dict[str, set[str]]:
    """content -> the parts that its rows are in."""
    content, found = contents_of(manifest.ids), split(manifest, mode=mode, seed=seed)
    where: dict[str, set[str]] = {}
    for part in ("weak_train", "train", "val", "test"):
        for row in getattr(found, part):
            where.setdefault(content[row], set()).add(part)
    return where


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [0, 3, 7])
def test_every_picture_twice_or_thrice_is_dealt_together(tmp_path: Path, mode: str, seed: int) -> None:
    kinds = {kind: [s for s in range(at, at + 30) for _ in range(1 + s % 3)] for at, kind in ((0, "a"), (100, "b"))}
    manifest = open_manifest(folder(tmp_path, kinds))
    assert len(manifest) == 120 and repeats(manifest).counts()["repeats"] == 60
    assert all(len(parts) == 1 for parts in parts_of(manifest, mode, seed).values())


def test_copies_under_two_labels_are_dealt_together_too(tmp_path: Path) -> None:
    manifest = open_manifest(folder(tmp_path, {"a": list(range(30)), "b": list(range(20, 50))}))
    assert repeats(manifest).counts() == {"repeats": 10, "in_both_halves": 0, "under_two_labels": 10}
    assert all(len(parts) == 1 for parts in parts_of(manifest, "rotate", 1).values())


def test_without_copies_the_deal_is_what_it_was() -> None:
    manifest = open_manifest("drawn:sketch")
    assert split(manifest, seed=3).digest == "97924452b5a604013ab933e00d08205b6264bb966e7ec0222407c916c838c589"


def test_a_pool_that_holds_copies_of_d_train_is_refused(tmp_path: Path) -> None:
    data = folder(
        tmp_path / "p", {"a": [*range(8)], "b": [*range(10, 18)]}, {"a": [0, 1, *range(30, 38)], "b": [*range(40, 48)]}
    )
    manifest = open_manifest(data)
    with pytest.raises(
        DataError, match=r"2 images are in D_train and in the pool \(train/a/0.png = test/a/0.png; .*--drop-repeats"
    ):
        halves(manifest)
    with pytest.raises(DataError, match="--drop-repeats"):
        w2s.open_task(data, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="--drop-repeats"):
        list(w2s.train_supervisors([data], model="drawn:cnn", name="w", cache=tmp_path / "cache"))


def test_dropped_repeats_leave_the_pool_whole(tmp_path: Path) -> None:
    train = {"a": [*range(8), 3], "b": [*range(10, 18)]}
    test = {"a": [0, 1, *range(30, 38)], "b": [*range(40, 48), 30]}
    clean, told = without_repeats(open_manifest(folder(tmp_path, train, test)))
    assert told == (
        "5 copies were left out (2 images were in D_train and in the pool, 1 under two labels and left out altogether)"
    )
    assert clean.notes == (told,)
    assert Counter(clean.splits) == {"train": 8 - 2 + 8, "test": 9 + 8}
    assert {"test/a/0.png", "test/a/1.png"} <= set(clean.uris) and "test/b/8.png" not in clean.uris
    assert not repeats(clean).rows
    train_rows, pool, official = halves(clean)
    assert official and not {clean.ids[r] for r in train_rows} & {clean.ids[r] for r in pool}


def test_a_study_of_cleaned_data(tmp_path: Path) -> None:
    train, test = {"a": [*range(12)], "b": [*range(50, 62)]}, {"a": [0, *range(100, 120)], "b": [*range(200, 220)]}
    data, cache = folder(tmp_path / "p", train, test), tmp_path / "cache"
    recipe = {"steps": 20, "batch_size": 8}
    list(w2s.train_supervisors([data], model="drawn:cnn", name="w", recipe=recipe, drop_repeats=True, cache=cache))
    said: list[str] = []
    options = ExtractOptions(workers=0)
    task = w2s.open_task(data, weak="weak:w", drop_repeats=True, cache=cache, options=options, say=said.append)
    assert len(task.ids) == 12 + 12 + 41 - 1 == len(task.features)
    assert any("1 copies were left out" in s for s in said)


def test_names_that_end_like_repeats_are_no_repeats() -> None:
    assert contents_of(["img#1", "img#2", "x", "x#2", "x#3", "y#1"]) == ["img#1", "img#2", "x", "x", "x", "y#1"]


def test_a_copied_data_set_gives_the_same_banks(tmp_path: Path) -> None:
    data = folder(tmp_path / "p", {"a": [1, 1, 2], "b": [3, 4, 5]})
    shutil.copytree(tmp_path / "p", tmp_path / "q")
    assert open_manifest(data).rows_digest == open_manifest(f"imagefolder:{tmp_path}/q").rows_digest
