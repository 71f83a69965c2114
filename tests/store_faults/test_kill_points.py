"""A writer that is ended before, within and after each of its file operations, and a process that is killed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_extract
import pytest
from bank_states import KEY, Calm, check, check_rerun, contents, reference, sweep, undisturbed
from fault_layer import AFTER, BEFORE, OPERATIONS, TORN, Killed, Layer, end_at

from w2s_fast.core.errors import W2SError
from w2s_fast.store import begin_bank, files, garbage, layout, missing_parts, publish, read_ref, repair_bank, write_ref
from w2s_fast.store import write as store_write

pytestmark = [pytest.mark.usefixtures("small_parts"), pytest.mark.timeout(1800)]

SCRIPT = Path(fake_extract.__file__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that changes a cache: what is there before, what is done, what may be found after a kill, the rerun."""

    before: Callable[[Path], object]
    """Makes the folder of the cache."""
    act: Callable[[Path], object]
    operations: frozenset[str]
    """Those that it must consist of, so that no test passes because nothing was done."""
    detected: bool = False
    """Whether the state before is damaged, so that a reader's `Damaged` is the old state."""
    states: frozenset[str]
    """The states that are seen at one kill or another."""
    rerun: Callable[[Path, Calm], object] = check_rerun


def nothing(cache: Path) -> None:
    cache.mkdir()


def flipped(cache: Path) -> None:
    """A complete bank with one bit of part 1 flipped, and a commit of part 0 that is cut."""
    fake_extract.extract(cache)
    chunk = next(cache.rglob("parts/000001.*/features/c/0/0"))
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    commit = next(cache.rglob("commits/000000.json"))
    commit.write_bytes(commit.read_bytes()[:-9])


def broken(cache: Path) -> None:
    """What `extract` fixes by itself: a changed key.json, a cut commit, a cut chunk; and no complete.json."""
    fake_extract.extract(cache)
    next(cache.rglob("complete.json")).unlink()
    next(cache.rglob("key.json")).write_bytes(b"{}")
    commit = next(cache.rglob("commits/000000.json"))
    commit.write_bytes(commit.read_bytes()[:-9])
    chunk = next(cache.rglob("parts/000001.*/norms/c/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])


def littered(cache: Path) -> None:
    """A complete bank, with what killed and overtaken writers left: everything that gc removes."""
    fake_extract.extract(cache)
    part = next(cache.rglob("parts/000001.*"))
    shutil.copytree(part, part.with_name(part.name[:7] + "00" * 8))
    shutil.copytree(part, part.with_name(".tmp-" + "00" * 8))
    (part.parent.parent / "commits" / ".tmp-0000").write_bytes(b"x")
    write_ref(cache, model="another", data="another", key="ab" * 32, rows_digest="0" * 64)


def elsewhere(cache: Path) -> None:
    """A complete bank whose reference names other rows."""
    fake_extract.extract(cache)
    fake_extract.refer(cache, KEY, rows=9)


def repaired_again(cache: Path, calm: Calm) -> None:
    repair_bank(KEY, cache=cache)
    check_rerun(cache, calm)


def swept_again(cache: Path, calm: Calm) -> None:
    sweep(cache)
    assert contents(cache) == calm.contents, "gc alone ends in the undisturbed folder"


WORKS = {
    "extract": Work(
        before=nothing,
        act=fake_extract.extract,
        operations=frozenset(OPERATIONS) - {"rmdir"},
        states=frozenset({"none", "whole"}),
    ),
    "extract over damage": Work(
        before=broken,
        act=fake_extract.extract,
        operations=frozenset(OPERATIONS) - {"rmdir"},
        detected=True,
        states=frozenset({"none", "damaged", "whole"}),
    ),
    "repair": Work(
        before=flipped,
        act=lambda cache: repair_bank(KEY, cache=cache),
        operations=frozenset({"rename", "open_file", "fsync", "close"}),
        detected=True,
        states=frozenset({"none", "damaged"}),
        rerun=repaired_again,
    ),
    "gc": Work(
        before=littered,
        act=sweep,
        operations=frozenset({"unlink", "rmdir"}),
        states=frozenset({"whole"}),
        rerun=swept_again,
    ),
}


def every_point(work: Work, scratch: Path, calm: Calm, *, every: int) -> tuple[set[str], set[str]]:
    """End the work at each `every`-th point, and at all that give or take the name of a record or a part.

    A point is an operation and a way to end at it. The names of all operations of the work, and the states seen.
    """
    work.before(scratch / "before")
    shutil.copytree(scratch / "before", scratch / "calm work")
    with Layer() as layer:
        work.act(scratch / "calm work")
    names = layer.asked
    states: set[str] = set()
    ways = [
        (at, how) for at in range(len(names)) for how in (BEFORE, TORN, AFTER) if how != TORN or names[at] == "write"
    ]
    for number, (at, how) in enumerate(ways):
        if number % every and names[at] not in ("rename", "link") and at < len(names) - 6:
            continue
        cache = Path(shutil.copytree(scratch / "before", scratch / "killed"))
        where = f"ended {how} operation {at} ({names[at]})"
        with Layer(end_at(at, how)) as layer, pytest.raises(Killed):
            work.act(cache)
        try:
            assert len(layer.asked) == at + 1
            states.add(check(cache, calm, detected=work.detected))
            work.rerun(cache, calm)
        except (AssertionError, W2SError) as error:
            raise AssertionError(f"{where}: {error}") from error
        shutil.rmtree(cache)
    return set(names), states


@pytest.fixture
def calm(scratch: Path) -> Calm:
    return undisturbed(scratch / "calm")


@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("work", WORKS)
def test_ended_at_any_operation_it_is_old_or_new_and_a_rerun_ends_in_the_same_bytes(scratch, calm, work, every):
    assert every_point(WORKS[work], scratch, calm, every=every) == (WORKS[work].operations, WORKS[work].states)


def test_a_reference_is_the_old_one_or_the_new_one(scratch, calm):
    found = []

    def look(cache: Path, calm: Calm) -> None:
        found.append(reference(cache))
        check_rerun(cache, calm)

    old_or_new = Work(
        before=elsewhere,
        act=lambda cache: fake_extract.refer(cache, KEY),
        operations=frozenset({"open_file", "write", "fsync", "close", "rename"}),
        detected=True,
        states=frozenset({"whole"}),
        rerun=look,
    )
    assert every_point(old_or_new, scratch, calm, every=3) == (old_or_new.operations, old_or_new.states)
    old = reference(scratch / "before")
    assert old != calm.ref and old in found and calm.ref in found and all(ref in (old, calm.ref) for ref in found)


def test_a_part_that_was_reported_is_there_after_any_later_kill(scratch, calm):
    """Ended at each operation of the second part, the first is neither lost nor written again."""
    fake_extract.extract(scratch / "one", rows=10)
    with Layer() as layer:
        (scratch / "half").mkdir()
        fake_extract.extract(scratch / "half", report=layer.report)
    first = next(i for i, op in enumerate(layer.log) if op.name == "report")
    for at in range(first, len(layer.log) - 40, 17):
        cache = scratch / str(at)
        cache.mkdir()
        with Layer(end_at(at, AFTER)) as layer, pytest.raises(Killed):
            fake_extract.extract(cache, report=layer.report)
        check(cache, calm, reported=("part 0",))
        assert 0 not in missing_parts(begin_bank(cache, fake_extract.INGREDIENTS), 10)


# --- what these tests must notice: a store that does things in another order


def parts_after_their_commits(patch: pytest.MonkeyPatch, scratch: Path) -> None:
    """The commit is made first, and then the part that it names."""
    commit = store_write._commit
    held: list[tuple[Path, dict[str, Any]]] = []

    def named(bank: Path, part: int, arrays: dict[str, Any], **_: Any) -> tuple[str, dict[str, Any]]:
        contents, crcs = publish.encode_part(arrays)
        name = layout.part_name(part, files.nonce())
        held.append((layout.parts_dir(bank) / name, contents))
        return name, publish._entries(contents, crcs)

    def then_written(bank: Path, record: Any) -> object:
        made = commit(bank, record)
        files.put_tree(*held.pop())
        return made

    patch.setattr(store_write, "publish_part", named)
    patch.setattr(store_write, "_commit", then_written)


def commits_in_place(patch: pytest.MonkeyPatch, scratch: Path) -> None:
    """The commit is created under its own name and filled after."""
    patch.setattr(files, "put_new", lambda path, data: files._write_exclusive(path, (data,)))


def records_in_place(patch: pytest.MonkeyPatch, scratch: Path) -> None:
    def put(path: Path, data: bytes) -> None:
        if path.exists():
            files.unlink(path)
        files._write_exclusive(path, (data,))

    patch.setattr(files, "put", put)


def complete_from_the_start(patch: pytest.MonkeyPatch, scratch: Path) -> None:
    """`complete.json`, as it will be, is there before any part."""
    real = files.put_new
    done = next((scratch / "calm").rglob("complete.json")).read_bytes()

    def early(path: Path, data: bytes) -> bool:
        if path.name == "key.json":
            files.put(path.with_name("complete.json"), done)
        return real(path, data)

    patch.setattr(files, "put_new", early)


def gc_of_named_parts(patch: pytest.MonkeyPatch, scratch: Path) -> None:
    patch.setattr(garbage, "_named_parts", lambda bank: set())


@pytest.mark.parametrize(
    ("mutation", "work", "every"),
    [
        (parts_after_their_commits, "extract", 11),
        (commits_in_place, "extract", 11),
        (records_in_place, "extract", 101),
        (complete_from_the_start, "extract", 11),
        (gc_of_named_parts, "gc", 11),
    ],
)
def test_the_kill_tests_notice(scratch, calm, mutation, work, every):
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch, scratch)
        with pytest.raises(AssertionError, match=r"^ended (before|torn|after) operation \d+"):
            every_point(WORKS[work], scratch, calm, every=every)


# --- a real process, and a real SIGKILL


def started(cache: Path, *, rows: int, seed: int, pause: float) -> subprocess.Popen[str]:
    """A process that is about to import; `go` lets it work."""
    command = [sys.executable, str(SCRIPT), str(cache), str(rows), str(seed), str(pause)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*processes: subprocess.Popen[str]) -> None:
    """Wait until all have imported what they need, and let them all work."""
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_sigkill_at_random_times_and_a_rerun_ends_in_the_same_bytes(scratch, times):
    rows, rng = 24, random.Random(times)
    calm = undisturbed(scratch / "calm", rows)
    whole = started(scratch / "whole", rows=rows, seed=0, pause=1e-3)
    go(whole)
    begun = time.perf_counter()
    words = whole.communicate(timeout=60)[0].split()
    took = time.perf_counter() - begun
    assert words[-2:] == [calm.digest, "False"], "the fake encoder needs no torch"
    killed = 0
    for number in range(times):
        cache = scratch / str(number)
        process = started(cache, rows=rows, seed=number, pause=1e-3)
        go(process)
        time.sleep(rng.uniform(0, 0.9 * took))
        process.send_signal(signal.SIGKILL)
        said = process.communicate(timeout=60)[0].split("\n")
        killed += process.returncode == -signal.SIGKILL
        check(cache, calm, reported=[line for line in said if line.startswith(("part", "bank", "reference"))])
        check_rerun(cache, calm, rows)
        shutil.rmtree(cache)
    assert killed >= 0.6 * times


def test_a_run_killed_again_and_again_gets_there(scratch):
    """Each attempt dies at a later operation than the one before, on what that one left; the last completes."""
    calm = undisturbed(scratch / "calm")
    cache = scratch / "killed"
    cache.mkdir()
    deaths = 0
    for at in range(1, 300, 37):
        with Layer(end_at(at, TORN)):
            try:
                fake_extract.extract(cache)
            except Killed:
                deaths += 1
        check(cache, calm)
    assert deaths > 4
    check_rerun(cache, calm)
    assert read_ref(cache, model=fake_extract.MODEL, data=fake_extract.DATA) == calm.ref
