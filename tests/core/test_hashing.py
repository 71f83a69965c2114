"""Canonical JSON, digests and row ids."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.hashing import (
    ID_BYTES,
    canonical_json,
    digest_bytes,
    digest_ids,
    digest_json,
    number_repeats,
    pack_ids,
    row_id,
)

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=10,
)


@settings(deadline=None)
@given(values)
def test_canonical_json_reads_back_and_is_one_text(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()
    assert digest_json(value) == hashlib.sha256(text.encode("ascii")).hexdigest()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_golden_digests() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,null]}'
    assert row_id(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert digest_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_ids(["ab", "c"]) == hashlib.sha256(b"ab\nc\n").hexdigest()
    assert digest_ids([]) == hashlib.sha256(b"").hexdigest()


def test_a_file_name_that_is_not_utf8_can_be_an_id() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert digest_ids([name]) != digest_ids(["caf"])
    assert pack_ids([name]).shape == (1, ID_BYTES)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "a#2#2"]), max_size=12))
def test_numbered_ids_have_no_repeats(ids: list[str]) -> None:
    out = number_repeats(ids)
    assert len(set(out)) == len(out) == len(ids)
    assert all(new == old or new.startswith(old + "#") for new, old in zip(out, ids, strict=True))


def test_repeats_are_counted_in_order() -> None:
    assert number_repeats(["x", "y", "x", "x"]) == ("x", "y", "x#2", "x#3")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=8))
def test_packed_ids_are_the_bytes_of_their_hex(contents: list[bytes]) -> None:
    ids = [row_id(c) for c in contents]
    packed = pack_ids(ids)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(ids), ID_BYTES)
    assert [bytes(row).hex() for row in packed] == ids


def test_ids_that_differ_never_pack_alike() -> None:
    lower = row_id(b"x")
    spaced = " ".join(lower[i : i + 2] for i in range(0, 32, 2))
    ids = [lower, lower.upper(), lower + "#2", spaced, lower + "\n", "", "short", "\u0661" * 32]
    assert len({bytes(row) for row in pack_ids(ids)}) == len(ids)
