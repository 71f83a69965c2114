"""A bank in hand: its arrays, every chunk checked when it is read; needs neither zarr nor the model that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import Damaged
from w2s_fast.core.hashing import digest_ids
from w2s_fast.store import layout
from w2s_fast.store.memory import cores, empty
from w2s_fast.store.part import ArrayMeta, BadFile, chunk_name, read_chunk, sha256_of, spelled, verify_chunk
from w2s_fast.store.records import Commit, Failure
from w2s_fast.store.refs import extract_command, on_cache, ref_of_key
from w2s_fast.store.take import Checked, checked_chunk

if TYPE_CHECKING:
    import torch

READERS = 4
"""Most threads that read and convert the parts of one array, and never more than there are cores. Reading alone gains
nothing by a second one: checksums are taken one at a time."""
_ALONE = 4 << 20
"""Bytes that one thread reads before others would have begun."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One committed part and what its metadata say."""

    commit: Commit
    arrays: dict[str, ArrayMeta]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """A complete bank: raw features, their norms and, if the model has a classifier, raw logits, of every row.

    Metadata are checked on opening, each chunk whenever it is read; `Damaged` names file, rows and how to fix it.
    """

    key: str
    folder: Path
    ingredients: dict[str, Any]
    """What the key is made of."""
    rows: int
    dim: int
    digest: str
    """Two banks with equal digests hold the same bytes."""
    rows_digest: str
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return f"Bank(key={self.key[:12]!r}, rows={self.rows}, dim={self.dim}, folder={str(self.folder)!r})"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names among the ingredients (those of the rows, in a text bank), or None."""
        names = self.ingredients.get("classes")
        return tuple(names) if isinstance(names, list) else None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """One {id, row, reason} for every row that is not ok."""
        return tuple(f for p in self.parts for f in p.commit.failures)

    @property
    def producers(self) -> tuple[tuple[int, int, dict[str, Any]], ...]:
        """Provenance by rows: (start, stop, producer) of every part."""
        return tuple((p.commit.start, p.commit.stop, p.commit.producer) for p in self.parts)

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """Flags b[n]: False where there are no features (see `failures`). Read-only."""
        flags = self.array("ok")
        assert flags is not None
        flags.flags.writeable = False
        return flags

    @cached_property
    def packed_ids(self) -> NDArray[np.uint8]:
        """Row ids as u8[n, 16], as `core.hashing.pack_ids` packs them. Read-only."""
        packed = self.array("ids")
        assert packed is not None
        packed.flags.writeable = False
        return packed

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Row ids, n texts."""
        out: list[str] = []
        for part in self.parts:
            c = part.commit
            texts = spelled(self.packed_ids[c.start : c.stop])
            for row, text in c.named.items():
                texts[row] = text
            if digest_ids(texts) != c.ids_digest:
                raise self.damaged(c, chunk_name("ids"), "its ids do not match the committed ids digest")
            out += texts
        return tuple(out)

    def features(self, *, device: Any = "cpu", dtype: torch.dtype | None = None) -> torch.Tensor:
        """Raw features f[n, d] on a device, float32 unless another dtype is given; zeros where not ok."""
        tensor = self._tensor("features", device, dtype)
        assert tensor is not None
        return tensor

    def logits(self, *, device: Any = "cpu", dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Raw logits f[n, k], or None when the model has no classifier."""
        return self._tensor("logits", device, dtype)

    def norms(self, *, device: Any = "cpu", dtype: torch.dtype | None = None) -> torch.Tensor:
        """L2 norms f[n] of the features as they were computed, before rounding; zeros where not ok."""
        tensor = self._tensor("norms", device, dtype)
        assert tensor is not None
        return tensor

    def array(self, name: str) -> NDArray[Any] | None:
        """A whole array (`features`, `logits`, `norms`, `ids`, `ok`) as numpy, in the widest type of its parts."""
        metas = self._metas(name)
        if metas is None:
            return None
        out = empty((self.rows, *metas[0].shape[1:]), np.result_type(*{m.dtype for m in metas}))

        def place(start: int, stop: int, chunk: NDArray[Any]) -> None:
            out[start:stop] = chunk

        self._read(name, place, lambda start, stop, dtype: out[start:stop] if dtype == out.dtype else None)
        return out

    def part(self, name: str, number: int) -> NDArray[Any]:
        """The rows of one part of an array, verified, in their stored type."""
        part = self.parts[number]
        meta = part.arrays[name]
        out = empty(meta.shape, meta.dtype)
        self._chunk(part, meta, out)
        return out

    def dtype(self, name: str) -> np.dtype[Any]:
        """The widest type in which the parts of an array are stored."""
        return np.result_type(*{part.arrays[name].dtype for part in self.parts})

    def take(self, name: str, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """`rows` of an array by their numbers, in that order, in the widest type of its parts.

        The first row of a chunk costs a checked read of that chunk. KeyError without the array, IndexError outside
        [0, n), `Damaged` as ever.
        """
        metas = self._metas(name)
        if metas is None:
            raise KeyError(name)
        wanted = np.asarray(rows, np.int64)
        if wanted.ndim != 1 or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.rows):
            raise IndexError(f"rows of bank {self.key[:12]} are numbered from 0 to {self.rows - 1}")
        out = np.empty((len(wanted), *metas[0].shape[1:]), np.result_type(*{m.dtype for m in metas}))
        order = np.argsort(wanted, kind="stable")
        bounds = np.searchsorted(wanted[order], [p.commit.start for p in self.parts] + [self.rows])
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            part, at = self.parts[i], order[bounds[i] : bounds[i + 1]]
            entry, local = part.commit.files[chunk_name(name)], wanted[at] - part.commit.start
            try:
                chunk = checked_chunk(self._folder(part.commit), part.arrays[name], entry, self._checked)
            except BadFile as bad:
                raise self.damaged(part.commit, bad.name, str(bad)) from None
            out[at] = chunk[local]
        return out

    @cached_property
    def _checked(self) -> dict[Path, Checked]:
        return {}

    def check(self, *, deep: bool = False) -> int:
        """Read every chunk and compare checksums, with `deep` each file's sha256 too; returns the bytes of data."""
        total = 0
        for part in self.parts:
            c, folder = part.commit, self._folder(part.commit)
            try:
                for meta in part.arrays.values():
                    verify_chunk(folder, meta, c.files[chunk_name(meta.name)])
                    total += meta.data_bytes
                for name, entry in c.files.items() if deep else ():
                    sha256_of(folder, name, entry)
            except BadFile as bad:
                raise self.damaged(c, bad.name, str(bad)) from None
        _ = self.ids
        return total

    def damaged(self, commit: Commit, name: str, why: str) -> Damaged:
        """The error about one file of one part."""
        where = self._folder(commit) / name
        return Damaged(f"{where}: {why} (rows {commit.start}-{commit.stop - 1}); {how_to_fix(self.folder)}")

    def _tensor(self, name: str, device: Any, dtype: torch.dtype | None) -> torch.Tensor | None:
        import torch

        metas = self._metas(name)
        if metas is None:
            return None
        shape = (self.rows, *metas[0].shape[1:])
        out = _empty(shape, dtype or torch.float32, device)
        # Where type and device agree, the file is read straight into the tensor's memory.
        kinds = {torch.float16: np.dtype("<f2"), torch.float32: np.dtype("<f4")}
        direct = out.numpy() if out.device.type == "cpu" and out.dtype in kinds else None

        def place(start: int, stop: int, chunk: NDArray[Any]) -> None:
            out[start:stop].copy_(torch.from_numpy(chunk))

        def target(start: int, stop: int, stored: np.dtype[Any]) -> NDArray[Any] | None:
            return direct[start:stop] if direct is not None and stored == direct.dtype else None

        self._read(name, place, target)
        return out

    def _read(
        self,
        name: str,
        place: Callable[[int, int, NDArray[Any]], None],
        target: Callable[[int, int, np.dtype[Any]], NDArray[Any] | None],
    ) -> None:
        def read(part: Part) -> None:
            meta, start, stop = part.arrays[name], part.commit.start, part.commit.stop
            into = target(start, stop, meta.dtype)
            if into is not None:
                self._chunk(part, meta, into)
            else:
                chunk = empty(meta.shape, meta.dtype)
                self._chunk(part, meta, chunk)
                place(start, stop, chunk)

        converted = [
            part for part in self.parts if target(part.commit.start, part.commit.stop, part.arrays[name].dtype) is None
        ]
        many = sum(part.arrays[name].data_bytes for part in converted) > _ALONE
        threads = min(READERS, cores(), len(converted)) if many else 1
        if threads == 1:
            for part in self.parts:
                read(part)
            return
        with ThreadPoolExecutor(threads) as pool:
            # in the order of the parts, so that of several damaged ones the first is named; then the rest is left alone
            for _ in pool.map(read, self.parts):
                pass

    def _chunk(self, part: Part, meta: ArrayMeta, out: NDArray[Any]) -> None:
        name = chunk_name(meta.name)
        try:
            read_chunk(self._folder(part.commit), meta, part.commit.files[name], out)
        except BadFile as bad:
            raise self.damaged(part.commit, bad.name, str(bad)) from None

    def _metas(self, name: str) -> list[ArrayMeta] | None:
        return [p.arrays[name] for p in self.parts] if name in self.parts[0].arrays else None

    def _folder(self, commit: Commit) -> Path:
        return layout.parts_dir(self.folder) / commit.directory


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: Any) -> torch.Tensor:
    import torch

    if torch.device(device).type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(empty((*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)).view(dtype)


def how_to_fix(folder: Path) -> str:
    """The clause of a `Damaged` message that says how to look closer and how to fix it."""
    return (
        f"fix with: {on_cache(folder.parents[2])}w2s-fast cache repair {folder.name}; "
        f"then make what is missing: {making_command(folder)}"
    )


def making_command(folder: Path) -> str:
    """The extract command of a bank's folder, as a reference to it remembers it."""
    cache = folder.parents[2]
    ref = ref_of_key(cache, folder.name)
    if ref is None:
        return extract_command("MODEL", "DATA", None, cache=cache)
    return extract_command(ref.model, ref.data, ref.options, cache=cache)
