"""Repairs take out what is damaged and nothing else; what is refilled are the same bytes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from w2s_fast.core.errors import BankMissing, CacheError, Damaged, NewerFormat
from w2s_fast.store import files, layout, missing_parts, open_key, repair_bank, verify_bank
from w2s_fast.store.part import crc32c
from w2s_fast.store.records import seal, unseal


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def every_file(bank):
    return sorted(str(p.relative_to(bank)) for p in bank.rglob("*") if p.is_file())


def test_a_sound_bank_is_left_alone(cache, bank_dir):
    before = every_file(bank_dir)
    assert repair_bank(bank_dir.name, cache=cache) == []
    assert every_file(bank_dir) == before


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_any_damaged_file_costs_its_part_alone(cache, bank_dir, rows, how, every):
    digest = open_key(bank_dir.name, cache=cache).digest
    names = every_file(bank_dir)
    assert len(names) == 38
    first = ["flip", "cut", "gone"].index(how)
    for name in [n for i, n in enumerate(names) if i % every == first % every or "/" not in n]:
        path = bank_dir / name
        if name.startswith("parts/"):  # a part that was made again has another folder
            directory = open_key(bank_dir.name, cache=cache).parts[int(name[6:12])].commit.directory
            path = bank_dir / "parts" / directory / name.split("/", 2)[2]
        if how == "gone":
            path.unlink()
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            flip(path)
        dropped = repair_bank(bank_dir.name, cache=cache)
        if name in ("key.json", "complete.json"):
            assert [d.rows for d in dropped] == ([] if how == "gone" else [None]), name
        elif how == "gone" and name.startswith("commits/"):
            assert [d.path.name for d in dropped] == ["complete.json"]
        else:
            part = int(path.stem if name.startswith("commits/") else name[6:12])
            assert [d.rows for d in dropped] == [None, layout.row_range(part, 18)], name
            assert missing_parts(bank_dir, 18) == [part]
        assert rows.finish(cache) == digest, name
        assert verify_bank(bank_dir.name, deep=True, cache=cache) > 0


def test_what_was_taken_out_is_kept_for_a_while_and_means_nothing(cache, bank_dir, rows):
    part = next((bank_dir / "parts").glob("000001.*"))
    flip(part / "norms/c/0")
    (complete, damaged) = repair_bank(bank_dir.name, cache=cache)
    assert complete.path.name == "complete.json" and "crc32c" in damaged.why and str(part / "norms/c/0") in damaged.why
    aside = [p.name for p in bank_dir.rglob(".tmp-damaged-*")]
    assert len(aside) == 3 and any(name.endswith(part.name) for name in aside)
    with pytest.raises(BankMissing, match="is incomplete"):
        open_key(bank_dir.name, cache=cache)
    rows.finish(cache)
    open_key(bank_dir.name, cache=cache)


def test_swapped_chunks_and_parts_of_another_run_are_found(cache, bank_dir, rows, tmp_path):
    a, b = (next((bank_dir / "parts").glob(f"00000{i}.*")) / "features/c/0/0" for i in (0, 1))
    shutil.copy(a, tmp_path / "a"), shutil.copy(b, a), shutil.copy(tmp_path / "a", b)
    assert {d.rows for d in repair_bank(bank_dir.name, cache=cache)} == {None, (0, 7), (7, 14)}
    digest = rows.finish(cache)
    other = rows.with_(features=rows.features * 2).begin(tmp_path / "other")
    rows.with_(features=rows.features * 2).write(other, 2)
    shutil.copytree(other / "parts", bank_dir / "parts", dirs_exist_ok=True)
    shutil.copy(other / "commits/000002.json", bank_dir / "commits")
    with pytest.raises(Damaged, match="another digest"):
        open_key(bank_dir.name, cache=cache)
    assert [d.path.name for d in repair_bank(bank_dir.name, cache=cache)] == ["complete.json"]
    assert rows.finish(cache) != digest, "a sound part is believed: the store cannot know which of two is right"


def test_what_crc32c_cannot_see_is_found_by_sha256(cache, bank_dir):
    path = next((bank_dir / "parts").glob("000001.*")) / "norms/c/0"
    data = bytearray(path.read_bytes()[:-4])
    data[0] ^= 1
    crc = crc32c(np.frombuffer(data, np.uint8))
    path.write_bytes(bytes(data) + crc.to_bytes(4, "little"))
    record = unseal((bank_dir / "commits/000001.json").read_bytes())
    record["files"]["norms/c/0"]["crc32c"] = crc
    (bank_dir / "commits/000001.json").write_bytes(seal(record))
    verify_bank(bank_dir.name, cache=cache)
    assert [d.rows for d in repair_bank(bank_dir.name, cache=cache)] == [None, (7, 14)]


def test_an_incomplete_bank_is_repaired_too(tmp_path, rows):
    bank = rows.begin(tmp_path)
    rows.write(bank, 0), rows.write(bank, 1)
    flip(next(bank.rglob("000001.*/ok/c/0")))
    assert [d.rows for d in repair_bank(bank.name, cache=tmp_path)] == [(7, 14)]
    assert missing_parts(bank, 18) == [1, 2]


def test_parts_with_unreadable_images_are_taken_out_when_asked(cache, bank_dir, rows):
    assert repair_bank(bank_dir.name, cache=cache) == []
    dropped = repair_bank(bank_dir.name, failed=True, cache=cache)
    assert [d.rows for d in dropped] == [None, (7, 14)] and "1 of its images" in dropped[1].why


def test_a_later_format_is_not_touched(cache, bank_dir):
    before = every_file(bank_dir)
    flip(next(bank_dir.rglob("000000.*/ok/c/0")))
    (bank_dir / "commits/000002.json").write_bytes(seal({"format": 2, "kind": "commit"}))
    with pytest.raises(NewerFormat, match="upgrade"):
        repair_bank(bank_dir.name, cache=cache)
    assert every_file(bank_dir) == before


def test_a_crash_in_a_repair_leaves_what_can_be_repaired(cache, bank_dir, rows, monkeypatch):
    digest = open_key(bank_dir.name, cache=cache).digest
    real = files.rename
    for last in range(4):
        for p in bank_dir.rglob("0*.*/features/c/0/0"):
            flip(p)
        left = [last]

        def dying(source, target, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(files, "rename", dying)
            with pytest.raises(KeyboardInterrupt):
                repair_bank(bank_dir.name, cache=cache)
        with pytest.raises((Damaged, BankMissing)):
            verify_bank(bank_dir.name, cache=cache)
        repair_bank(bank_dir.name, cache=cache)
        assert rows.finish(cache) == digest


def test_no_such_bank_and_no_permission(cache, bank_dir, monkeypatch):
    with pytest.raises(BankMissing, match="cache ls"):
        repair_bank("0" * 64, cache=cache)
    flip(bank_dir / "complete.json")

    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr(files, "rename", refuse)
    with pytest.raises(CacheError, match="permit reading and writing"):
        repair_bank(bank_dir.name, cache=cache)
