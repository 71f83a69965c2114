"""How fast a bank is read and written, beside memcpy, .npy, safetensors and zarr's own indexing.

    python benchmarks/cache.py [--quick] [--json FILE]

What is compared runs in turn, one of each per repetition, in one process, on the file system of --folder: figures are
medians, ratios medians of the ratios within a repetition, so that a machine that is busy for a while does not decide.
`warm`: the files are in the page cache. `cold`: the kernel was asked to drop them (posix_fadvise), which not every file
system obeys. memcpy and `into a buffer` fill memory that they had before, the others take new memory. Reads of the
bank are verified (crc32c), the others are not. Writes end in fsync, in a folder that is new each time; those of the
bank check the numbers, hash, and read back. `one part` is what a part of 8192 rows cannot do without, each alone, and
what follows for the ratio: from the processor's work on one core and on all, and from the syncs that must wait for one
another (the part's files; the name of its folder; its commit record; the name of that).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
import zarr
from safetensors.numpy import load_file, save_file

from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, files, layout, missing_parts, open_key, write_part
from w2s_fast.store.checks import check_numbers, checked_arrays, checked_ids
from w2s_fast.store.memory import cores, empty
from w2s_fast.store.part import chunk_name, crc32c, read_chunk
from w2s_fast.store.publish import compare

TAKEN = 2048
NPY, NPYS, ONE, TWO = ".npy + fsync", "a .npy + fsync per part", "bank", "bank, two parts at a time"
BUFFER, TENSOR, LOAD = ".npy into a buffer", "bank, verified, into a tensor", "np.load"
PLACE = "bank, verified, into a buffer"
MAPPED, CHECKED = ".npy, mapped", "bank, chunks checked before"

Tables = dict[str, dict[str, float]]


Work = Callable[[], object]


def in_turn(
    work: dict[str, Work], *, repeats: int, before: Work | None = None, spent: dict[str, list[float]] | None = None
) -> dict[str, list[float]]:
    """Seconds of each work in each repetition; `spent` is filled with those of the processor, all threads together."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, one in work.items():
            if before is not None:
                before()
            start, cpu = time.perf_counter(), time.process_time()
            one()
            seconds[name].append(time.perf_counter() - start)
            if spent is not None:
                spent.setdefault(name, []).append(time.process_time() - cpu)
    return seconds


def ratio(seconds: dict[str, list[float]], plain: str, bank: str) -> float:
    """How fast the bank is, in units of the plain file's speed: the median over repetitions."""
    return median(a / b for a, b in zip(seconds[plain], seconds[bank], strict=True))


def drop(folder: Path) -> None:
    """Ask the kernel to forget the contents of all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def write_bank(cache: Path, features: np.ndarray, ids: list[str], norms: np.ndarray, *, writers: int = 1) -> None:
    """A bank of these features, begun, written and completed; so many parts at a time."""
    bank = begin_bank(cache, {"benchmark": "cache", "rows": len(ids)})
    ok = np.ones(len(ids), bool)

    def write(part: int) -> None:
        s = slice(*layout.row_range(part, len(ids)))
        write_part(bank, part, ids=ids[s], features=features[s], norms=norms[s], ok=ok[s])

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, missing_parts(bank, len(ids))))
    complete_bank(bank, rows=len(ids), rows_digest=digest_ids(ids))


def write_npy(path: Path, features: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())


def write_parts(folder: Path, features: np.ndarray) -> None:
    """The same bytes as one .npy for each part, each of them durable before the next."""
    for start in range(0, len(features), layout.PART_ROWS):
        write_npy(folder / f"{start}.npy", features[start : start + layout.PART_ROWS])


def written(folder: Path, features: np.ndarray, ids: list[str], norms: np.ndarray, repeats: int) -> Tables:
    """Tables of GB/s and processor time of writing, ratios of the one, and what a part cannot do without."""
    here = folder / "write"

    def anew() -> None:
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        os.sync()

    spent: dict[str, list[float]] = {}
    work: dict[str, Work] = {
        NPY: lambda: write_npy(here / "features.npy", features),
        NPYS: lambda: write_parts(here, features),
        ONE: lambda: write_bank(here, features, ids, norms),
        TWO: lambda: write_bank(here, features, ids, norms, writers=2),
    }
    seconds = in_turn(work, repeats=repeats, before=anew, spent=spent)
    anew()
    parts, size = layout.count_parts(len(ids)), features.nbytes / 1e9
    return {
        "write, GB/s": {name: size / median(s) for name, s in seconds.items()},
        "write, processor ms per part": {name: 1e3 * median(s) / parts for name, s in spent.items()},
        "write, ratios": {
            "bank / .npy (at least 0.6)": ratio(seconds, NPY, ONE),
            "bank, two at a time / .npy": ratio(seconds, NPY, TWO),
            "bank / a .npy per part": ratio(seconds, NPYS, ONE),
            "bank, two at a time / a .npy per part": ratio(seconds, NPYS, TWO),
        },
        "one part, ms": floors(
            here,
            features[: layout.PART_ROWS],
            ids[: layout.PART_ROWS],
            norms,
            repeats=repeats,
            npy=1e3 * median(seconds[NPY]) / len(ids) * min(layout.PART_ROWS, len(ids)),
        ),
    }


def floors(
    folder: Path, part: np.ndarray, ids: list[str], norms: np.ndarray, *, repeats: int, npy: float
) -> dict[str, float]:
    """Milliseconds of what writing one part consists of, each alone, and the ratios that follow; npy: ms a part."""
    ok, path, raw, small = np.ones(len(part), bool), folder / "raw", part.reshape(-1).view(np.uint8), folder / "small"
    syncs: list[int] = []
    real = files.fsync
    files.fsync = lambda fd: (syncs.append(fd), real(fd))[1]
    try:
        write_bank(folder / "one", part, ids, norms[: len(part)])
    finally:
        files.fsync = real
    fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def write() -> None:
        os.ftruncate(fd, 0)  # a part is written into a file that has no pages yet
        os.lseek(fd, 0, os.SEEK_SET)
        view = memoryview(raw.data)
        while view:
            view = view[os.write(fd, view) :]

    def sync_small() -> None:
        small.unlink(missing_ok=True)
        with small.open("wb") as file:
            file.write(bytes(700))
            file.flush()
            os.fsync(file.fileno())

    write()
    into = np.zeros_like(part)
    arrays = checked_arrays(ids, 0, features=part, logits=None, norms=norms[: len(part)], ok=ok, stored="f16")
    processor: dict[str, Work] = {
        "ids": lambda: (
            checked_ids(ids),
            checked_arrays(ids, 0, features=part, logits=None, norms=norms[: len(part)], ok=ok, stored="f16"),
            digest_ids(ids),
        ),
        "finiteness and norms": lambda: check_numbers(arrays, ids, 0),
        "crc32c": lambda: crc32c(raw),
        "sha256": lambda: hashlib.sha256(raw.data).digest(),
        "write, no fsync": write,
        "read back and compare": lambda: compare(path, (raw,)),
    }
    work: dict[str, Work] = {
        "memcpy": lambda: np.copyto(into, part),
        **processor,
        # after `write`, so that there is something to sync
        "fsync of what was written": lambda: (write(), os.fsync(fd)),
        "a small file, written and synced": sync_small,
    }
    found = {name: 1e3 * median(s) for name, s in in_turn(work, repeats=3 * repeats).items()}
    os.close(fd)
    found["fsync of what was written"] -= found["write, no fsync"]
    busy = sum(found[name] for name in processor)
    waits = found["fsync of what was written"] + 3 * found["a small file, written and synced"]
    return {
        **found,
        "all of the processor's work": busy,
        "syncs that wait for one another": waits,
        ".npy + fsync, a part's share": npy,
        "at best, on one core (ratio)": npy / max(busy, waits),
        f"at best, on {cores()} cores (ratio)": npy / max(busy / cores(), waits),
        "at best, on any, without the waits (ratio)": npy / (busy / cores()),
        "fsyncs, a bank of one part (number)": float(len(syncs)),
    }


def read_npy(path: Path, out: np.ndarray) -> None:
    """Straight into `out`, without numpy's own buffer."""
    with path.open("rb", buffering=0) as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        view = out.reshape(-1).view(np.uint8).data
        while view:
            view = view[file.readinto(view) :]


def measure(folder: Path, *, rows: int, dim: int, repeats: int) -> Tables:
    """table -> name -> value: GB/s for `read` and `write`, ms for `rows`, and their ratios."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, dim), np.float32).astype(np.float16)
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    ids = [row_id(i.to_bytes(8, "little")) for i in range(rows)]
    npy, tensors = folder / "features.npy", folder / "features.safetensors"
    size = features.nbytes / 1e9
    found = written(folder, features, ids, norms, repeats)

    write_npy(npy, features)
    save_file({"features": features}, tensors)
    write_bank(folder / "cache", features, ids, norms)
    bank = open_key(next((folder / "cache").glob("v1/??/*")).name, cache=folder / "cache")
    arrays = [zarr.open_array(str(bank.folder / "parts" / p.commit.directory / "features")) for p in bank.parts]
    out = np.zeros_like(features)

    def by_zarr() -> None:
        for part, array in zip(bank.parts, arrays, strict=True):
            out[part.commit.start : part.commit.stop] = array[...]

    place = empty(features.shape, features.dtype)
    place[...] = 0

    def into_place() -> None:
        for p in bank.parts:
            entry = p.commit.files[chunk_name("features")]
            part = bank.folder / "parts" / p.commit.directory
            read_chunk(part, p.arrays["features"], entry, place[p.commit.start : p.commit.stop])

    reads: dict[str, Work] = {
        "memcpy": lambda: np.copyto(out, features),
        BUFFER: lambda: read_npy(npy, out),
        PLACE: into_place,
        TENSOR: lambda: bank.features(dtype=torch.float16),
        "bank, verified, as float32": lambda: bank.features(),
        LOAD: lambda: np.load(npy),
        "safetensors": lambda: load_file(tensors),
        "zarr indexing": by_zarr,
    }
    stored = bank.array("features")
    assert stored is not None and np.array_equal(stored, features)
    warm = in_turn(reads, repeats=2 * repeats)
    cold = in_turn({n: w for n, w in reads.items() if n != "memcpy"}, repeats=2, before=lambda: drop(folder))
    found["warm read, GB/s"] = {name: size / median(s) for name, s in warm.items()}
    found["cold read, GB/s"] = {name: size / median(s) for name, s in cold.items()}
    found["warm read, ratios"] = {
        "bank / .npy, memory had before (at least 0.45)": ratio(warm, BUFFER, PLACE),
        "bank / .npy, new memory for both": ratio(warm, LOAD, TENSOR),
        "bank, new memory / .npy, memory had before": ratio(warm, BUFFER, TENSOR),
    }

    wanted = rng.choice(rows, min(TAKEN, rows), replace=False)
    mapped = np.load(npy, mmap_mode="r")
    assert np.array_equal(bank.take("features", wanted), features[wanted])
    bounds = [(p.commit.start, p.commit.stop) for p in bank.parts]

    def rows_by_zarr() -> None:
        for (a, b), array in zip(bounds, arrays, strict=True):
            array.oindex[np.sort(wanted[(wanted >= a) & (wanted < b)]) - a]

    taken: dict[str, Work] = {
        MAPPED: lambda: mapped[wanted],
        CHECKED: lambda: bank.take("features", wanted),
        "bank, first time": lambda: open_key(bank.key, cache=folder / "cache").take("features", wanted),
        "zarr indexing": rows_by_zarr,
    }
    seconds = in_turn(taken, repeats=2 * repeats)
    found[f"{len(wanted)} random rows, ms"] = {name: 1e3 * median(s) for name, s in seconds.items()}
    found["random rows, ratios"] = {"bank's ms / .npy's (at most 3)": 1 / ratio(seconds, MAPPED, CHECKED)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--quick", action="store_true", help="32,768 rows, few repetitions")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    a = parser.parse_args()
    rows = min(a.rows, 32_768) if a.quick else a.rows
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        tables = measure(Path(folder), rows=rows, dim=a.dim, repeats=5 if a.quick else 7)
    print(f"{rows:,} x {a.dim} float16, {rows * a.dim * 2 / 1e6:,.0f} MB")
    for title, table in tables.items():
        print(f"\n{title}")
        for name, value in table.items():
            print(f"  {name:42s} {value:10.3g}")
    if a.json:
        where = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load_at_start": load,
        }
        versions = {"numpy": np.__version__, "torch": torch.__version__, "zarr": zarr.__version__}
        a.json.write_text(json.dumps({"rows": rows, "dim": a.dim, **where, **versions, "tables": tables}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
