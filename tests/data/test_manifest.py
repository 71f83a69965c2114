from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.core.classes import renamed
from w2s_fast.core.errors import DataError
from w2s_fast.data.manifest import Manifest, read_names


def make(**changes: Any) -> Manifest:
    ids = tuple(hashlib.sha256(str(i).encode()).hexdigest()[:32] for i in range(4))
    fields: dict[str, Any] = {
        "name": "list:/p",
        "root": Path("/p"),
        "classes": ("cat", "dog"),
        "labels": np.array([0, 1, 0, 1]),
        "ids": ids,
        "uris": ("a", "b", "c", "d"),
        "splits": ("",) * 4,
        "groups": ("g",) * 4,
    }
    return Manifest(**{**fields, **changes})


def test_digests_are_what_they_say() -> None:
    m = make()
    assert m.rows_digest == hashlib.sha256("".join(i + "\n" for i in m.ids).encode()).hexdigest()
    rows = [[i, label] for i, label in zip(m.ids, [0, 1, 0, 1], strict=True)]
    text = json.dumps({"classes": ["cat", "dog"], "rows": rows}, separators=(",", ":"))
    assert m.truth_digest == hashlib.sha256(text.encode()).hexdigest()


def test_relabelling_and_moving_keep_the_rows_digest() -> None:
    m = make()
    moved = make(name="other", root=Path("/q"), uris=("w", "x", "y", "z"), groups=("h",) * 4)
    relabelled = make(labels=np.array([1, 0, 1, 0]))
    assert moved.rows_digest == relabelled.rows_digest == m.rows_digest
    assert moved.truth_digest == m.truth_digest != relabelled.truth_digest
    assert make(classes=("cat", "hound")).truth_digest != m.truth_digest
    assert make(ids=m.ids[::-1]).rows_digest != m.rows_digest


def test_a_manifest_can_be_pickled_and_copied() -> None:
    m = make(labels=np.array([0, 1, 0, -1]))
    again = pickle.loads(pickle.dumps(m))
    assert again.rows_digest == m.rows_digest and len(again) == 4
    assert replace(m, classes=("a", "b")).classes == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": ("a", "b", "a", "c")}, "rows 0 and 2 have the same id a"),
        ({"labels": np.array([0, 1, 0, 2])}, r"row 3 \(d\) has label 2, but the classes are 0 to 1"),
        ({"labels": np.array([0, 1, -2, 1])}, r"row 2 \(c\) has the negative label -2"),
        ({"labels": np.array([0, 0, 0, 0])}, "class 1 \\('dog'\\) has no images"),
        ({"classes": ("cat",), "labels": np.zeros(4, int)}, "only one class \\('cat'\\)"),
        ({"classes": ("cat", "cat")}, "the same name"),
        ({"splits": ("train", "val", "", "")}, "'val' is neither"),
        ({"uris": ("a",)}, "1 uris for 4 ids"),
        (dict.fromkeys(("ids", "uris", "splits", "groups"), ()) | {"labels": np.zeros(0, int)}, "no images were found"),
    ],
)
def test_bad_rows_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        make(**changes)


def test_class_names_files(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbfhot dog\r\ncat\r\n\r\n")
    assert read_names(path) == ("hot dog", "cat")
    assert renamed(("0", "1"), read_names(path), where="m") == ("hot dog", "cat")
    path.write_text("a\n\nb\n")
    with pytest.raises(DataError, match="line 2: an empty class name"):
        read_names(path)
    path.write_text("a\na\n")
    with pytest.raises(DataError, match="'a' occurs twice"):
        read_names(path)
    path.write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="3 names, but m has 2 classes"):
        renamed(("0", "1"), read_names(path), where="m")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_names(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path / "none")
