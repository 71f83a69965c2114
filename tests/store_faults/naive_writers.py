"""The naive way: processes that write rows of one sharded zarr array, each its own. Run by path; prints the rows lost.

`naive_writers.py FOLDER WRITERS` - all read the shard before any writes it, which is what happens by chance whenever
two writers are at it at the same time.
"""

import os
import sys

import numpy as np
import zarr
from zarr.storage import LocalStore

ROWS = 4


def write(folder: str, number: int, ready: int, go: int) -> None:
    real = LocalStore.set

    async def together(self: LocalStore, key: str, value: object, *rest: object) -> None:
        if "/c/" in f"/{key}":
            os.write(ready, b"r")
            os.read(go, 1)
        await real(self, key, value, *rest)  # type: ignore[arg-type]

    LocalStore.set = together  # type: ignore[method-assign, assignment]
    array = zarr.open_array(folder, mode="r+")
    array[number * ROWS : (number + 1) * ROWS] = number + 1


def main(folder: str, count: int) -> None:
    ready_out, ready = os.pipe()
    go, go_in = os.pipe()
    start, start_in = os.pipe()  # of its own: a quick writer would take the byte that starts a slow one
    children: list[int] = []
    for number in range(count):  # before this process uses zarr, whose threads a fork does not take along
        child = os.fork()
        if child == 0:
            os.read(start, 1)
            write(folder, number, ready, go)
            os._exit(0)
        children.append(child)
    zarr.create_array(folder, shape=(count * ROWS, 2), chunks=(ROWS, 2), shards=(count * ROWS, 2), dtype="f4")
    os.write(start_in, b"s" * count)
    for _ in children:
        os.read(ready_out, 1)
    os.write(go_in, b"g" * count)
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
    values = np.asarray(zarr.open_array(folder, mode="r")[...])
    expected = np.repeat(np.arange(1, count + 1), ROWS)[:, None]
    print("lost", int((values != expected).any(axis=1).sum()), "of", len(values))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
