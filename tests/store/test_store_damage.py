"""Damage every kind of file in every way, then see that nothing of it is returned as data."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from w2s_fast.core.errors import BankMissing, CacheError, Damaged, NewerFormat, UsageError
from w2s_fast.store import complete_bank, missing_parts, open_key, verify_bank
from w2s_fast.store.records import seal, unseal


def read_all(cache: Path, bank_dir: Path) -> None:
    bank = open_key(bank_dir.name, cache=cache)
    for name in ("features", "logits", "norms", "ok"):
        bank.array(name)
    bank.ids


def every_file(bank_dir: Path) -> list[Path]:
    found = sorted(p for p in bank_dir.rglob("*") if p.is_file())
    assert len(found) == 3 * 11 + 3 + 2
    return found


def reseal(path: Path, **changed) -> None:
    """Change a record as an attacker would: with a valid seal."""
    path.write_bytes(seal({**unseal(path.read_bytes()), **changed}))


def refile(bank_dir: Path, part: int, name: str, data: bytes) -> None:
    """Replace a part's file, with a commit that agrees."""
    import hashlib

    path = bank_dir / "commits" / f"{part:06d}.json"
    record = unseal(path.read_bytes())
    (bank_dir / "parts" / record["directory"] / name).write_bytes(data)
    entry = {**record["files"][name], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    reseal(path, files={**record["files"], name: entry})


def part_of(bank_dir: Path, part: int) -> Path:
    return next((bank_dir / "parts").glob(f"{part:06d}.*"))


def test_a_flipped_bit_in_any_file_is_damage(cache, bank_dir):
    rng = np.random.default_rng(0)
    for path in every_file(bank_dir):
        sound = path.read_bytes()
        places = {0, len(sound) - 1, *rng.integers(0, len(sound), 6).tolist()}
        for place in sorted(places):
            hurt = bytearray(sound)
            hurt[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(hurt)
            with pytest.raises(Damaged) as caught:
                read_all(cache, bank_dir)
            message = str(caught.value)
            assert str(path) in message and "w2s-fast extract" in message, (path, place, message)
            assert f"cache repair {bank_dir.name}" in message
            if path.parent != bank_dir:
                assert "(rows " in message, message
        path.write_bytes(sound)
    read_all(cache, bank_dir)


@pytest.mark.parametrize("how", ["missing", "empty", "short", "long", "zeroed", "directory"])
def test_any_file_that_is_not_as_committed_is_damage(cache, bank_dir, how):
    for path in every_file(bank_dir):
        sound = path.read_bytes()
        path.unlink()
        match how:
            case "empty":
                path.write_bytes(b"")
            case "short":
                path.write_bytes(sound[:-1])
            case "long":
                path.write_bytes(sound + b"\n")
            case "zeroed":
                path.write_bytes(bytes(len(sound)))
            case "directory":
                path.mkdir()
            case _:
                pass
        expected = BankMissing if how == "missing" and path.name == "complete.json" else Damaged
        with pytest.raises(expected, match="w2s-fast extract"):
            read_all(cache, bank_dir)
        shutil.rmtree(path) if how == "directory" else path.unlink(missing_ok=True)
        path.write_bytes(sound)
    read_all(cache, bank_dir)


def test_chunks_swapped_between_parts_are_damage(cache, bank_dir):
    for name in ("features/c/0/0", "logits/c/0/0", "norms/c/0", "ids/c/0/0"):
        a, b = part_of(bank_dir, 0) / name, part_of(bank_dir, 1) / name
        first, second = a.read_bytes(), b.read_bytes()
        assert len(first) == len(second)
        a.write_bytes(second), b.write_bytes(first)
        with pytest.raises(Damaged, match=r"not the chunk that was committed.*rows 0-6"):
            read_all(cache, bank_dir)
        a.write_bytes(first), b.write_bytes(second)
    read_all(cache, bank_dir)


def test_metadata_that_say_the_same_in_other_bytes_are_damage(cache, bank_dir):
    for name in ("zarr.json", "ids/zarr.json"):
        path = part_of(bank_dir, 0) / name
        sound = path.read_bytes()
        path.write_bytes(sound.replace(b"\n", b" "))
        assert json.loads(path.read_bytes()) == json.loads(sound)
        with pytest.raises(Damaged, match=r"zarr\.json: its bytes do not match the committed sha256 \(rows 0-6\)"):
            read_all(cache, bank_dir)
        path.write_bytes(sound)


def test_swapped_commits_and_folders_are_damage(cache, bank_dir):
    a, b = (bank_dir / "commits" / f"00000{i}.json" for i in (0, 1))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second), b.write_bytes(first)
    with pytest.raises(Damaged, match="other rows"):
        read_all(cache, bank_dir)
    a.write_bytes(first), b.write_bytes(second)
    x, y = part_of(bank_dir, 0), part_of(bank_dir, 1)
    x.rename(bank_dir / "aside"), y.rename(x), (bank_dir / "aside").rename(y)
    with pytest.raises(Damaged):
        read_all(cache, bank_dir)


def test_a_sound_part_of_another_run_is_not_this_bank(cache, bank_dir, rows, tmp_path):
    """The same rows with other numbers, all checksums right: only the digest of complete.json can tell."""
    other = rows.with_(features=rows.features * 2)
    other.finish(tmp_path / "other")
    source = tmp_path / "other" / "v1" / bank_dir.parent.name / bank_dir.name
    shutil.rmtree(part_of(bank_dir, 1))
    shutil.copytree(part_of(source, 1), bank_dir / "parts" / part_of(source, 1).name)
    shutil.copy(source / "commits/000001.json", bank_dir / "commits/000001.json")
    with pytest.raises(Damaged, match="another digest"):
        read_all(cache, bank_dir)


def test_a_record_of_another_bank_is_damage(cache, bank_dir):
    reseal(bank_dir / "complete.json", key="0" * 64)
    with pytest.raises(Damaged, match="another bank"):
        read_all(cache, bank_dir)


@pytest.mark.parametrize("name", ["complete.json", "commits/000001.json"])
def test_a_newer_format_is_refused_by_readers_and_writers(cache, bank_dir, rows, name):
    reseal(bank_dir / name, format=2)
    sound = (bank_dir / name).read_bytes()
    with pytest.raises(NewerFormat, match=r"cache format 2, and this version reads up to 1; upgrade"):
        read_all(cache, bank_dir)
    if name != "complete.json":
        with pytest.raises(NewerFormat):
            missing_parts(bank_dir, 18)
        with pytest.raises(NewerFormat):
            rows.write(bank_dir, 1)
        assert (bank_dir / name).read_bytes() == sound


def test_a_newer_key_file_is_refused(tmp_path):
    from w2s_fast.core.hashing import canonical_json, digest_bytes

    data = canonical_json({"format": 2}).encode()
    folder = tmp_path / "v1" / digest_bytes(data)[:2] / digest_bytes(data)
    folder.mkdir(parents=True)
    (folder / "key.json").write_bytes(data)
    with pytest.raises(NewerFormat, match=r"key\.json"):
        open_key(folder.name, cache=tmp_path)


@pytest.mark.parametrize(
    "directory",
    [
        "../000001.aaaaaaaaaaaaaaaa",
        "/etc",
        "",
        ".",
        "..",
        "000000.aaaaaaaaaaaaaaaa",
        "000001.aaaaaaaa/x",
        "000001.aaaaaaaa\0",
    ],
)
def test_a_directory_that_leaves_the_bank_is_refused(cache, bank_dir, directory):
    outside = bank_dir / "000001.aaaaaaaaaaaaaaaa"
    shutil.copytree(part_of(bank_dir, 1), outside)
    reseal(bank_dir / "commits/000001.json", directory=directory)
    with pytest.raises(Damaged, match="not a folder of part 1 inside the bank"):
        read_all(cache, bank_dir)
    assert missing_parts(bank_dir, 18) == [1]


def test_symbolic_links_and_pipes_inside_a_bank_are_refused(cache, bank_dir, tmp_path):
    part = part_of(bank_dir, 1)
    for inner in ("features/c/0/0", "features/zarr.json", "features", "norms/c"):
        path, aside = part / inner, tmp_path / "aside"
        path.rename(aside)
        path.symlink_to(aside)
        with pytest.raises(Damaged, match="symbolic link"):
            read_all(cache, bank_dir)
        path.unlink()
        aside.rename(path)
    part.rename(tmp_path / part.name)
    part.symlink_to(tmp_path / part.name)
    with pytest.raises(Damaged, match="symbolic link"):
        read_all(cache, bank_dir)
    part.unlink()
    (tmp_path / part.name).rename(part)
    read_all(cache, bank_dir)
    for inner in ("features/zarr.json", "features/c/0/0"):
        kept = (part / inner).read_bytes()
        (part / inner).unlink()
        os.mkfifo(part / inner)
        with pytest.raises(Damaged):
            read_all(cache, bank_dir)
        (part / inner).unlink()
        (part / inner).write_bytes(kept)


def test_a_bank_may_lie_behind_a_symbolic_link(cache, bank_dir, tmp_path):
    bank_dir.rename(tmp_path / "elsewhere")
    bank_dir.symlink_to(tmp_path / "elsewhere")
    read_all(cache, bank_dir)


HOSTILE_META = {
    "huge": {"shape": [7, 10**12]},
    "wide": {"shape": [7, 70_000]},
    "negative": {"shape": [7, -5]},
    "zero": {"shape": [7, 0]},
    "bool shape": {"shape": [7, True]},
    "float shape": {"shape": [7, 5.0]},
    "other rows": {"shape": [6, 5]},
    "flat": {"shape": [35]},
    "no shape": {"shape": None},
    "object": {"data_type": "object"},
    "float64": {"data_type": "float64"},
    "struct": {"data_type": {"name": "structured"}},
    "other shape": {"shape": [7, 6]},
    "other type": {"data_type": "float32"},
    "big endian": {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]},
    "no checksum": {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
    "no endian": {"codecs": [{"name": "bytes"}, {"name": "crc32c"}]},
    "unknown codec": {"codecs": [{"name": "evil"}, {"name": "crc32c"}]},
    "codecs are text": {"codecs": "zstd"},
    "grid": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 5]}}},
    "separator": {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}},
    "fill": {"fill_value": 1.0},
    "version": {"zarr_format": 2},
    "group": {"node_type": "group"},
    "unknown field": {"surprise": 1},
    "attributes": {"attributes": {"a": 1}},
    "transformers": {"storage_transformers": [{"name": "x"}]},
}


@pytest.mark.parametrize("case", HOSTILE_META)
def test_hostile_array_metadata_are_refused(cache, bank_dir, case):
    path = part_of(bank_dir, 0) / "features/zarr.json"
    meta = {**json.loads(path.read_bytes()), **HOSTILE_META[case]}
    refile(bank_dir, 0, "features/zarr.json", json.dumps(meta).encode())
    where = r"zarr\.json: .*at most 65536 columns" if case in ("huge", "wide") else r"(zarr\.json|c/0/0): "
    with pytest.raises(Damaged, match=rf"features/{where}.*rows 0-6"):
        read_all(cache, bank_dir)
    with pytest.raises(CacheError, match="features/"):
        complete_bank(bank_dir, rows=18, rows_digest="")


@pytest.mark.parametrize("data", [b"[" * 50_000, b"\xff\xfe", b"[]", b"NaN", b"{}", b"", b'{"shape": 1e999}'])
def test_hostile_json_is_refused(cache, bank_dir, data):
    refile(bank_dir, 0, "norms/zarr.json", data)
    with pytest.raises(Damaged, match=r"norms/zarr\.json"):
        read_all(cache, bank_dir)


HOSTILE_COMMITS = {
    "rows": {"rows": [0, 10**15]},
    "text rows": {"rows": ["0", "7"]},
    "part": {"part": -1},
    "files": {"files": {}},
    "an escaping file": {"files": {"../../key.json": {"bytes": 1, "sha256": "0" * 64}}},
    "file entry": {"files": {"zarr.json": 3}},
    "named": {"named": [[99, "x"]]},
    "named pairs": {"named": [["0", "x"]]},
    "failures": {"failures": [{"id": "x", "row": 99, "reason": ""}]},
    "failure fields": {"failures": [{"row": 1}]},
    "ids": {"ids": "../x"},
    "kind": {"kind": "complete"},
    "no format": {"format": None},
    "format is true": {"format": True},
    "producer": {"producer": []},
}


@pytest.mark.parametrize("case", HOSTILE_COMMITS)
def test_hostile_commits_are_refused(cache, bank_dir, case):
    reseal(bank_dir / "commits/000000.json", **HOSTILE_COMMITS[case])
    with pytest.raises(Damaged, match=r"commits/000000\.json: .*rows 0-6"):
        read_all(cache, bank_dir)
    assert missing_parts(bank_dir, 18) == [0]


def test_a_giant_record_is_not_read(cache, bank_dir):
    with (bank_dir / "commits/000000.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Damaged, match="more than 8388608"):
        read_all(cache, bank_dir)


def test_ids_that_are_not_those_of_the_digest(cache, bank_dir):
    record = unseal((bank_dir / "commits/000000.json").read_bytes())
    reseal(bank_dir / "commits/000000.json", named=[*record["named"], [0, "another"]])
    with pytest.raises(Damaged, match="committed ids digest"):
        read_all(cache, bank_dir)


def test_deep_verification_reads_what_reading_trusts(cache, bank_dir):
    """With the crc32c forged in file and commit alike, the sha256 is what is left."""
    import google_crc32c

    path = part_of(bank_dir, 0) / "norms/c/0"
    data = bytearray(path.read_bytes()[:-4])
    data[0] ^= 1
    crc = google_crc32c.value(bytes(data))
    path.write_bytes(bytes(data) + crc.to_bytes(4, "little"))
    record = unseal((bank_dir / "commits/000000.json").read_bytes())
    entry = {**record["files"]["norms/c/0"], "crc32c": crc}
    reseal(bank_dir / "commits/000000.json", files={**record["files"], "norms/c/0": entry})
    verify_bank(bank_dir.name, cache=cache)
    with pytest.raises(Damaged, match=r"norms/c/0: .*committed sha256"):
        verify_bank(bank_dir.name, cache=cache, deep=True)


def test_no_bank_and_half_a_bank(cache, bank_dir, rows, tmp_path):
    with pytest.raises(BankMissing, match="no bank 000000000000"):
        open_key("0" * 64, cache=cache)
    with pytest.raises(BankMissing, match="no bank"):
        open_key(bank_dir.name, cache=tmp_path / "nothing")
    (bank_dir / "complete.json").unlink()
    with pytest.raises(BankMissing, match=r"incomplete; finish it with: .*w2s-fast extract"):
        open_key(bank_dir.name, cache=cache)
    with pytest.raises(UsageError, match="not a bank key"):
        open_key("../../etc", cache=cache)


def test_a_damaged_part_is_refilled_and_gives_the_same_digest(cache, bank_dir, rows):
    before = open_key(bank_dir.name, cache=cache).digest
    (part_of(bank_dir, 1) / "features/c/0/0").unlink()
    (bank_dir / "commits/000002.json").write_bytes(b"torn")
    (bank_dir / "key.json").write_bytes(b"torn")
    assert missing_parts(bank_dir, 18) == [1, 2]
    assert rows.finish(cache) == before
    read_all(cache, bank_dir)
