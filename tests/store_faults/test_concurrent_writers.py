"""Eight processes on one key, one of them killed, while others read: the bytes of a single writer, and no half part."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_extract
import pytest
from bank_states import check, check_rerun, contents, sweep, undisturbed
from fault_layer import Layer
from test_kill_points import go, started

from w2s_fast.store import files, layout, publish
from w2s_fast.store import write as store_write

pytestmark = [pytest.mark.usefixtures("small_parts"), pytest.mark.timeout(1800)]

ROWS = 24
"""Four parts."""


def kill_after(writer: subprocess.Popen[str], reports: int, seconds: float) -> None:
    """End a process a moment after it reported so many parts."""
    assert writer.stdout is not None
    for _ in range(reports):
        writer.stdout.readline()
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_eight_writers_one_killed_end_in_the_bytes_of_one_and_readers_see_whole_parts_only(scratch, rounds):
    calm = undisturbed(scratch / "calm", ROWS)
    for number in range(rounds):
        rng = random.Random(number)
        cache = scratch / str(number)
        doomed, *others = [started(cache, rows=ROWS, seed=8 * number + i, pause=3e-3) for i in range(8)]
        go(doomed, *others)
        killer = threading.Thread(target=kill_after, args=(doomed, rng.randrange(3), rng.uniform(0, 0.05)))
        killer.start()
        states = []
        try:
            while any(writer.poll() is None for writer in others):
                states.append(check(cache, calm))
                time.sleep(5e-3)
        finally:
            killer.join()
            for writer in others:
                writer.kill() if writer.poll() is None else None
            doomed.communicate(timeout=60)
            said = [writer.communicate(timeout=60)[0].split("\n") for writer in others]
        assert doomed.returncode == -signal.SIGKILL
        for writer, lines in zip(others, said, strict=True):
            assert writer.returncode == 0 and lines[-2].split()[:2] == ["digest", calm.digest]
        assert states == sorted(states) and states[0] == "none", "absent, then whole; never absent again"
        assert check(cache, calm, reported=("bank", "reference")) == "whole"
        sweep(cache)
        assert contents(cache) == calm.contents, "after gc not one file more than a single writer makes"
        shutil.rmtree(cache)


def test_a_reader_between_any_two_operations_of_two_writers_sees_whole_parts_only(scratch):
    """The second writer does its whole part within each operation of the first, and a reader looks after each."""
    calm = undisturbed(scratch / "calm", 7)
    with Layer() as layer:
        (scratch / "counted").mkdir()
        fake_extract.extract(scratch / "counted", 7)
    overtaken = 0
    for at in range(3, len(layer.asked), 13):
        cache = scratch / str(at)

        def other(number: int, name: str, at: int = at, cache: Path = cache) -> None:
            if number == at:
                operations = {one: getattr(files, one) for one in inner._real}
                for one, real in inner._real.items():
                    setattr(files, one, real)
                try:
                    assert fake_extract.extract(cache, 7) == calm.digest
                finally:
                    for one, layered in operations.items():
                        setattr(files, one, layered)
            if number % 9 == 0:
                check(cache, calm)

        cache.mkdir()
        with Layer(other) as inner:
            assert fake_extract.extract(cache, 7) == calm.digest
        overtaken += "rmdir" in inner.asked
        check_rerun(cache, calm, 7)
    assert overtaken > 3, "the first writer found its part made, and removed its own folder"


def test_two_writers_without_hard_links_leave_a_whole_bank(scratch, monkeypatch):
    """A commit that another writer is still filling reads as torn, and is replaced: both then say the same."""
    calm = undisturbed(scratch / "calm", 7)
    real = files._write_exclusive

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def interrupted(path: Path, buffers: tuple[bytes, ...]) -> bool:
        """The other writer finds our commit when it holds half of its bytes."""
        if path.parent.name != "commits" or path.name.startswith(layout.TMP):
            return real(path, buffers)
        monkeypatch.setattr(files, "_write_exclusive", real)
        path.write_bytes(buffers[0][: len(buffers[0]) // 2])
        fd = path.open("r+b", buffering=0)
        assert fake_extract.extract(scratch / "both", 7) == calm.digest
        fd.seek(0)
        fd.write(buffers[0])
        fd.close()
        return True

    monkeypatch.setattr(files, "link", refuse)
    monkeypatch.setattr(files, "_write_exclusive", interrupted)
    assert fake_extract.extract(scratch / "both", 7) == calm.digest
    assert files._write_exclusive is real, "the other writer was there"
    assert check(scratch / "both", calm) == "whole"
    check_rerun(scratch / "both", calm, 7)


def test_negative_control_writers_of_one_sharded_array_lose_rows(scratch):
    """What the store is there to prevent, with zarr itself: of eight writers the rows of one remain."""
    script = Path(__file__).with_name("naive_writers.py")
    found = subprocess.run(
        [sys.executable, str(script), str(scratch / "shared"), "8"], capture_output=True, text=True, timeout=120
    )
    assert found.stdout == "lost 28 of 32\n", found.stderr


# --- what these tests must notice


def one_folder_for_all(patch: pytest.MonkeyPatch) -> None:
    """Every writer of a part uses the same folder, and removes what is there."""
    real = files.rename

    def over(source: Path, target: Path) -> None:
        if target.exists() and target.is_dir():
            files.remove_tree(target)
        real(source, target)

    patch.setattr(files, "rename", over)
    patch.setattr(publish.files, "nonce", lambda: "ab" * 8)


def the_last_commit_counts_and_the_loser_is_removed(patch: pytest.MonkeyPatch) -> None:
    """An overtaken writer replaces the commit, and removes the part that the other had committed."""

    def replacing(path: Path, data: bytes) -> bool:
        if path.parent.name == "commits" and path.exists():
            for folder in (path.parent.parent / "parts").glob(f"{path.stem}.*"):
                if folder.name.encode() not in data:
                    files.remove_tree(folder)
        files.put(path, data)
        return True

    patch.setattr(files, "put_new", replacing)


@pytest.mark.parametrize("mutation", [one_folder_for_all, the_last_commit_counts_and_the_loser_is_removed])
def test_the_two_writers_test_notices(scratch, mutation):
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        with pytest.raises((AssertionError, OSError, store_write.CacheError)):
            test_a_reader_between_any_two_operations_of_two_writers_sees_whole_parts_only(scratch)
