"""The pixels of a manifest's images as a network sees them: in memory as bytes where they fit, else decoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import DataError, ModelError, Unreadable
from w2s_fast.data.decode import read_image
from w2s_fast.data.manifest import Manifest
from w2s_fast.finetune.augment import parse_augments
from w2s_fast.finetune.draws import keys_of
from w2s_fast.finetune.views import AugmentedViews, Resident, Rows

Prepare = Callable[[Any], Tensor]
AT_ONCE = 256
"""Images that are decoded ahead of the one that is asked for."""
IN_MEMORY = 1536 << 20
"""Bytes of pixels that are kept in memory; a larger set is decoded again in every epoch."""
WORST = 1 / 255 / 2
"""How far a prepared value, in units of 0..1, may lie from that of its byte."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """A network's preprocessing taken apart: up to bytes [h, w, 3], then (x / 255 - mean) / std."""

    prepare: Prepare
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, prepare: Prepare, preprocess: dict[str, Any]) -> Pixels:
        """From a transform and its description; `ModelError` where that names no mean and deviation."""
        mean, std = (_three(preprocess.get(name)) for name in ("mean", "std"))
        if mean is None or std is None:
            raise ModelError(
                "the network's preprocessing names no mean and std, so that its images cannot be kept as bytes; "
                "add both to its description"
            )
        return cls(prepare=prepare, mean=mean, std=std)

    def __call__(self, image: Any) -> Tensor:
        """RGB `PIL.Image` -> bytes [h, w, 3]; every library resizes bytes, so that nothing is lost."""
        x = self.prepare(image)
        unit = x * torch.tensor(self.std).view(3, 1, 1) + torch.tensor(self.mean).view(3, 1, 1)
        found = (unit * 255).round().clamp(0, 255)
        if float((found / 255 - unit).abs().max()) > WORST:
            raise ModelError("the network's preprocessing does not end in (x - mean) / std of bytes")
        return found.to(torch.uint8).permute(1, 2, 0).contiguous()


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """Images that are decoded whenever they are asked for."""

    manifest: Manifest
    rows: Rows
    pixels_of: Pixels
    pool: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)

    @property
    def n(self) -> int:
        return len(self.rows)

    def pixels(self, rows: Rows) -> Tensor:
        """Bytes [b, h, w, 3]; an image that was readable and no longer is stops."""
        return torch.stack(list(self.pool.map(self._one, self.rows[rows].tolist())))

    def _one(self, row: int) -> Tensor:
        return self.pixels_of(read_image(self.manifest, row))


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The readable ones of some rows of a manifest. `failures` says of each other one why."""

    manifest: Manifest
    rows: NDArray[np.int64]
    pixels: Pixels
    source: Resident | Decoded
    failures: tuple[str, ...]

    @property
    def labels(self) -> Tensor:
        """i[n]."""
        return torch.from_numpy(self.manifest.labels[self.rows])

    @property
    def ids(self) -> list[str]:
        """The ids of the readable rows."""
        return [self.manifest.ids[r] for r in self.rows]

    def part(self, rows: NDArray[np.int64]) -> Images:
        """Those that are rows `rows` of the manifest, in this order, without copying a pixel; unreadable ones are left
        out."""
        place = {row: number for number, row in enumerate(self.rows.tolist())}
        kept = np.array([place[row] for row in rows.tolist() if row in place], np.int64)
        source = (
            replace(self.source, rows=self.source.at(kept))
            if isinstance(self.source, Resident)
            else replace(self.source, rows=self.source.rows[kept])
        )
        return replace(self, rows=self.rows[kept], source=source)

    def views(self, augment: str = "none", *, device: torch.device | str = "cpu") -> AugmentedViews:
        """Their views under augmentation."""
        device = torch.device(device)
        source = self.source
        if device.type == "cuda" and isinstance(source, Resident):
            source = Resident(data=source.data.to(device), rows=source.rows)
        return AugmentedViews(
            source=source,
            mean=self.pixels.mean,
            std=self.pixels.std,
            keys=keys_of(self.ids),
            augments=parse_augments(augment),
            device=device,
        )


def open_images(
    manifest: Manifest, rows: NDArray[np.int64], pixels: Pixels, *, what: str, limit: int | None = None
) -> Images:
    """Decode `rows` once: keep them if they take at most `limit` bytes, and find out which are unreadable.

    `DataError` where none can be read. A transient error (a disk that is away) stops.
    """
    pool = ThreadPoolExecutor()
    limit = IN_MEMORY if limit is None else limit
    good: list[int] = []
    failures: list[str] = []
    kept: Tensor | None = None
    for row, found in zip(rows.tolist(), decoded(pool, manifest, rows.tolist(), pixels), strict=True):
        if isinstance(found, str):
            failures.append(found)
            continue
        if not good and found.numel() * len(rows) <= limit:
            kept = torch.empty((len(rows), *found.shape), dtype=torch.uint8)
        if kept is not None:
            kept[len(good)] = found
        good.append(row)
    if not good:
        first = failures[0] if failures else "there is none"
        raise DataError(f"{manifest.name}: none of the {len(rows)} images of {what} can be read; the first: {first}")
    numbers = np.array(good, np.int64)
    source = (
        Decoded(manifest=manifest, rows=numbers, pixels_of=pixels, pool=pool)
        if kept is None
        else Resident(data=kept[: len(good)])
    )
    return Images(manifest=manifest, rows=numbers, pixels=pixels, source=source, failures=tuple(failures))


def decoded(
    pool: ThreadPoolExecutor, manifest: Manifest, rows: Sequence[int], pixels: Pixels
) -> Iterator[Tensor | str]:
    """Bytes [h, w, 3] of each row, or why it cannot be read; a part of them ahead of time."""

    def one(row: int) -> Tensor | str:
        try:
            return pixels(read_image(manifest, row))
        except Unreadable as error:
            return str(error)

    for start in range(0, len(rows), AT_ONCE):
        yield from pool.map(one, rows[start : start + AT_ONCE])


def _three(value: Any) -> tuple[float, float, float] | None:
    if isinstance(value, int | float):
        return (float(value), float(value), float(value))
    if isinstance(value, list | tuple) and len(value) == 3:
        return (float(value[0]), float(value[1]), float(value[2]))
    return None
