"""Rows of a manifest as prepared tensors, decoded once for all models, unreadable ones flagged and never dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from w2s_fast.core.errors import DataError, Unreadable
from w2s_fast.core.hashing import canonical_json
from w2s_fast.core.protocols import Encoder
from w2s_fast.data.decode import is_pixels, read_bytes, read_image
from w2s_fast.data.decoder import Decoder
from w2s_fast.data.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """`rows` of the manifest in order; `reasons` row -> why it failed; `input_of(m)` what model m is given.

    `stop` is why no image can be told from a broken one at present: a file that is gone, a disk that fails.
    """

    rows: list[int]
    inputs: list[Tensor]
    reasons: dict[int, str]
    source: tuple[int, ...]
    stop: str | None = None

    def input_of(self, m: int) -> Tensor:
        """f[b, 3, h, w], prepared as the m-th encoder wants it; encoders that want the same share it."""
        return self.inputs[self.source[m]]


_Item = tuple[int, list[Tensor], str | None, str | None]


class _Prepared(Dataset[_Item]):
    def __init__(self, manifest: Manifest, rows: Sequence[int], encoders: Sequence[Encoder]) -> None:
        self.manifest, self.rows = manifest, rows
        wanted = [canonical_json(e.preprocess) for e in encoders]
        distinct = list(dict.fromkeys(wanted))
        self.source = tuple(distinct.index(w) for w in wanted)
        self.prepares = [_without_network(encoders[wanted.index(w)]) for w in distinct]
        blank = Image.new("RGB", (64, 64))
        self.blanks = [torch.zeros_like(prepare(blank)) for prepare in self.prepares]
        self.decoder = Decoder()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> _Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[_Item]:
        """While an image is prepared, the next one is decoded."""
        items: list[_Item] = []
        pending = [self.rows[i] for i in indices]
        ready = self._begun(pending[0]) if pending else None
        for at, row in enumerate(pending):
            assert ready is not None
            try:
                image = ready()
            except DataError as error:
                image = error
            ready = self._begun(pending[at + 1]) if at + 1 < len(pending) else None
            items.append(self._item(row, image))
        return items

    def _begun(self, row: int) -> Callable[[], Image.Image]:
        """What gives the image of a row; its file has been read, and is being decoded."""
        if is_pixels(self.manifest):
            return lambda: read_image(self.manifest, row)
        try:
            content, path = read_bytes(self.manifest, row)
            self.decoder.send(content, path=path)
        except DataError as error:
            return lambda error=error: _raise(error)
        return self.decoder.receive

    def _item(self, row: int, image: Image.Image | DataError) -> _Item:
        if isinstance(image, Unreadable):
            return row, self.blanks, str(image), None
        if isinstance(image, DataError):  # told, not raised: the loader would wrap it in a worker's traceback
            return row, self.blanks, None, str(image)
        return row, [prepare(image) for prepare in self.prepares], None, None

    def collate(self, items: list[_Item]) -> ImageBatch:
        return ImageBatch(
            rows=[row for row, *_ in items],
            inputs=[torch.stack(column) for column in zip(*(tensors for _, tensors, *_ in items), strict=True)],
            reasons={row: reason for row, _, reason, _ in items if reason is not None},
            source=self.source,
            stop=next((stop for *_, stop in items if stop is not None), None),
        )


def _without_network(encoder: Encoder) -> Callable[[Image.Image], Tensor]:
    """How an image is prepared: all of an encoder that a decoding process needs, which may be sent it in a pickle."""
    return getattr(encoder, "transform", None) or encoder.prepare


def _raise(error: DataError) -> NoReturn:
    raise error


def batches(
    manifest: Manifest, rows: Sequence[int], encoders: Sequence[Encoder], *, batch_size: int, workers: int
) -> Iterator[ImageBatch]:
    """The given rows, `batch_size` at a time; every image is decoded once, and prepared once per distinct way.

    Files are read and prepared by `workers` processes, or by this one if 0; either way each of these has its images
    decoded by a process of its own (`data.decoder`). Contents that are not an image, or that end the process that
    decodes them, are a batch's `reasons`; `DataError` for a file that is gone, locked or changed.
    """
    images = _Prepared(manifest, rows, encoders)
    loader = DataLoader(
        images,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=images.collate,
        prefetch_factor=4 if workers else None,
    )
    try:
        for batch in _unless_killed(loader):
            if batch.stop is not None:
                raise DataError(batch.stop)
            yield batch
    finally:
        images.decoder.close()


def _unless_killed(loader: DataLoader[_Item]) -> Iterator[ImageBatch]:
    """The loader's batches; a decoding process that is killed from outside is a `DataError`, its own errors are not."""
    done = 0
    try:
        for batch in loader:
            yield batch
            done += len(batch.rows)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a decoding process was killed after {done} images, most likely for want of memory; run the same command "
            "again with fewer --workers: it resumes"
        ) from None
