"""The power goes out at any moment, and the disk forgets or mixes up whatever was not synced (`power_model.py`)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import fake_extract
import pytest
from bank_states import KEY, Calm, check, check_rerun, contents, read, sweep, undisturbed
from fault_layer import AFTER, BEFORE, Killed, Layer, Operation, end_at
from power_model import Tree, cuts, disk_of, files_below, outcomes, place

from w2s_fast.core.errors import W2SError
from w2s_fast.store import begin_bank, files, layout, repair_bank
from w2s_fast.store import write as store_write

pytestmark = [pytest.mark.usefixtures("small_parts"), pytest.mark.timeout(1800)]


@pytest.fixture
def calm(scratch: Path) -> Calm:
    return undisturbed(scratch / "calm")


def recorded(cache: Path, act: Callable[[Path, Layer], object] | None = None) -> list[Operation]:
    cache.mkdir(exist_ok=True)
    with Layer() as layer:
        if act is None:
            fake_extract.extract(cache, report=layer.report)
        else:
            act(cache, layer)
    return layer.log


def every_outcome(
    scratch: Path,
    cache: Path,
    log: Sequence[Operation],
    calm: Calm,
    *,
    before: Tree | None = None,
    every: int = 1,
    rerun: int = 1,
    detected: bool = False,
    late: int = 24,
    end: Callable[[Path, Calm], object] = check_rerun,
) -> dict[str, int]:
    """Check every `every`-th outcome, and all of the `late` last operations, in which the last records are written.

    A run is ended (`end`) in each `rerun`-th of those. How often each state was seen.
    """
    states: dict[str, int] = {}
    chosen = (c for i, c in enumerate(cuts(cache, log, before=before)) if i % every == 0 or c[0] > len(log) - late)
    for number, (done, reported, tree) in enumerate(chosen):
        place(tree, scratch / "after")
        where = f"after {done} operations, the last being {log[done - 1].name if done else 'none'}"
        try:
            state = check(scratch / "after", calm, reported=reported, detected=detected)
            states[state] = states.get(state, 0) + 1
            if number % rerun == 0:
                end(scratch / "after", calm)
        except (AssertionError, W2SError) as error:
            raise AssertionError(f"{where}: {error}") from error
        finally:
            shutil.rmtree(scratch / "after")
    return states


@pytest.mark.parametrize(("every", "rerun"), [(13, 4), pytest.param(1, 3, marks=pytest.mark.slow)])
def test_after_a_power_cut_a_bank_is_old_or_new_and_what_was_reported_is_there(scratch, calm, every, rerun):
    log = recorded(scratch / "whole")
    states = every_outcome(scratch, scratch / "whole", log, calm, every=every, rerun=rerun)
    assert set(states) == {"none", "whole"} and states["none"] > 100


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_power_cut_during_a_repair_is_detected_or_mended(scratch, calm, every):
    """The bank was damaged before; whatever the power cut leaves of the repair, no wrong number is returned."""
    cache = scratch / "whole"
    recorded(cache)
    chunk = next(cache.rglob("parts/000001.*/features/c/0/0"))
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    before = files_below(cache)

    def fix(root: Path, layer: Layer) -> None:
        repair_bank(KEY, cache=root)
        fake_extract.extract(root, report=layer.report)

    def repaired_again(root: Path, calm: Calm) -> None:
        repair_bank(KEY, cache=root)
        check_rerun(root, calm)

    log = recorded(cache, fix)
    found = every_outcome(
        scratch, cache, log, calm, before=before, every=every, rerun=3, detected=True, end=repaired_again
    )
    assert set(found) == {"none", "whole", "damaged"}


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_power_cut_during_gc_brings_no_harm(scratch, calm, every):
    cache = scratch / "whole"
    recorded(cache)
    part = next(cache.rglob("parts/000001.*"))
    shutil.copytree(part, part.with_name(part.name[:7] + "00" * 8))
    shutil.copytree(part, part.with_name(".tmp-" + "00" * 8))
    before = files_below(cache)
    log = recorded(cache, lambda root, layer: sweep(root))
    assert {op.name for op in log} == {"unlink", "rmdir"}
    found = every_outcome(scratch, cache, log, calm, before=before, every=every, rerun=5, late=0)
    assert set(found) == {"whole"}


@pytest.mark.parametrize("every", [97, pytest.param(7, marks=pytest.mark.slow)])
def test_a_power_cut_after_a_kill_and_a_rerun_loses_nothing_that_was_reported(scratch, calm, every):
    """What the killed run made and never synced, the next run finds and builds upon: it has to sync that as well."""
    log = [op for op in recorded(scratch / "whole") if op.name != "report"]
    named = ("rename", "link", "mkdir")
    for at in range(len(log)):
        inside_a_part = log[at].name == "mkdir" and ".tmp-" in str(log[at].path)
        if at % every and (log[at].name not in named or inside_a_part):
            continue
        cache = scratch / "killed"
        cache.mkdir()
        with Layer(end_at(at, AFTER)) as layer:
            try:
                fake_extract.extract(cache)
            except Killed:
                layer.dead = False
            layer.fate = lambda number, name: None
            fake_extract.extract(cache, report=layer.report)
        disk = disk_of(cache)
        for op in layer.log:
            if op.name != "report":
                disk.do(op)
        for tree in {frozenset(t.items()): t for t in outcomes(disk, chances=2)}.values():
            place(tree, scratch / "after")
            try:
                check(scratch / "after", calm, reported=("part 0", "part 1", "bank", "reference"))
            except AssertionError as error:
                raise AssertionError(f"killed after operation {at} ({layer.log[at].name}): {error}") from error
            shutil.rmtree(scratch / "after")
        shutil.rmtree(cache)


def test_a_completion_that_another_writer_did_not_live_to_sync_is_synced_by_the_one_that_reports_it(scratch, calm):
    """Both have begun and written; one dies between its rename of complete.json and the sync of the folder."""
    cache = scratch / "both"
    cache.mkdir()
    with Layer() as layer:
        bank = begin_bank(cache, fake_extract.INGREDIENTS)
        for part in (0, 1):
            fake_extract.write(bank, part, 10)
        layer.fate = lambda number, name: AFTER if name == "rename" else None
        with pytest.raises(Killed):
            fake_extract.complete(bank)
        layer.dead, layer.fate = False, lambda number, name: None
        assert fake_extract.complete(bank) == calm.digest
    disk = disk_of(cache)
    for op in layer.log:
        disk.do(op)
    for number, tree in enumerate(outcomes(disk, chances=2)):
        place(tree, scratch / str(number))
        check(scratch / str(number), calm, reported=("bank",))


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_without_hard_links_a_torn_commit_is_detected_and_written_again(scratch, calm, every, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    log = recorded(scratch / "whole")
    states = every_outcome(scratch, scratch / "whole", log, calm, every=every, rerun=11, detected=True)
    assert {"none", "whole"} <= set(states)


def test_the_record_is_everything(scratch):
    """Replayed with nothing lost, the operations give the very folder: no writer changes the disk past the layer."""
    cache = scratch / "whole"
    log = recorded(cache)
    log += recorded(cache, lambda root, layer: repair_bank(KEY, cache=root, failed=True))
    log += recorded(cache)
    log += recorded(cache, lambda root, layer: sweep(root))
    disk = disk_of(cache)
    opened = 0
    for op in log:
        if op.name != "report":
            disk.do(op)
            opened += op.name == "open_file"
    assert opened > 100
    assert disk.after((), lambda what: "there") == files_below(cache)
    assert contents(cache) == contents(scratch / "whole") and read(cache)


# --- what the model must notice: a store that leaves one thing out


def no_sync_of_folders(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "sync_dir", lambda folder: None)


def no_sync_of_files(patch: pytest.MonkeyPatch) -> None:
    real = files.open_file
    folders: set[int] = set()

    def open_file(path: Path, flags: int, mode: int = 0o644) -> int:
        fd = real(path, flags, mode)
        (folders.add if flags & os.O_DIRECTORY else folders.discard)(fd)
        return fd

    sync = files.fsync
    patch.setattr(files, "open_file", open_file)
    patch.setattr(files, "fsync", lambda fd: sync(fd) if fd in folders else None)


def records_in_place(patch: pytest.MonkeyPatch) -> None:
    def put(path: Path, data: bytes) -> None:
        fd = files.open_file(path, os.O_WRONLY | os.O_CREAT)
        files.write(fd, memoryview(data))
        files.fsync(fd)
        files.close(fd)
        files.sync_dir(path.parent)

    patch.setattr(files, "put", put)


def no_sync_of_commits(patch: pytest.MonkeyPatch) -> None:
    real = files.sync_dir
    patch.setattr(files, "sync_dir", lambda folder: None if folder.name == "commits" else real(folder))


def no_sync_of_parts(patch: pytest.MonkeyPatch) -> None:
    real = files.sync_dir
    patch.setattr(files, "sync_dir", lambda folder: None if folder.name == "parts" else real(folder))


def commit_before_part(patch: pytest.MonkeyPatch) -> None:
    """The rename into place and its sync come after the commit: all that the disk sees is in another order."""
    late: list[tuple[Path, Path]] = []
    rename, commit = files.rename, store_write._commit

    def later(source: Path, target: Path) -> None:
        rename(source, target) if target.parent.name != "parts" else late.append((source, target))

    def commit_first(bank: Path, record: object) -> object:
        made = commit(bank, record)  # pyright: ignore[reportArgumentType]
        rename(*late.pop())
        files.sync_dir(layout.parts_dir(bank))
        return made

    patch.setattr(files, "rename", later)
    patch.setattr(store_write, "_commit", commit_first)


@pytest.mark.parametrize(
    "mutation",
    [
        no_sync_of_folders,
        no_sync_of_files,
        records_in_place,
        no_sync_of_commits,
        no_sync_of_parts,
        commit_before_part,
    ],
)
def test_the_model_notices_a_store_that_omits(scratch, calm, mutation):
    with Layer() as layer, pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        (scratch / "whole").mkdir()
        fake_extract.extract(scratch / "whole", report=layer.report)
    with pytest.raises(AssertionError, match="operations, the last being"):
        every_outcome(scratch, scratch / "whole", layer.log, calm, rerun=10**9)


def test_the_model_itself(tmp_path):
    """Its rules on a hand-made record: a file whose bytes were synced and its name not, and the reverse."""
    layer_log = []
    (tmp_path / "root").mkdir()
    with Layer(end_at(10**9, BEFORE)) as layer:
        root = tmp_path / "root"
        fd = files.open_file(root / "synced", os.O_WRONLY | os.O_CREAT)
        files.write(fd, memoryview(b"abcd"))
        files.fsync(fd)
        files.close(fd)
        fd = files.open_file(root / "named", os.O_WRONLY | os.O_CREAT)
        files.write(fd, memoryview(b"abcd"))
        files.close(fd)
    layer_log = layer.log
    disk = disk_of(root)
    for op in layer_log:
        disk.do(op)
    found = [tuple(sorted(t.items())) for t in outcomes(disk, chances=0)]
    both = [dict(f) for f in found if len(f) == 2]
    assert {t["synced"] for t in both} == {b"abcd"}
    assert {t["named"] for t in both} == {b"abcd", b"", b"ab", b"\0\0\0\0", b"\0\0cd"}
    assert () in found and (("synced", b"abcd"),) in found and (("named", b"abcd"),) in found
    with Layer() as layer:
        files.sync_dir(root)
    for op in layer.log:
        disk.do(op)
    found = [sorted(t) for t in outcomes(disk, chances=3)]
    assert all(names == ["named", "synced"] for names in found), "the names are durable, whatever the bytes are"
