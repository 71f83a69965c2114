from __future__ import annotations

import hashlib

import numpy as np
import pytest

from w2s_fast.core.errors import UsageError
from w2s_fast.store import bank_key, why
from w2s_fast.store.listing import differences

GOLDEN = {
    "weights": "0123",
    "preprocess": {"size": 224, "mean": [0.5, 0.25], "interpolation": "bicubic", "antialias": True, "crop": None},
    "classes": ["ant", "bée"],
}
SPELLED = (
    r'{"classes":["ant","b\u00e9e"],"format":1,"preprocess":{"antialias":true,"crop":null,'
    r'"interpolation":"bicubic","mean":[0.5,0.25],"size":224},"weights":"0123"}'
)


def test_golden_key():
    assert bank_key(GOLDEN) == hashlib.sha256(SPELLED.encode()).hexdigest()
    assert bank_key(GOLDEN) == "e58c8a6f5e83dbe8975dc80189f7266cb3a9d69e670295cfbf4c08aeb3ce0e19"


def test_the_order_of_names_and_tuples_do_not_matter():
    shuffled = dict(reversed(GOLDEN.items()))
    assert bank_key({**shuffled, "classes": ("ant", "bée")}) == bank_key(GOLDEN)


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": "0124"},
        {"classes": ["bée", "ant"]},
        {"preprocess": {**GOLDEN["preprocess"], "interpolation": "bilinear"}},
        {"preprocess": {**GOLDEN["preprocess"], "mean": [0.5, 0.2500001]}},
        {"extra": None},
    ],
)
def test_any_other_ingredient_is_another_key(changed):
    assert bank_key({**GOLDEN, **changed}) != bank_key(GOLDEN)


@pytest.mark.parametrize(
    ("ingredients", "message"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, r"ingredients\.a\.b\[1\] is nan"),
        ({"a": float("inf")}, r"ingredients\.a is inf"),
        ({"a": np.float32(1)}, r"ingredients\.a is a float32"),
        ({"a": np.int64(1)}, r"ingredients\.a is a int64"),
        ({"a": b"x"}, r"ingredients\.a is a bytes"),
        ({"a": {1, 2}}, r"ingredients\.a is a set"),
        ({"a": {1: 2}}, r"ingredients\.a has the name 1"),
        ({"format": 1}, "may not be called 'format'"),
        ({"a": "x" * (9 << 20)}, "more than 8388608"),
    ],
)
def test_what_is_not_json_is_refused(ingredients, message):
    with pytest.raises(UsageError, match=message):
        bank_key(ingredients)


def test_deep_nesting_is_refused():
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UsageError, match="nested deeper"):
        bank_key({"a": deep})


def test_why_names_what_differs():
    other = {
        "weights": "0123",
        "preprocess": {**GOLDEN["preprocess"], "interpolation": "bilinear", "mean": [0.5, 1]},
        "classes": ["ant"],
        "tap": "last",
    }
    assert why(GOLDEN, other) == ["classes", "preprocess.interpolation", "preprocess.mean[1]", "tap"]
    assert ("tap", None, "last") in differences(GOLDEN, other)
    assert why(GOLDEN, GOLDEN) == []
    assert why({"a": 1}, {"a": 1.0}) == ["a"] == why({"a": 1}, {"a": True})
