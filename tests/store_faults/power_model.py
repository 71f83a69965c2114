"""What may be on a disk after the power went out: a model that is harsher than the file systems in use.

The operations of an undisturbed writer are recorded (`fault_layer.Layer`) and replayed up to a cut. Its rules:

* What was there before the recording is durable.
* The bytes of a write are durable once a later `fsync` of a descriptor of that file returned, and not by `close`, by a
  rename or by an `fsync` of a folder. Until then they are, of each file for itself, there; absent (the file is
  as long as its durable bytes); cut in half; zeros of the right length; or reordered: the first half zeros, the
  second half there.
* A change of names (create, mkdir, link, unlink, rmdir, rename) is durable once a later `fsync` of a descriptor of the
  folder in which it happened returned, and not by an `fsync` of the file. Until then each change is there or lost,
  each for itself, whatever the order in which they were made. A folder or file whose name is lost is lost with all
  that is in it.
* A rename is one change: both names are as before it or both as after it. It is durable when every folder that it
  changed was synced.
* A name that several surviving changes concern is what the last of them made of it.

For every cut the following are tried: each of the five fates of bytes with all names there; no unsynced name there; for
every unsynced change, that one lost alone, and it alone there; every prefix of the changes, with absent bytes (a
journal); and random choices of all of this. Equal outcomes are looked at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fault_layer import Operation

FATES = ("there", "absent", "cut", "zeros", "reordered")
Tree = dict[str, bytes | None]
"""Names relative to the root -> bytes of a file, None for a folder."""


@dataclass(kw_only=True)
class Change:
    """Names that change together: (folder, name, what is there now); and the folders that were not synced since."""

    names: tuple[tuple[int, str, int | None], ...]
    unsynced: set[int]


@dataclass(kw_only=True)
class Disk:
    """Files and folders by number, 0 being the root; what of them is durable, and what is not yet."""

    root: Path
    durable: dict[int, bytes] = field(default_factory=dict)
    pending: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    """As the running system sees them."""
    changes: list[Change] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def new(self, *, folder: bool) -> int:
        self.count += 1
        if folder:
            self.folders[self.count] = {}
        else:
            self.durable[self.count] = self.pending[self.count] = b""
        return self.count

    def find(self, path: Path) -> tuple[int, str]:
        """The folder that a name is in, and the name there."""
        *above, name = path.relative_to(self.root).parts
        here = 0
        for one in above:
            here = self.folders[here][one]
        return here, name

    def at(self, path: Path) -> int:
        if path == self.root:
            return 0
        here, name = self.find(path)
        return self.folders[here][name]

    def change(self, *names: tuple[int, str, int | None]) -> None:
        self.changes.append(Change(names=names, unsynced={folder for folder, _, _ in names}))
        self._apply(self.folders, names)

    @staticmethod
    def _apply(folders: dict[int, dict[str, int]], names: tuple[tuple[int, str, int | None], ...]) -> None:
        for folder, name, what in names:
            folders[folder].pop(name, None)
            if what is not None:
                folders[folder][name] = what

    def do(self, op: Operation) -> None:
        if op.name == "open_file":
            if not op.path.is_relative_to(self.root):
                return  # the folder that the cache itself is in: its name is taken for durable once it was synced
            if op.creates and self.find(op.path)[1] not in self.folders[self.find(op.path)[0]]:
                self.change((*self.find(op.path), self.new(folder=False)))
            self.opened[op.handle] = self.at(op.path)
        elif op.name == "write":
            self.pending[self.opened[op.handle]] += op.data
        elif op.name == "fsync" and op.handle in self.opened:
            what = self.opened[op.handle]
            if what in self.folders:
                for change in self.changes:
                    change.unsynced.discard(what)
            else:
                self.durable[what] += self.pending[what]
                self.pending[what] = b""
        elif op.name == "mkdir":
            self.change((*self.find(op.path), self.new(folder=True)))
        elif op.name in ("unlink", "rmdir"):
            self.change((*self.find(op.path), None))
        elif op.name == "link" and op.target is not None:
            self.change((*self.find(op.target), self.at(op.path)))
        elif op.name == "rename" and op.target is not None:
            self.change((*self.find(op.path), None), (*self.find(op.target), self.at(op.path)))

    def after(self, lost: Collection[int], fate: Callable[[int], str]) -> Tree:
        """What is found when the changes with these numbers are lost and unsynced bytes fare so."""
        folders: dict[int, dict[str, int]] = {one: {} for one in self.folders}
        for number, change in enumerate(self.changes):
            if number not in lost:
                self._apply(folders, change.names)
        tree: Tree = {}

        def walk(folder: int, prefix: str) -> None:
            for name, what in folders[folder].items():
                tree[prefix + name] = None if what in folders else self._bytes(what, fate(what))
                if what in folders:
                    walk(what, f"{prefix}{name}/")

        walk(0, "")
        return tree

    def _bytes(self, what: int, fate: str) -> bytes:
        late = self.pending[what]
        half = len(late) // 2
        return (
            self.durable[what]
            + {
                "there": late,
                "absent": b"",
                "cut": late[:half],
                "zeros": bytes(len(late)),
                "reordered": bytes(half) + late[half:],
            }[fate]
        )


def disk_of(root: Path, tree: Tree | None = None) -> Disk:
    """A disk on which these files are durable."""
    disk = Disk(root=root)
    for name, data in sorted((tree or {}).items()):
        what = disk.new(folder=data is None)
        disk.change((*disk.find(root / name), what))
        if data is not None:
            disk.durable[what] = data
    for change in disk.changes:
        change.unsynced.clear()
    return disk


def outcomes(disk: Disk, *, chances: int, seed: int = 0) -> Iterator[Tree]:
    """What may be found after the power went out now, by the rules of the module."""
    open_changes = [number for number, change in enumerate(disk.changes) if change.unsynced]
    for fate in FATES:
        yield disk.after((), lambda what, fate=fate: fate)
    yield disk.after(open_changes, lambda what: "there")
    for i, one in enumerate(open_changes):
        yield disk.after((one,), lambda what: "there")
        yield disk.after([other for other in open_changes if other != one], lambda what: "there")
        yield disk.after(open_changes[i:], lambda what: "absent")
    for chance in range(chances):
        rng = random.Random(f"{seed} {len(disk.changes)} {chance}")
        lost = [number for number in open_changes if rng.random() < 0.5]
        fates = {what: rng.choice(FATES) for what in disk.pending}
        yield disk.after(lost, fates.__getitem__)


def cuts(
    root: Path, operations: Sequence[Operation], *, before: Tree | None = None, chances: int = 4
) -> Iterator[tuple[int, tuple[str, ...], Tree]]:
    """Every different outcome at every cut: (operations that were done, what was reported by then, files)."""
    disk = disk_of(root, before)
    seen: set[int] = set()
    reported: tuple[str, ...] = ()
    for done in range(len(operations) + 1):
        for tree in outcomes(disk, chances=chances, seed=done):
            mark = hash((reported, frozenset(tree.items())))
            if mark not in seen:
                seen.add(mark)
                yield done, reported, tree
        if done < len(operations):
            op = operations[done]
            if op.name == "report":
                reported = (*reported, str(op.path))
            else:
                disk.do(op)


def place(tree: Tree, root: Path) -> None:
    """Write these files below a new folder."""
    root.mkdir()
    for name, data in sorted(tree.items()):
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)


def files_below(root: Path) -> Tree:
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}
