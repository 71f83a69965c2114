"""What format v1 wrote is read for ever, to the last digit; what a later format writes is refused in a sentence.

The banks in `fixtures_v1` were written by `make_fixtures_v1.py`. Expected numbers are worked out here by hand.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import make_fixtures_v1 as made
import numpy as np
import pytest
import zarr

from w2s_fast.core.errors import BankMissing, BankStale, NewerFormat
from w2s_fast.core.hashing import canonical_json, digest_bytes
from w2s_fast.store import (
    begin_bank,
    collect_garbage,
    layout,
    list_banks,
    list_refs,
    missing_parts,
    open_bank,
    open_key,
    read_ref,
    repair_bank,
    verify_bank,
)
from w2s_fast.store.records import seal, unseal

FIXTURES = Path(__file__).parent / "fixtures_v1"
KEYS = {
    "images": "fdf9f9152b951607c88bdbf9c77a9f110f89d8fdca3af6b9e618e776c51e407d",
    "text": "5882ebc02c749baa225200f9565030201ec596fd0352652c09adb86b9f8dc398",
    "wide": "22aa2a39ef30cb489301f6603e78ac8f91c2d3ed545747945395825c39003897",
}
DIGESTS = {
    "images": "847982f2ac5f31bb1384369c128d8e9f4dc1e4e1e13b05fbf3a27c29bb1d38c2",
    "text": "4d58ed51c687ee1b5e5a57450f1a95b17f9ee13f5c93ccbb0eef9330857153d0",
    "wide": "9c93e438268c3877db66a57c16df462b126036d3db49e1d29b50071846f52f0c",
}


@pytest.fixture
def parts_of_seven(monkeypatch):
    monkeypatch.setattr(layout, "PART_ROWS", made.IMAGES_PART_ROWS)


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(FIXTURES, tmp_path / "copy"))


def files_of(cache: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cache)): p.read_bytes() for p in sorted((cache / "v1").rglob("*")) if p.is_file()}


def test_images(parts_of_seven):
    bank = open_key(KEYS["images"], cache=FIXTURES)
    i = np.arange(18)
    features = np.stack([i - 9, i * 0.125, i * -0.0625, 0 * i + 0.5], axis=1)
    logits = np.stack([i, -i, i * 0.25], axis=1)
    features[10, 3], logits[11, 0] = 70_000, -100_000
    features[8] = logits[8] = 0
    np.testing.assert_array_equal(bank.features().numpy(), features.astype(np.float32))
    np.testing.assert_array_equal(bank.logits().numpy(), logits.astype(np.float32))
    np.testing.assert_allclose(bank.norms().numpy(), (features**2).sum(1) ** 0.5, rtol=1e-7)
    np.testing.assert_array_equal(bank.ok, i != 8)
    assert bank.ids[4] == bank.ids[1] + "#2" and bank.ids[9] == "a hôuse"
    # printf 'image 0' | sha256sum
    assert bank.ids[0] == "cc88f6acf10ba9e488201201e9067fd6"
    assert bank.failures == ({"id": bank.ids[8], "row": 8, "reason": "truncated JPEG"},)
    assert [str(p.arrays["features"].dtype) for p in bank.parts] == ["float16", "float32", "float16"]
    assert [str(p.arrays["logits"].dtype) for p in bank.parts] == ["float16", "float32", "float16"]
    assert (bank.rows, bank.dim, bank.digest) == (18, 4, DIGESTS["images"])
    assert bank.ingredients["preprocess"] == {"size": 224, "interpolation": "bicubic", "mean": [0.5, 0.25, 0.125]}
    assert bank.producers[1] == (7, 14, {"device": "cpu", "batch_size": 4})
    np.testing.assert_array_equal(bank.take("features", [10, 0, 17]), features[[10, 0, 17]].astype(np.float32))


def test_text():
    bank = open_key(KEYS["text"], cache=FIXTURES)
    wanted = np.float32([[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]])
    np.testing.assert_array_equal(bank.features().numpy(), wanted)
    np.testing.assert_allclose(bank.norms().numpy(), [0.05**0.5, 0.5, 0.61**0.5], rtol=1e-6)
    assert bank.logits() is None and bank.classes == ("dog", "café", "犬") and bank.ok.all()
    assert bank.ingredients["templates"] == ["a photo of a {}.", "{}"] and bank.ingredients["logit_scale"] == 100.0
    assert (bank.rows, bank.digest) == (3, DIGESTS["text"])


def test_wide():
    bank = open_key(KEYS["wide"], cache=FIXTURES)
    features = bank.array("features")
    assert features.dtype == np.float16 and bank.array("logits").dtype == np.float32
    np.testing.assert_array_equal(features.astype(np.float64), [[65504, -65504, 1], [2.0**-24, 0, 2]])
    assert np.signbit(features[1, 1])
    np.testing.assert_array_equal(bank.array("logits"), np.float32([[0, 1e-8], [65504, 1e30]]))
    assert bank.ids == ("0" * 32, "f" * 32) and bank.digest == DIGESTS["wide"]


@pytest.mark.parametrize("name", KEYS)
def test_every_byte_is_what_was_committed(name, monkeypatch):
    if name == "images":
        monkeypatch.setattr(layout, "PART_ROWS", made.IMAGES_PART_ROWS)
    bank = open_key(KEYS[name], cache=FIXTURES)
    assert verify_bank(bank, deep=True) > 0
    for array in bank.parts[0].arrays:
        theirs = [
            zarr.open(str(layout.parts_dir(bank.folder) / p.commit.directory), mode="r")[array][...] for p in bank.parts
        ]
        np.testing.assert_array_equal(np.concatenate(theirs), bank.array(array))


def test_references():
    refs = {ref.key: ref for ref in list_refs(FIXTURES)}
    assert set(refs) == set(KEYS.values())
    images = read_ref(FIXTURES, model="drawn:clip", data="drawn:sketch", options={"tap": None, "dtype": "f32"})
    assert images == refs[KEYS["images"]]
    assert images.weights == (("/models/clip.safetensors", 123, 1_700_000_000_000_000_000),)
    assert open_bank("drawn:clip", "text:0123", cache=FIXTURES).key == KEYS["text"]
    with pytest.raises(BankStale, match=r"clip\.safetensors changed.*extract --data drawn:sketch .*--dtype f32"):
        open_bank("drawn:clip", "drawn:sketch", cache=FIXTURES, options={"dtype": "f32", "tap": None})


def test_this_version_writes_the_same_bytes(tmp_path):
    """So that two versions that write v1 agree on digests, and share a cache."""
    made.make(tmp_path)
    theirs, ours = files_of(FIXTURES), files_of(tmp_path)
    assert len(theirs) == 38 + 12 + 14 + 3 and sum(map(len, theirs.values())) < 100_000
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_this_version_believes_them_and_has_nothing_to_do(copy, parts_of_seven):
    before = files_of(copy)
    bank = layout.bank_dir(copy, KEYS["images"])
    assert missing_parts(bank, 18) == [] and repair_bank(KEYS["images"], cache=copy) == []
    assert made.images(copy) == bank
    assert list(collect_garbage(older_than=-60, cache=copy)) == []
    assert files_of(copy) == before


# A later format


def later(folder: Path, name: str, **changed) -> None:
    """A record as a later version may write it: another number, and fields that this one does not know."""
    path = folder / name
    path.write_bytes(seal({**unseal(path.read_bytes()), "format": 2, "codec": "zstd", **changed}))


def untouched(folder: Path):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SENTENCE = r"written in cache format 2, and this version reads up to 1; upgrade w2s_fast"


@pytest.mark.parametrize("name", ["commits/000001.json", "complete.json"])
def test_a_record_of_a_later_format_is_refused_and_left(copy, parts_of_seven, name):
    folder = layout.bank_dir(copy, KEYS["images"])
    later(folder, name)
    before = untouched(folder)
    for ask in (open_key, verify_bank, repair_bank):
        with pytest.raises(NewerFormat, match=rf"{Path(name).name}: {SENTENCE}"):
            ask(KEYS["images"], cache=copy)
    if name != "complete.json":
        with pytest.raises(NewerFormat, match=SENTENCE):
            missing_parts(folder, 18)
        with pytest.raises(NewerFormat, match=SENTENCE):
            made.images(copy)
    assert [b.problem is not None and "cache format 2" in b.problem for b in list_banks(copy)].count(True) == 1
    assert list(collect_garbage(older_than=-60, cache=copy)) == []
    assert untouched(folder) == before


def test_a_key_file_of_a_later_format_is_refused(copy, parts_of_seven):
    data = canonical_json({"format": 2, "weights": "5e" * 32}).encode()
    key = digest_bytes(data)
    folder = layout.bank_dir(copy, key)
    shutil.copytree(layout.bank_dir(copy, KEYS["images"]), folder)
    layout.key_file(folder).write_bytes(data)
    before = untouched(folder)
    for ask in (open_key, verify_bank, repair_bank):
        with pytest.raises(NewerFormat, match=rf"key\.json: {SENTENCE}"):
            ask(key, cache=copy)
    assert untouched(folder) == before


def test_a_reference_of_a_later_format_is_refused(copy):
    path = layout.ref_file(copy, made.MODEL, made.DATA["text"], {})
    later(path.parent, path.name)
    with pytest.raises(NewerFormat, match=rf"{path.name}: {SENTENCE}"):
        open_bank(made.MODEL, made.DATA["text"], cache=copy)


def test_a_later_metadata_file_is_damage_or_later_but_never_numbers(copy):
    """The format number stands in the records; a zarr.json of another kind without it can only be damage."""
    folder = layout.bank_dir(copy, KEYS["text"])
    path = next(folder.glob("parts/*/features/zarr.json"))
    path.write_bytes(path.read_bytes().replace(b'"zarr_format": 3', b'"zarr_format": 4'))
    with pytest.raises(Exception, match=r"features/zarr\.json: .*sha256 \(rows 0-2\); fix with") as caught:
        open_key(KEYS["text"], cache=copy)
    assert type(caught.value).__name__ == "Damaged"


def test_the_folder_of_a_later_format(copy, tmp_path):
    """`v2` beside `v1`: its banks cannot be read, and who asks for one is told that they are there."""
    new = "ab" * 32
    (copy / "v2" / "ab" / new).mkdir(parents=True)
    (copy / "v10" / "ab" / new).mkdir(parents=True)
    (copy / "vault").mkdir(), (copy / "v0").mkdir(), (copy / "v3").write_bytes(b"")
    with pytest.raises(NewerFormat, match=r"bank abababababab is in .*/v10, which a later version wrote: upgrade"):
        open_key(new, cache=copy)
    with pytest.raises(BankMissing, match=r"another may be in .*/v10, which a later version wrote: upgrade w2s_fast"):
        open_bank("drawn:vit", "drawn:sketch", cache=copy)
    with pytest.raises(BankMissing, match="no bank cdcd"):
        open_key("cd" * 32, cache=copy)
    assert open_bank(made.MODEL, made.DATA["text"], cache=copy).key == KEYS["text"], "v1 is read as ever"
    shutil.rmtree(copy / "v2"), shutil.rmtree(copy / "v10")
    with pytest.raises(BankMissing) as caught:
        open_bank("drawn:vit", "drawn:sketch", cache=copy)
    assert "later version" not in str(caught.value)
    for _ in collect_garbage(older_than=-60, cache=copy):
        pytest.fail("nothing of another format is garbage")


def test_gc_leaves_the_folder_of_a_later_format(copy):
    later_bank = copy / "v2" / "ab" / ("ab" * 32)
    later_bank.mkdir(parents=True)
    (later_bank / ".tmp-x").write_bytes(b"a later writer at work")
    os.utime(later_bank / ".tmp-x", (0, 0))
    assert list(collect_garbage(older_than=0, cache=copy)) == []
    assert (later_bank / ".tmp-x").exists()


def test_an_ingredient_cannot_pass_for_a_format(tmp_path):
    with pytest.raises(Exception, match="may not be called 'format'"):
        begin_bank(tmp_path, {"format": 2})
