"""A full, failing or forbidden disk at any operation: one clear error, the old state, and success when it is fixed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_extract
import pytest
from bank_states import KEY, Calm, check, check_rerun, read, sweep, undisturbed
from fault_layer import Layer, end_at

from w2s_fast.core.errors import CacheError, W2SError
from w2s_fast.store import files, layout, repair_bank

pytestmark = [pytest.mark.usefixtures("small_parts"), pytest.mark.timeout(1800)]

AGAIN = r"run the same command again|repair again|run gc again"


@pytest.fixture
def calm(scratch: Path) -> Calm:
    return undisturbed(scratch / "calm")


def flipped(cache: Path) -> None:
    fake_extract.extract(cache)
    chunk = next(cache.rglob("parts/000001.*/features/c/0/0"))
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])


def littered(cache: Path) -> None:
    fake_extract.extract(cache)
    part = next(cache.rglob("parts/000001.*"))
    shutil.copytree(part, part.with_name(part.name[:7] + "00" * 8))


WORKS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], str]] = {
    "extract": (lambda cache: cache.mkdir(), fake_extract.extract, "run the same command again"),
    "repair": (flipped, lambda cache: repair_bank(KEY, cache=cache), "repair again"),
    "gc": (littered, sweep, "run gc again"),
}


def every_failure(work: str, scratch: Path, calm: Calm, *, code: int, lasting: bool, every: int) -> int:
    """Fail the work at each `every`-th operation (and, `lasting`, at all later ones); how often that was told."""
    before, act, again = WORKS[work]
    before(scratch / "before")
    shutil.copytree(scratch / "before", scratch / "calm work")
    with Layer() as layer:
        act(scratch / "calm work")
    told = 0
    for at, name in enumerate(layer.asked):
        if at % every and name not in ("rename", "link"):
            continue
        cache = Path(shutil.copytree(scratch / "before", scratch / "failing"))
        where = f"{errno.errorcode[code]} at operation {at} ({name})"
        try:
            with Layer(end_at(at, code, lasting=lasting)):
                try:
                    act(cache)
                except CacheError as error:
                    told += 1
                    assert str(scratch) in str(error), f"the message names no folder: {error}"
                    assert os.strerror(code) in str(error) and again in str(error), f"no command that fixes it: {error}"
            state = check(cache, calm, detected=work == "repair")
            assert state == "whole" or work != "gc"
            act(cache)
            if work == "repair":
                repair_bank(KEY, cache=cache)
            check_rerun(cache, calm)
        except (AssertionError, OSError, W2SError) as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        shutil.rmtree(cache)
    return told


SAMPLED = pytest.param(17, id="sampled")
EVERY = pytest.param(1, id="every", marks=pytest.mark.slow)


@pytest.mark.parametrize("every", [SAMPLED, EVERY])
@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_no_space_or_io_error_at_any_operation_is_one_clear_error_and_it_resumes(scratch, calm, code, lasting, every):
    assert every_failure("extract", scratch, calm, code=code, lasting=lasting, every=every) > 200 // every


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_any_other_refusal_at_any_operation_is_one_clear_error_and_it_resumes(scratch, calm, code):
    assert every_failure("extract", scratch, calm, code=code, lasting=code != errno.ENOSPC, every=1) > 150


@pytest.mark.parametrize(("work", "code"), [("repair", errno.EIO), ("repair", errno.EROFS), ("gc", errno.EACCES)])
def test_a_repair_or_gc_that_is_refused_says_so_and_resumes(scratch, calm, work, code):
    assert every_failure(work, scratch, calm, code=code, lasting=False, every=2) >= 5


def test_a_clean_error_leaves_nothing_lying_about(scratch, calm):
    """Until something was renamed, a full disk keeps no file of ours: it is full enough."""
    with Layer() as layer:
        (scratch / "whole").mkdir()
        fake_extract.extract(scratch / "whole")
    first = layer.asked.index("rename")
    writes = [at for at, name in enumerate(layer.asked[:first]) if name == "write"]
    assert len(writes) > 10
    for at in writes:
        cache = scratch / str(at)
        cache.mkdir()
        with Layer(end_at(at, errno.ENOSPC, lasting=True)), pytest.raises(CacheError):
            fake_extract.extract(cache)
        assert not [p for p in cache.rglob("*") if p.is_file() and p.name != "key.json"], at
    assert check(scratch / "whole", calm) == "whole"


LIMITED = """
import resource, sys
sys.path.insert(0, {here!r})
import fake_extract
from pathlib import Path
from w2s_fast.core.errors import CacheError
fake_extract.layout.PART_ROWS = fake_extract.PART_ROWS
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    fake_extract.extract(Path({cache!r}))
except CacheError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100, 600, 1000])
def test_a_limit_on_file_sizes_is_told_by_the_system_itself(scratch, calm, limit):
    """EFBIG from the system, after a short write: key.json (limit 0), chunks, metadata, or a commit does not fit."""
    (scratch / "limited").mkdir()
    code = LIMITED.format(here=str(Path(__file__).parent), limit=limit, cache=str(scratch / "limited"))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "File too large" in told and str(scratch / "limited") in told and "run the same command again" in told
    assert check(scratch / "limited", calm) == "none"
    check_rerun(scratch / "limited", calm)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A file system in memory of its own; skips where mounting is not permitted."""
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "w2s_fast_test", folder], capture_output=True)
    if made.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield lambda other: subprocess.run(["mount", "-o", f"remount,{other}", folder], check=True) and None
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("small", "large", "why"),
    [
        ("size=64k", "size=4m", "No space left on device"),
        ("nr_inodes=24", "nr_inodes=1000", "No space left on device"),
        ("size=4m,ro", "size=4m,rw", "Read-only file system"),
    ],
)
def test_a_real_file_system_that_is_full_or_read_only(scratch, calm, small, large, why):
    with mounted(scratch / "disk", small) as remount:
        with pytest.raises(CacheError, match=rf"{scratch}/disk.*{why}.*run the same command again"):
            fake_extract.extract(scratch / "disk")
        assert check(scratch / "disk", calm) == "none"
        remount(large)
        check_rerun(scratch / "disk", calm)


def test_a_complete_bank_on_a_real_read_only_file_system_is_read_and_found_complete(scratch, calm):
    with mounted(scratch / "disk", "size=4m") as remount:
        fake_extract.extract(scratch / "disk")
        remount("ro")
        assert read(scratch / "disk") == calm.arrays
        fake_extract.extract(scratch / "disk")  # all is there, and no reference can be written
        assert check(scratch / "disk", calm, reported=("part 0", "part 1", "bank", "reference")) == "whole"


@contextmanager
def powerless() -> Iterator[None]:
    """As nobody, if we are root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root may not become another user here")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [".", "v1", "v1/??/*", "v1/??/*/parts", "v1/??/*/commits"])
def test_a_folder_without_write_permission_is_named_and_it_resumes(scratch, calm, name):
    cache = scratch / "cache"
    with Layer(end_at(160, errno.EIO)), pytest.raises(CacheError):
        cache.mkdir()
        fake_extract.extract(cache)
    assert len(list(cache.glob("v1/??/*/commits/*.json"))) == 1
    nobody = cache if os.geteuid() == 0 else None
    if nobody:
        scratch.chmod(0o755)
        for path in (cache, *cache.rglob("*")):
            os.chown(path, 65534, 65534)
    if name in (".", "v1"):
        shutil.rmtree(cache / "v1") if name == "." else shutil.rmtree(next(cache.glob("v1/??")))
    folder = cache if name == "." else next(cache.glob(name))
    folder.chmod(0o500)
    with powerless(), pytest.raises(CacheError, match=rf"{cache}.*Permission denied.*run the same command again"):
        fake_extract.extract(cache)
    folder.chmod(0o700)
    with powerless():
        fake_extract.extract(cache)
    check_rerun(cache, calm)


# --- what these tests must notice


def an_error_that_is_swallowed(patch: pytest.MonkeyPatch) -> None:
    real = files.put_tree

    def careless(folder: Path, contents: dict[str, tuple[object, ...]], *, meanwhile: Callable[[], None]) -> None:
        try:
            real(folder, contents)
        except OSError:
            for name, buffers in contents.items():  # what cannot be written is taken for written
                if not (folder / name).exists():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(b"".join(bytes(memoryview(b)) for b in buffers)[:-1])  # type: ignore[arg-type]
        meanwhile()

    patch.setattr(files, "put_tree", careless)


def a_short_write_that_is_taken_for_whole(patch: pytest.MonkeyPatch) -> None:
    real = files._write_all

    def once(fd: int, buffers: tuple[object, ...]) -> None:
        try:
            real(fd, buffers)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    patch.setattr(files, "_write_all", once)


def an_error_without_words(patch: pytest.MonkeyPatch) -> None:
    from w2s_fast.store import write

    @contextmanager
    def bare(bank: Path) -> Iterator[None]:
        yield

    patch.setattr(write, "_writing", bare)


@pytest.mark.parametrize(
    "mutation", [an_error_that_is_swallowed, a_short_write_that_is_taken_for_whole, an_error_without_words]
)
def test_the_disk_tests_notice(scratch, calm, monkeypatch, mutation):
    mutation(monkeypatch)
    assert layout.PART_ROWS == 7
    with pytest.raises(AssertionError, match=r"^ENOSPC at operation \d+"):
        every_failure("extract", scratch, calm, code=errno.ENOSPC, lasting=False, every=3)
