from __future__ import annotations

import os
import shlex

import numpy as np
import pytest

from w2s_fast.core.errors import BankMissing, BankStale, CacheError, Damaged, NewerFormat
from w2s_fast.store import list_banks, open_bank, open_key, read_ref, stale_weights, write_ref
from w2s_fast.store.layout import refs_dir
from w2s_fast.store.listing import find_key
from w2s_fast.store.records import seal, unseal

MODEL, DATA = "drawn:clip", "list:/a b/clipart.txt"
OPTIONS = {"compute": "bf16", "template": ["a {}", "the {}"], "tf32": True, "nothing": None}


@pytest.fixture
def weights(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        file.write_bytes(b"12345")
    return files


@pytest.fixture
def ref(cache, bank_dir, rows, weights):
    return write_ref(
        cache,
        model=MODEL,
        data=DATA,
        options=OPTIONS,
        key=bank_dir.name,
        rows_digest=rows.rows_digest,
        weights=weights,
    )


def test_a_bank_is_found_by_what_was_asked_for(cache, ref, rows):
    assert read_ref(cache, model=MODEL, data=DATA, options=OPTIONS) == ref
    assert stale_weights(ref) is None
    bank = open_bank(MODEL, DATA, cache=cache, options=OPTIONS, rows_digest=rows.rows_digest)
    assert bank.key == ref.key and bank.ids == rows.ids


@pytest.mark.parametrize(
    ("model", "data", "options"), [("x", DATA, OPTIONS), (MODEL, "x", OPTIONS), (MODEL, DATA, None)]
)
def test_another_question_has_another_answer(cache, ref, model, data, options):
    assert read_ref(cache, model=model, data=data, options=options) is None
    with pytest.raises(BankMissing, match=r"no bank of .*; make it with: .*w2s-fast extract --data .* --model "):
        open_bank(model, data, cache=cache, options=options)


def test_the_command_is_complete_and_can_be_pasted(cache, monkeypatch):
    expected = ["w2s-fast", "extract", "--data", DATA, "--model", MODEL, "--compute", "bf16"]
    expected += ["--template", "a {}", "--template", "the {}", "--tf32"]
    with pytest.raises(BankMissing) as caught:
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)
    words = shlex.split(str(caught.value).partition("make it with: ")[2])
    assert words == [f"W2S_FAST_CACHE={cache}", *expected]
    with pytest.raises(BankMissing) as caught:
        open_bank(MODEL, DATA, options=OPTIONS)
    assert shlex.split(str(caught.value).partition("make it with: ")[2]) == expected


@pytest.mark.parametrize("how", ["size", "mtime", "gone"])
def test_a_changed_weight_file_makes_the_bank_stale(cache, ref, weights, how):
    state = weights[1].stat()
    if how == "gone":
        weights[1].unlink()
    else:
        weights[1].write_bytes(b"123456" if how == "size" else b"54321")
        later = 1 if how == "mtime" else 0
        os.utime(weights[1], ns=(state.st_atime_ns, state.st_mtime_ns + later))
    assert str(weights[1]) in (stale_weights(ref) or "")
    with pytest.raises(BankStale, match=r"b\.safetensors changed .* since .*; extract again with: .*w2s-fast"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)


def test_other_rows_make_the_bank_stale(cache, ref):
    with pytest.raises(BankStale, match=r"the rows of .* changed"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS, rows_digest="0" * 64)
    write_ref(cache, model=MODEL, data=DATA, key=ref.key, rows_digest="0" * 64)
    with pytest.raises(BankStale, match="names a bank of other rows"):
        open_bank(MODEL, DATA, cache=cache)


def test_a_reference_is_replaced_whole(cache, ref):
    newer = write_ref(cache, model=MODEL, data=DATA, options=OPTIONS, key="f" * 64, rows_digest="0")
    assert read_ref(cache, model=MODEL, data=DATA, options=OPTIONS) == newer
    assert len(list(refs_dir(cache).iterdir())) == 1
    with pytest.raises(BankMissing, match="no bank ffffffffffff"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)


def test_damage_of_a_reference(cache, ref):
    path = next(refs_dir(cache).iterdir())
    sound = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(sound), 40):
        hurt = bytearray(sound)
        hurt[place] ^= 4
        path.write_bytes(hurt)
        with pytest.raises(Damaged, match=r"rewrite it with: .*w2s-fast extract"):
            open_bank(MODEL, DATA, cache=cache, options=OPTIONS)
    record = unseal(sound)
    path.write_bytes(seal({**record, "model": "other"}))
    with pytest.raises(Damaged, match="another extraction"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)
    older = [entry[:3] for entry in record["weights"]]  # of a version that watched weights only, by size and mtime
    path.write_bytes(seal({**record, "weights": older}))
    with pytest.raises(BankMissing, match=r"is an older version's; refresh it with: .*w2s-fast extract"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)
    path.write_bytes(seal({**record, "weights": [["/etc/passwd"]]}))
    with pytest.raises(Damaged, match="weight entry"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)
    path.write_bytes(seal({**record, "format": 2}))
    with pytest.raises(NewerFormat, match="upgrade"):
        open_bank(MODEL, DATA, cache=cache, options=OPTIONS)


def test_a_weight_file_that_is_not_there(cache, tmp_path):
    with pytest.raises(CacheError, match=r"nowhere\.pt: No such file"):
        write_ref(cache, model=MODEL, data=DATA, key="f" * 64, rows_digest="", weights=[tmp_path / "nowhere.pt"])


def test_damage_names_the_command_that_the_reference_remembers(cache, bank_dir, ref):
    (bank_dir / "commits/000001.json").unlink()
    with pytest.raises(Damaged) as caught:
        open_key(bank_dir.name, cache=cache)
    assert "extract --data 'list:/a b/clipart.txt' --model drawn:clip --compute bf16" in str(caught.value)


def test_the_list_of_banks(cache, bank_dir, ref, rows_like):
    half = rows_like(18, seed=1)
    half.write(half.begin(cache), 1)
    broken = rows_like(7, seed=2)
    broken.finish(cache)
    (broken.begin(cache) / "commits/000000.json").unlink()
    (cache / "v1" / "zz").mkdir()
    found = {info.key: info for info in list_banks(cache)}
    assert list(found) == sorted(found) and len(found) == 3
    whole = found[bank_dir.name]
    assert (whole.model, whole.data, whole.rows, whole.dim, whole.complete) == (MODEL, DATA, 18, 5, True)
    assert whole.bytes == sum(p.stat().st_size for p in bank_dir.rglob("*") if p.is_file())
    other = found[half.begin(cache).name]
    assert (other.model, other.rows, other.complete, other.problem) == (None, 7, False, None)
    bad = found[broken.begin(cache).name]
    assert not bad.complete and bad.problem and "missing" in bad.problem
    assert list(list_banks(cache / "nothing")) == []


def test_a_key_by_its_beginning(cache, bank_dir, rows_like):
    assert find_key(bank_dir.name[:6], cache=cache) == bank_dir.name
    rows_like(3, seed=1).begin(cache)
    with pytest.raises(CacheError.__base__, match="2 banks' keys begin with ''"):
        find_key("", cache=cache)
    with pytest.raises(CacheError.__base__, match="no bank's key begins with 'x'"):
        find_key("x", cache=cache)
