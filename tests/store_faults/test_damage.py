"""Every file of a bank, damaged in every way: an error that says what, where and how to fix, or exactly the truth.

The second happens in two cases alone, and each is looked at: an array whose own files are whole (the chunk of `norms`
does not matter to who reads `features`; only `verify` reads all), and a bank that was opened before its records and
metadata were damaged, as these are in memory since.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage_checks import (
    WHAT,
    array_of,
    check,
    check_message,
    check_reference,
    fix,
)
from known_bank import (
    DATA,
    MODEL,
    PART_ROWS,
    damaged,
    every_file,
    flipped,
    known,
    reads,
    remove,
    same,
    small_parts,
    verifications,
)

from w2s_fast.core.errors import BankStale, CacheError, Damaged
from w2s_fast.store import layout, open_bank, open_key, repair_bank, verify_bank, write_ref
from w2s_fast.store.part import crc32c
from w2s_fast.store.records import Commit, bank_digest, seal, unseal

FILES = 4 * 11 + 4 + 2 + 1
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    small_parts(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Path]:
    """`sound` is the bank; `other` has the same key and ids, other numbers; `short` has its first 14 rows alone."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch)
        WHAT.finish(home / "sound")
        known(seed=1, stored="f32").finish(home / "other")
        known(seed=2).finish(home / "same-shape")
        known(14).finish(home / "short")
        known(seed=3, name="v").finish(home / "another-key")
    yield home


@pytest.fixture
def cache(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "sound", tmp_path / "cache"))


@pytest.fixture
def bank_dir(cache) -> Path:
    return next((cache / "v1").glob("??/" + "[0-9a-f]" * 64))


@pytest.fixture
def twin(made, bank_dir):
    """`twin("other", path)`: the file of that cache which stands where `path` does in the bank, if there is one."""

    def find(cache: str, path: Path) -> Path | None:
        root = made / cache / "v1"
        if path.parent.name == "refs":
            return next((root / "refs").glob("*.json"))
        there = next(root.glob("??/" + "[0-9a-f]" * 64))
        inside = path.relative_to(bank_dir).parts
        if inside[0] == "parts":
            folder = next((there / "parts").glob(inside[1].split(".")[0] + ".*"), None)
            return folder.joinpath(*inside[2:]) if folder else None
        return there.joinpath(*inside) if there.joinpath(*inside).exists() else None

    return find


def test_the_truth(cache, bank_dir):
    """An undamaged bank gives what was put in, in every way of reading it; zarr agrees."""
    import zarr

    bank = open_key(bank_dir.name, cache=cache)
    assert len(every_file(cache)) == FILES
    assert [str(p.arrays["features"].dtype) for p in bank.parts] == ["float16", "float16", "float32", "float16"]
    for name, (_, read, true) in reads(WHAT).items():
        assert same(read(bank), true), name
    for name, values in WHAT.truth().items():
        theirs = [zarr.open(str(p), mode="r")[name][...] for p in sorted((bank_dir / "parts").iterdir())]
        assert same(np.concatenate(theirs), values), name


@pytest.mark.parametrize("flips", [12, pytest.param(200, marks=[SLOW, pytest.mark.timeout(1800)])])
def test_bits_flipped_in_every_file(cache, bank_dir, flips):
    rng = np.random.default_rng(flips)
    for path in every_file(cache):
        bits = 8 * path.stat().st_size
        chosen = {0, bits - 1, bits - 33, *rng.integers(0, bits, flips - 3).tolist()}
        for i, bit in enumerate(sorted(chosen)):
            with damaged(path, flipped(path.read_bytes(), bit)):
                check(cache, bank_dir, path, thorough=i % 12 == 5)


@pytest.mark.parametrize("how", ["cut", "grown", "zeroed", "deleted", "folder", "link", "pipe"])
def test_every_file_that_is_no_longer_itself(cache, bank_dir, tmp_path, how):
    """A link is refused though it leads to the right bytes: what lies outside the bank was not committed."""
    aside = tmp_path / "aside"
    for path in every_file(cache):
        data = path.read_bytes()
        aside.write_bytes(data)
        forms = {
            "cut": [data[:size] for size in sorted({0, 1, len(data) // 2, len(data) - 4, len(data) - 1})],
            "grown": [data + b"\0"],
            "zeroed": [bytes(len(data))],
            "deleted": [None],
            "folder": [Path.mkdir],
            "link": [lambda p: p.symlink_to(aside)],
            "pipe": [os.mkfifo],
        }[how]
        for i, form in enumerate(forms):
            with damaged(path, form):
                check(cache, bank_dir, path, thorough=i == len(forms) - 1)


def test_zeros_with_a_sound_checksum(cache, bank_dir):
    """What a writer that is killed, or a sparse file, can leave: the trailer fits, and the commit does not."""
    chunks = [p for p in every_file(bank_dir) if array_of(p)]
    assert len(chunks) == 4 * 5
    for path in chunks:
        zeros = np.zeros(path.stat().st_size - 4, np.uint8)
        with damaged(path, zeros.tobytes() + crc32c(zeros).to_bytes(4, "little")):
            check(cache, bank_dir, path)


def test_chunks_of_another_part(cache, bank_dir):
    """A sound chunk in the wrong place, of every pair of parts in which it has one shape and type."""
    swaps = 0
    for path in (p for p in every_file(bank_dir) if array_of(p)):
        inside = path.relative_to(bank_dir / "parts")
        for folder in sorted((bank_dir / "parts").iterdir()):
            other = folder.joinpath(*inside.parts[1:])
            if other != path and other.stat().st_size == path.stat().st_size:
                if other.read_bytes() == path.read_bytes():
                    assert array_of(path) == "ok", "flags of two parts may be the same: then a swap is none"
                    continue
                with damaged(path, other.read_bytes()):
                    check(cache, bank_dir, path)
                swaps += 1
    # features and logits of parts 0 and 1; norms and ids of parts 0, 1 and 2; ok of part 1 against 0 and 2
    assert swaps == 2 * 2 + 2 * 6 + 4


def test_two_commits_that_changed_places(cache, bank_dir):
    """The digest of the bank is over sorted rows, and would fit: the rows would come back in another order."""
    first, second = (layout.commit_file(bank_dir, part) for part in (0, 1))
    data = first.read_bytes()
    with damaged(first, second.read_bytes()):
        check(cache, bank_dir, first)
        with damaged(second, data):
            check(cache, bank_dir, first)
    with damaged(second, data):
        check(cache, bank_dir, second)


REPLACED = {
    "other": {"records": 5, "metadata": 6, "features": 4, "logits": 4, "norms": 4},
    "same-shape": {"records": 5, "features": 4, "logits": 4, "norms": 4},
    "short": {"records": 3, "logits": 2},  # its features are those of the first two parts
    "another-key": {"records": 6, "features": 4, "logits": 4, "norms": 4, "ids": 4},
}
"""How many files of each kind differ."""


@pytest.mark.parametrize("cache_name", REPLACED)
def test_another_version_of_every_file(cache, bank_dir, made, twin, cache_name):
    """The file of the same name from another extraction, as a backup brings it back; all of them are sound there."""
    replaced: dict[str, int] = {}
    for path in every_file(bank_dir):
        theirs = twin(cache_name, path)
        if theirs is None or theirs.read_bytes() == path.read_bytes():
            continue
        kind = array_of(path) or ("metadata" if "parts" in path.parts else "records")
        replaced[kind] = replaced.get(kind, 0) + 1
        with damaged(path, theirs.read_bytes()):
            # a sound commit of this very key is believed, until its folder is looked for
            others = [unseal(theirs.read_bytes())["directory"]] if path.parent.name == "commits" else []
            check(cache, bank_dir, path, *others)
    assert replaced == REPLACED[cache_name]


def test_a_sound_part_of_another_extraction_with_its_commit(cache, bank_dir, twin, made):
    """Commit and folder brought back together: every checksum in them fits, only the completion record disagrees."""
    for part in range(4):
        commit = layout.commit_file(bank_dir, part)
        theirs = twin("same-shape", commit)
        assert theirs is not None
        folder = unseal(theirs.read_bytes())["directory"]
        shutil.copytree(theirs.parent.parent / "parts" / folder, bank_dir / "parts" / folder)
        disagrees = pytest.raises(Damaged, match=r"complete\.json: the commits are not those .*another digest.* repair")
        with damaged(commit, theirs.read_bytes()), disagrees:
            open_key(bank_dir.name, cache=cache)
        remove(bank_dir / "parts" / folder)


def test_the_completion_of_fewer_rows(cache, bank_dir, twin):
    """All that it says is so, and it says too little: the rows after it would be left out without a word."""
    path = layout.complete_file(bank_dir)
    theirs = twin("short", path)
    assert theirs is not None and unseal(theirs.read_bytes())["rows"] == 2 * PART_ROWS
    for part in (0, 1):  # as if the first 14 rows had been extracted the same way
        commit = twin("short", layout.commit_file(bank_dir, part))
        folder = unseal(commit.read_bytes())["directory"]
        remove(bank_dir / "parts" / unseal(layout.commit_file(bank_dir, part).read_bytes())["directory"])
        shutil.copytree(commit.parent.parent / "parts" / folder, bank_dir / "parts" / folder)
        shutil.copy(commit, layout.commit_file(bank_dir, part))
    path.write_bytes(theirs.read_bytes())
    for ask in (lambda: open_key(bank_dir.name, cache=cache), *verifications(bank_dir.name, cache).values()):
        with pytest.raises(Damaged) as caught:
            ask()
        check_message(caught.value, bank_dir, path)
    assert [d.path.name for d in repair_bank(bank_dir.name, cache=cache)] == ["complete.json"]


def test_ids_in_another_order_with_checksums_that_fit(cache, bank_dir):
    """A tool that rewrote a chunk and its checksums: ids have a digest of their own, as every join rests on them."""
    commit = layout.commit_file(bank_dir, 0)
    record = unseal(commit.read_bytes())
    path = bank_dir / "parts" / record["directory"] / "ids/c/0/0"
    packed = np.frombuffer(path.read_bytes()[:-4], np.uint8).reshape(PART_ROWS, 16).copy()
    packed[[2, 3]] = packed[[3, 2]]
    crc = crc32c(packed.reshape(-1))
    data = packed.tobytes() + crc.to_bytes(4, "little")
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "crc32c": crc}
    path.write_bytes(data)
    commit.write_bytes(seal({**record, "files": {**record["files"], "ids/c/0/0": entry}}))
    with pytest.raises(Damaged, match=r"complete\.json: .*another digest"):
        open_key(bank_dir.name, cache=cache)
    done = layout.complete_file(bank_dir)
    commits = [Commit.from_bytes(layout.commit_file(bank_dir, p).read_bytes()) for p in range(4)]
    done.write_bytes(seal({**unseal(done.read_bytes()), "digest": bank_digest(commits)}))
    bank = open_key(bank_dir.name, cache=cache)
    for ask in (lambda: bank.ids, *verifications(bank_dir.name, cache).values()):
        with pytest.raises(Damaged, match=r"ids do not match the committed ids digest \(rows 0-6\)") as caught:
            ask()
        check_message(caught.value, bank_dir, path)


def test_an_older_reference(cache, bank_dir, tmp_path):
    """A reference from before the weights changed: the size and time in it are no longer those of the file."""
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"old")
    write_ref(cache, model=MODEL, data=DATA, key=bank_dir.name, rows_digest=WHAT.rows_digest, weights=[weights])
    path = next((cache / "v1/refs").glob("*.json"))
    older = path.read_bytes()
    weights.write_bytes(b"newer")
    write_ref(cache, model=MODEL, data=DATA, key=bank_dir.name, rows_digest=WHAT.rows_digest, weights=[weights])
    open_bank(MODEL, DATA, cache=cache)
    path.write_bytes(older)
    with pytest.raises(BankStale, match=rf"w\.safetensors changed .*w2s-fast extract --data {DATA}"):
        open_bank(MODEL, DATA, cache=cache)


def test_the_reference_of_another_data_set(cache, bank_dir):
    write_ref(cache, model=MODEL, data="drawn:other", key=bank_dir.name, rows_digest=WHAT.rows_digest)
    first, second = sorted((cache / "v1/refs").glob("*.json"), key=lambda p: b"drawn:other" in p.read_bytes())
    with damaged(first, second.read_bytes()):
        check_reference(cache, bank_dir, first)


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted", "replaced"])
def test_files_damaged_under_an_open_bank(cache, bank_dir, made, twin, how):
    """All arrays were read and mapped before. Chunks are checked anew; records were believed when they were read."""
    bank = open_key(bank_dir.name, cache=cache)
    warm = reads(WHAT)
    for _, read, _ in warm.values():
        read(bank)
    cached = {"ids", "ok", "a join"}  # read once, and held in memory since
    for path in every_file(bank_dir):
        data, array = path.read_bytes(), array_of(path)
        theirs = twin("same-shape", path)
        assert theirs is not None
        form = {"flipped": flipped(data, 40), "cut": data[:-1], "deleted": None, "replaced": theirs.read_bytes()}[how]
        if form == data:
            continue
        with damaged(path, form):
            for name, (of, read, true) in warm.items():
                if of == array and name not in cached:
                    with pytest.raises(Damaged) as caught:
                        read(bank)
                        pytest.fail(f"{name} returned numbers from {path}")
                    check_message(caught.value, bank_dir, path)
                else:
                    assert same(read(bank), true), f"{name} after damage to {path}"
            with pytest.raises(CacheError):
                verify_bank(bank)


def test_blocks_whose_file_changes_while_they_are_streamed(cache, bank_dir):
    """A block that is read alone has no trailer of its own: its checksum was noted when its part was verified."""
    from w2s_fast.store.blocks import BankBlocks

    true = WHAT.truth()["features"]
    order = [r for r in np.random.default_rng(1).permutation(WHAT.rows).tolist() if r > 0]
    for row in (3, 9, 20, 24):
        bank = open_key(bank_dir.name, cache=cache)
        blocks = BankBlocks(bank=bank, block=1)
        for r in [*order, 0, *order[::-1]]:
            blocks.read(r)
        part, local = divmod(row, PART_ROWS)
        path = bank_dir / "parts" / bank.parts[part].commit.directory / "features/c/0/0"
        width = 5 * bank.parts[part].arrays["features"].dtype.itemsize
        data = path.read_bytes()
        with damaged(path, flipped(data, 8 * (local * width + 3))):
            blocks.read((row + 9) % WHAT.rows)  # elsewhere, so that the next one does not follow it
            with pytest.raises(Damaged) as caught:
                blocks.read(row)
            check_message(caught.value, bank_dir, path)
            beside = row - 2  # its own bytes are sound, as is the checksum noted for them
            assert same(blocks.read(beside)[0].astype(np.float32), true[beside])


@pytest.mark.parametrize("every", [18, pytest.param(1, marks=[SLOW, pytest.mark.timeout(1800)])])
def test_repair_and_extract_give_the_bank_again(cache, bank_dir, made, twin, every):
    """What the message says fixes it, whatever the damage; nothing but the damaged part is made again."""
    calm = open_key(bank_dir.name, cache=cache).digest
    untouched = made / "aside"
    count = 0
    for i, path in enumerate(every_file(cache)):
        inside = path.relative_to(cache)
        for j, how in enumerate(("flipped", "cut", "zeroed", "deleted", "folder", "link", "older")):
            if (i + j) % every:  # 50, the last file, is the reference: as a folder, it is among them
                continue
            trial = Path(shutil.copytree(cache, cache.parent / "trial"))
            hurt, data = trial / inside, path.read_bytes()
            theirs = twin("same-shape", path)
            remove(hurt)
            match how:
                case "flipped":
                    hurt.write_bytes(flipped(data, 77 % (8 * len(data))))
                case "cut":
                    hurt.write_bytes(data[: len(data) // 2])
                case "zeroed":
                    hurt.write_bytes(bytes(len(data)))
                case "folder":
                    hurt.mkdir()
                case "link":
                    untouched.write_bytes(data)
                    hurt.symlink_to(untouched)
                case "older":
                    hurt.write_bytes(theirs.read_bytes() if theirs else data)
                case _:
                    pass
            folder = trial / bank_dir.relative_to(cache)
            before = {p.name for p in (folder / "parts").iterdir()}
            fix(trial, folder)
            assert open_key(folder.name, cache=trial).digest == calm, (inside, how)
            made_again = {int(p.name[:6]) for p in (folder / "parts").glob("[0-9]*") if p.name not in before}
            mine = {int(inside.parts[4][:6])} if len(inside.parts) > 4 else set()
            assert made_again <= mine, (inside, how, made_again)
            shutil.rmtree(trial)
            count += 1
    assert count >= 51 * 7 // every - 1


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=SLOW)])
def test_an_extraction_without_a_repair(cache, bank_dir, every):
    """It remakes what it can see to be damaged without reading all; what it cannot see stays an error."""
    calm = open_key(bank_dir.name, cache=cache).digest
    for path in every_file(bank_dir)[::every]:
        trial = Path(shutil.copytree(cache, cache.parent / "trial"))
        hurt, data = trial / path.relative_to(cache), path.read_bytes()
        hurt.write_bytes(data[:-1])
        assert WHAT.finish(trial) == calm, f"{path} was cut"
        assert verify_bank(bank_dir.name, cache=trial, deep=True) > 0
        shutil.rmtree(trial)
        if array_of(path) not in (None, "ids"):
            with damaged(path, flipped(data, 9)):
                assert WHAT.finish(cache) == calm
                check(cache, bank_dir, path, thorough=False)
        elif "parts" in path.parts:
            with damaged(path, flipped(data, 9)), pytest.raises(CacheError, match="run the same extract command again"):
                WHAT.finish(cache)
