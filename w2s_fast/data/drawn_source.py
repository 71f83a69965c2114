"""`drawn:DOMAIN`: the embedded data set as a source; images are drawn on demand from their uris."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from w2s_fast.core.classes import ClassNames, renamed
from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.core.hashing import row_id
from w2s_fast.data import Source, drawn
from w2s_fast.data.manifest import Manifest

if TYPE_CHECKING:
    from PIL.Image import Image

SPACES = {"train": "train", "pool": "test"}
"""Name space of the renders -> official split."""
DEFAULTS = {"batch_size": 128, "lr": 0.005}
"""Frozen on seeds 100-104: benchmarks/drawn_settings/README.md."""


def open_drawn(
    location: str,
    *,
    root: Path | None,
    identity: str,
    class_names: ClassNames,
    cache: str | Path | None,
) -> Manifest:
    """The manifest of one domain; ids name the drawings, and `decode` covers the renderer's pixels by a probe."""
    if root is not None:
        raise UsageError(f"drawn:{location} is embedded and takes no --root")
    if location not in drawn.DOMAINS:
        raise DataError(f"drawn has no domain {location!r}{nearest(location, drawn.DOMAINS)}")
    manifest = _domain(location)
    own, classes = manifest.classes, renamed(manifest.classes, class_names, where=manifest.name)
    return replace(manifest, classes=classes, known_as=own if classes != own else ())


def draw(uri: str) -> Image:
    """The RGB image that a uri of this source names."""
    from PIL import Image

    _, _, space, style, name, index = uri.split(":")
    return Image.fromarray(drawn.render(style, name, space=space, index=int(index)), "RGB")


def expand(pattern: str) -> list[str]:
    """The domains that a glob matches; an empty pattern (`drawn`) is all of them."""
    return [d for d in drawn.DOMAINS if fnmatch.fnmatchcase(d, pattern or "*")]


@lru_cache(maxsize=len(drawn.DOMAINS))
def _domain(style: str) -> Manifest:
    counts = {"train": drawn.TRAIN_PER_CLASS, "pool": drawn.POOL_PER_CLASS}
    rows = [
        (f"drawn:{drawn.RENDERER}:{space}:{style}:{name}:{index}", label, SPACES[space])
        for space, count in counts.items()
        for label, name in enumerate(drawn.CLASSES)
        for index in range(count)
    ]
    uris = tuple(uri for uri, _, _ in rows)
    return Manifest(
        name=f"drawn:{style}",
        root=Path(),
        classes=tuple(drawn.CLASSES),
        labels=np.array([label for _, label, _ in rows], np.int64),
        ids=tuple(row_id(uri.encode()) for uri in uris),
        uris=uris,
        splits=tuple(split for _, _, split in rows),
        groups=(style,) * len(rows),
        defaults=dict(DEFAULTS),
        decode={"route": "drawn", "renderer": drawn.RENDERER, "probe": drawn.probe()},
    )


SOURCE = Source(open=open_drawn, expand=expand)
