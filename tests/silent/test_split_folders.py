"""Folders of a split or of domains are never taken for classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.data import expand_data, open_manifest


def tree(root: Path, *parts: str) -> str:
    for at, part in enumerate(parts):
        for kind in "abc":
            (root / part / kind).mkdir(parents=True)
            Image.new("RGB", (8, 8), (at, ord(kind), 0)).save(root / part / kind / "x.png")
    return f"imagefolder:{root}"


@pytest.mark.parametrize(
    "parts", [("train", "test"), ("train", "validation"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "val")]
)
def test_halves_are_halves(tmp_path: Path, parts: tuple[str, str]) -> None:
    manifest = open_manifest(tree(tmp_path, *parts))
    assert manifest.classes == ("a", "b", "c") and manifest.splits == ("train",) * 3 + ("test",) * 3


@pytest.mark.parametrize("parts", [("Art", "Clipart"), ("dev", "eval"), ("train", "holdout")])
def test_what_is_not_known_is_refused_with_what_was_seen(tmp_path: Path, parts: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=r"hold no images but the same folders \(a, b, c\): they are domains or halves"):
        open_manifest(tree(tmp_path, *parts))


def test_one_common_folder_in_each_class_is_no_split(tmp_path: Path) -> None:
    for at, kind in enumerate("ab"):
        (tmp_path / kind / "images").mkdir(parents=True)
        Image.new("RGB", (8, 8), (at, 0, 0)).save(tmp_path / kind / "images" / "x.png")
    assert open_manifest(f"imagefolder:{tmp_path}").classes == ("a", "b")


def test_braces_that_a_shell_expanded_are_refused() -> None:
    with pytest.raises(UsageError, match=r"halves of one data set.*quote it: 'list:/p/f_\{train,test\}.txt'"):
        expand_data(["list:/p/f_train.txt", "list:/p/f_test.txt"])
