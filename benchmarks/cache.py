"""How fast a bank is read and written, beside memcpy, .npy, safetensors and zarr's own indexing.

    python benchmarks/cache.py [--quick] [--json FILE]

Each figure is the best of several repetitions in one process, on the file system of --folder. `warm`: the files are in
the page cache. `cold`: the kernel was asked to drop them (posix_fadvise), which not every file system obeys. memcpy and
`.npy into a buffer` fill memory that they had before, the others take new memory. Reads of the bank are verified
(crc32c), the others are not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from safetensors.numpy import load_file, save_file

from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import begin_bank, complete_bank, layout, missing_parts, open_key, write_part

TAKEN = 2048


def best(work: Callable[[], object], *, repeats: int, before: Callable[[], object] | None = None) -> float:
    """Seconds of the quickest of some runs."""
    seconds = []
    for _ in range(repeats):
        if before is not None:
            before()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def drop(folder: Path) -> None:
    """Ask the kernel to forget the contents of all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def write_bank(cache: Path, features: np.ndarray, ids: list[str], norms: np.ndarray) -> str:
    """A bank of these features, begun, written and completed; its key."""
    bank = begin_bank(cache, {"benchmark": "cache", "rows": len(ids)})
    ok = np.ones(len(ids), bool)
    for part in missing_parts(bank, len(ids)):
        s = slice(*layout.row_range(part, len(ids)))
        write_part(bank, part, ids=ids[s], features=features[s], norms=norms[s], ok=ok[s])
    complete_bank(bank, rows=len(ids), rows_digest=digest_ids(ids))
    return bank.name


def write_npy(path: Path, features: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())


def read_npy(path: Path, out: np.ndarray) -> None:
    """Straight into `out`, without numpy's own buffer."""
    with path.open("rb", buffering=0) as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        view = memoryview(out.reshape(-1).view(np.uint8))
        while view:
            view = view[file.readinto(view) :]


def measure(folder: Path, *, rows: int, dim: int, repeats: int) -> dict[str, dict[str, float]]:
    """table -> name -> value: GB/s for `read` and `write`, ms for `rows`."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, dim), np.float32).astype(np.float16)
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    ids = [row_id(i.to_bytes(8, "little")) for i in range(rows)]
    npy, tensors = folder / "features.npy", folder / "features.safetensors"
    size = features.nbytes / 1e9

    def anew() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)

    writes = {
        ".npy + fsync": best(lambda: write_npy(npy, features), repeats=repeats),
        "bank": best(lambda: write_bank(folder / "cache", features, ids, norms), repeats=repeats, before=anew),
    }
    save_file({"features": features}, tensors)
    bank = open_key(next((folder / "cache").glob("v1/??/*")).name, cache=folder / "cache")
    arrays = [zarr.open_array(str(bank.folder / "parts" / p.commit.directory / "features")) for p in bank.parts]
    out = np.zeros_like(features)

    def by_zarr() -> None:
        for part, array in zip(bank.parts, arrays, strict=True):
            out[part.commit.start : part.commit.stop] = array[...]

    reads: dict[str, Callable[[], object]] = {
        ".npy into a buffer": lambda: read_npy(npy, out),
        "bank, verified, into a tensor": lambda: bank.features(dtype=torch.float16),
        "bank, verified, as float32": lambda: bank.features(),
        "np.load": lambda: np.load(npy),
        "safetensors": lambda: load_file(tensors),
        "zarr indexing": by_zarr,
    }
    assert np.array_equal(bank.array("features"), features)
    found: dict[str, dict[str, float]] = {"warm read, GB/s": {}, "cold read, GB/s": {}}
    found["warm read, GB/s"]["memcpy"] = size / best(lambda: np.copyto(out, features), repeats=2 * repeats)
    for name, work in reads.items():
        found["warm read, GB/s"][name] = size / best(work, repeats=2 * repeats)
        found["cold read, GB/s"][name] = size / best(work, repeats=2, before=lambda: drop(folder))
    found["write, GB/s"] = {name: size / seconds for name, seconds in writes.items()}

    wanted = rng.choice(rows, min(TAKEN, rows), replace=False)
    mapped = np.load(npy, mmap_mode="r")
    assert np.array_equal(bank.take("features", wanted), features[wanted])
    bounds = [(p.commit.start, p.commit.stop) for p in bank.parts]

    def rows_by_zarr() -> None:
        for (a, b), array in zip(bounds, arrays, strict=True):
            array.oindex[np.sort(wanted[(wanted >= a) & (wanted < b)]) - a]

    taken: dict[str, Callable[[], object]] = {
        ".npy, mapped": lambda: mapped[wanted],
        "bank, chunks checked before": lambda: bank.take("features", wanted),
        "bank, first time": lambda: open_key(bank.key, cache=folder / "cache").take("features", wanted),
        "zarr indexing": rows_by_zarr,
    }
    found[f"{len(wanted)} random rows, ms"] = {n: 1e3 * best(w, repeats=repeats) for n, w in taken.items()}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--quick", action="store_true", help="32,768 rows, few repetitions")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    a = parser.parse_args()
    rows = min(a.rows, 32_768) if a.quick else a.rows
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        tables = measure(Path(folder), rows=rows, dim=a.dim, repeats=3 if a.quick else 5)
    read, write, taken = tables["warm read, GB/s"], tables["write, GB/s"], list(tables.values())[-1]
    tables["ratios"] = {
        "verified read / .npy (at least 0.45)": read["bank, verified, into a tensor"] / read[".npy into a buffer"],
        "write / .npy + fsync (at least 0.6)": write["bank"] / write[".npy + fsync"],
        "random rows, ms / .npy's (at most 3)": taken["bank, chunks checked before"] / taken[".npy, mapped"],
    }
    print(f"{rows:,} x {a.dim} float16, {rows * a.dim * 2 / 1e6:,.0f} MB")
    for title, table in tables.items():
        print(f"\n{title}")
        for name, value in table.items():
            print(f"  {name:42s} {value:10.3g}")
    if a.json:
        where = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        versions = {"numpy": np.__version__, "torch": torch.__version__, "zarr": zarr.__version__}
        a.json.write_text(json.dumps({"rows": rows, "dim": a.dim, **where, **versions, "tables": tables}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
