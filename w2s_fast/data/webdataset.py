"""`wds:PATH/{000..009}.tar`: shards in the WebDataset layout, one image and its label under a common key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from w2s_fast.core.classes import ClassNames, renamed
from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import number_repeats, row_id
from w2s_fast.data import Source
from w2s_fast.data.decode import pil_route
from w2s_fast.data.identity import hash_content, remembered
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.paths import BRACES, SUFFIXES, existing_folder, expand_files, inside, opened
from w2s_fast.data.tar import Member, members, uri_of

MAX_SHARDS = 100_000
MAX_LABEL = 1 << 16
"""Bytes of the longest label or JSON member."""
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


@dataclass(kw_only=True)
class _Sample:
    shard: str
    split: str
    image: Member | None = None
    label: int | None = None
    extensions: set[str] = field(default_factory=set[str])


def open_shards(
    location: str,
    *,
    root: Path | None,
    identity: str,
    class_names: ClassNames,
    cache: str | Path | None,
) -> Manifest:
    """The manifest of shards in one folder; `{000..009}` is a range of them, `{train,test}` the official split.

    A sample is the members that share a name up to its first dot: one image, and a label in `.cls` (an integer) or
    `.json` (`{"label": 3}`). Members are read in place. Errors (`DataError`) name the shard and the key: a sample
    without image or label, two of them, a key that occurs twice in a shard, and whatever `tar.members` refuses.
    """
    name = f"wds:{location}"
    if root is not None:
        raise DataError(f"{name}: --root is for lists of paths; write wds:PATH with the whole path")
    folder = existing_folder(str(Path(location).expanduser().parent), what=name)
    samples: list[_Sample] = []
    for shard, split in _shards(Path(location).name, name):
        path = inside(folder / shard, folder, what=f"{name}: {shard}")
        samples += [_whole(s, key, path) for key, s in _samples(path, split).items()]
    if not samples:
        raise DataError(f"{name}: the shards hold no samples; each is KEY.jpg beside KEY.cls")
    present = {s.label for s in samples}
    if missing := next((label for label in range(len(present)) if label not in present), None):
        raise DataError(f"{name}: no sample has label {missing}, though others are higher; number the labels from 0")
    if 0 not in present:
        raise DataError(f"{name}: no sample has label 0; number the labels from 0")
    uris = tuple(uri_of(s.shard, s.image) for s in samples if s.image is not None)
    own = tuple(map(str, range(len(present))))
    classes = renamed(own, class_names, where=name, by_number=True)
    return Manifest(
        name=name,
        root=folder,
        classes=classes,
        known_as=own if classes != own else (),
        labels=np.array([s.label for s in samples], np.int64),
        ids=_identify(folder, samples, uris, identity=identity, cache=cache),
        uris=uris,
        splits=tuple(s.split for s in samples),
        groups=(folder.name,) * len(samples),
        decode=pil_route(identity),
        packed=True,
    )


def _shards(pattern: str, name: str) -> Iterator[tuple[str, str]]:
    splits = ("train", "test") if BRACES in pattern else ("",)
    for split in splits:
        whole = pattern.replace(BRACES, split)
        spans = list(_RANGE.finditer(whole))
        if not spans:
            yield whole, split
            continue
        if len(spans) > 1:
            raise DataError(f"{name}: two ranges in one name; give one, as in shard-{{000..009}}.tar")
        first, last = spans[0][1], spans[0][2]
        if not int(first) <= int(last) < int(first) + MAX_SHARDS:
            raise DataError(f"{name}: the range {spans[0][0]} is not one of 1 to {MAX_SHARDS} shards")
        for number in range(int(first), int(last) + 1):
            yield whole[: spans[0].start()] + f"{number:0{len(first)}d}" + whole[spans[0].end() :], split


def _samples(path: Path, split: str) -> dict[str, _Sample]:
    found: dict[str, _Sample] = {}
    with opened(path, what="the tar") as file:
        for member in members(path):
            inner = PurePosixPath(member.name)
            base, dot, extension = inner.name.partition(".")
            if not dot or not base:
                continue
            extension = f".{extension.lower()}"
            key = str(inner.with_name(base))
            sample = found.setdefault(key, _Sample(shard=path.name, split=split))
            if extension in sample.extensions:
                raise DataError(f"{path}: the member {key}{extension} occurs twice; give each sample a key of its own")
            sample.extensions.add(extension)
            if extension in SUFFIXES:
                if sample.image is not None:
                    raise DataError(f"{path}: the sample {key} has two images; keep one")
                sample.image = member
            elif extension in (".cls", ".json"):
                if member.size > MAX_LABEL:
                    raise DataError(f"{path}: the label {member.name} has {member.size} bytes, more than {MAX_LABEL}")
                file.seek(member.offset)
                label = _label(file.read(member.size), extension, f"{path}: {member.name}")
                if None not in (label, sample.label) and label != sample.label:
                    raise DataError(f"{path}: the sample {key} has the labels {sample.label} and {label}; keep one")
                sample.label = sample.label if label is None else label
    return found


def _label(content: bytes, extension: str, where: str) -> int | None:
    try:
        if extension == ".cls":
            return _in_range(int(content.decode("ascii").strip()), where)
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError(f"{where} holds no label; write an integer, or JSON with one as 'label'") from None
    label = value.get("label") if isinstance(value, dict) else None
    if label is None:
        return None
    if isinstance(label, str) and label.strip().isdecimal():
        label = int(label)
    if type(label) is not int:
        raise DataError(f"{where}: 'label' is {label!r:.80}; write an integer that numbers the class, from 0")
    return _in_range(label, where)


def _in_range(label: int, where: str) -> int:
    if not 0 <= label < 1 << 31:
        raise DataError(f"{where}: the label {str(label)[:20]} is out of range; number the labels from 0")
    return label


def _whole(sample: _Sample, key: str, path: Path) -> _Sample:
    if sample.image is None:
        raise DataError(f"{path}: the sample {key} has no image ({' '.join(SUFFIXES)}); add it or remove the key")
    if sample.label is None:
        raise DataError(f"{path}: the sample {key} has no label; add {key}.cls, or a 'label' to {key}.json")
    return sample


def _identify(
    folder: Path, samples: list[_Sample], uris: tuple[str, ...], *, identity: str, cache: str | Path | None
) -> tuple[str, ...]:
    """Ids as of image files: an image has the same one in a folder and in a tar."""
    if identity == "path":
        return number_repeats([row_id(u.partition(":")[2].encode(errors="surrogatepass")) for u in uris])
    shards = {s.shard: os.stat(folder / s.shard) for s in samples}  # noqa: PTH116
    names = [f"{folder}/{uri}" for uri in uris]

    def hashed(row: int) -> str:
        image = samples[row].image
        assert image is not None
        return hash_content(folder / samples[row].shard, offset=image.offset, size=image.size)

    return number_repeats(remembered(names, [shards[s.shard] for s in samples], hashed, cache=cache))


SOURCE = Source(open=open_shards, expand=expand_files, on_disk=True)
