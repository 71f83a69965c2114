"""The catalogue against the facts that are published elsewhere, and DomainNet's official lists, byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import server, zipped

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.data import canonical, expand_data, fetch, open_manifest
from w2s_fast.data.catalogue import Entry, Published, entry, names
from w2s_fast.data.verify import verify

OFFICIAL = Path(__file__).parent / "official"
EXTRAS = 704
CPL_TABLE_2 = {
    "clipart": (33525, 14604), "infograph": (36023, 15582), "painting": (50416, 21850),
    "quickdraw": (120750, 51750), "real": (120906, 52041), "sketch": (48212, 20916),
}  # fmt: skip
"""Training and test images of CPL's Table 2."""


def official(split: str) -> bytes:
    return gzip.decompress((OFFICIAL / f"clipart_{split}.txt.gz").read_bytes())


def test_every_entry_is_whole() -> None:
    for name in names():
        one = entry(name)
        assert one.title and one.licence and one.citation and one.homepage and one.files
        for f in one.files:
            assert f.checksum is None or f.published, (name, f.name)
            assert f.url or f.by_hand, (name, f.name)
            assert f.sha256 is None or len(f.sha256) == 64
            assert f.md5 is None or len(f.md5) == 32
        assert all(p.expected > 0 for p in one.parts.values())


def test_domainnet_is_as_published() -> None:
    one = entry("domainnet")
    assert {n: (p.train, p.test) for n, p in one.parts.items()} == CPL_TABLE_2
    assert sum(p.expected for p in one.parts.values()) == 586_575
    assert sum(p.known_extras for p in one.parts.values()) == 9_431
    assert len(one.files) == 18 and all(f.sha256 for f in one.files)
    assert len(one.classes) == 345
    assert (one.classes[327], one.classes[308], one.classes[66]) == ("t-shirt", "The_Eiffel_Tower", "cello")
    for split in ("train", "test"):
        told = next(f for f in one.files if f.name.endswith(f"clipart_{split}.txt"))
        raw = official(split)
        assert hashlib.sha256(raw).hexdigest() == told.sha256 and len(raw) == told.bytes
        for line in raw.decode().splitlines():
            path, label = line.rsplit(" ", 1)
            assert path.split("/")[1] == one.classes[int(label)]


def test_names_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expand_data("domainnet/*a*") == ["domainnet/clipart", "domainnet/infograph", "domainnet/painting",
                                           "domainnet/quickdraw", "domainnet/real"]  # fmt: skip
    assert expand_data("domainnet/sketch") == ["domainnet/sketch"]
    monkeypatch.chdir(tmp_path)
    assert canonical("domainnet:x/clipart") == f"domainnet:{tmp_path}/x/clipart"
    with pytest.raises(DataError, match="data fetch domainnet/sketch"):
        open_manifest("domainnet/sketch")
    with pytest.raises(UsageError, match="did you mean 'clipart'"):
        open_manifest("domainnet/clipar", root=tmp_path)
    with pytest.raises(DataError, match="name one: domainnet/clipart"):
        open_manifest("domainnet", root=tmp_path)
    with pytest.raises(DataError, match="neither lists nor folders"):
        open_manifest("domainnet/real", root=tmp_path)


# ---- the miniature: the official lists, tiny pictures, the known extras


def listed(split: str, *, whole: bool) -> bytes:
    """The official list, or its first two lines of each class."""
    if whole:
        return official(split)
    seen: Counter[str] = Counter()
    kept: list[str] = []
    for line in official(split).decode().splitlines(keepends=True):
        seen[line.split()[-1]] += 1
        kept += [line] if seen[line.split()[-1]] <= 2 else []
    return "".join(kept).encode()


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "whole"])
def whole(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def pictures(whole: bool) -> dict[str, bytes]:
    """The members of a clipart.zip: an image for every line of the official lists, and as many extras as are known."""
    out = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(out, "JPEG")
    body = out.getvalue()
    found: dict[str, bytes] = {}
    for split in ("train", "test"):
        for line in listed(split, whole=whole).decode().splitlines():
            path = line.rsplit(" ", 1)[0]
            found[path] = body[:-2] + hashlib.md5(path.encode()).digest() + body[-2:]
    for n in range(EXTRAS):
        found[f"clipart/dog/clipart_999_{n:06d}.jpg"] = body
    return found


@pytest.fixture(scope="module")
def root(
    whole: bool, pictures: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Entry, Path]]:
    archive = zipped(pictures)
    one = entry("domainnet")
    served = {"clipart.zip": archive, **{f"clipart_{s}.txt": listed(s, whole=whole) for s in ("train", "test")}}
    files = tuple(_as_served(f, served, whole=whole) for f in one.files)
    small = replace(one, files=files)
    folder = tmp_path_factory.mktemp("domainnet")
    with server(served, cut_after=5_000_000) as (address, _):
        assert fetch.fetch(small, "clipart", folder, mirror=address) == []
    yield small, folder


def _as_served(one: Published, served: dict[str, bytes], *, whole: bool) -> Published:
    """The official lists keep their published checksums where they are whole."""
    name = one.name.rsplit("/", 1)[-1]
    if name not in served or (whole and one.kind == "list"):
        return one
    return replace(one, bytes=len(served[name]), sha256=hashlib.sha256(served[name]).hexdigest())


def test_the_miniature_passes_without_a_false_alarm(root: tuple[Entry, Path], pictures: dict[str, bytes]) -> None:
    small, folder = root
    found = verify(small, "clipart", folder)
    assert (
        found.faults == ()
        and found.images == len(pictures) - EXTRAS
        and found.known_extras == EXTRAS
        and found.checked == 2
    )


def test_two_hundred_faults_are_all_named(root: tuple[Entry, Path], pictures: dict[str, bytes]) -> None:
    small, folder = root
    rng = random.Random(0)
    chosen = rng.sample([p for p in pictures if "_999_" not in p], 199)
    kinds = ("missing", "truncated", "misplaced", "extra", "changed")
    expected: set[tuple[str, str]] = set()
    undo: list[tuple[Path, bytes | None]] = []
    classes = small.classes
    for n, path in enumerate(chosen):
        kind, file = kinds[n % 5], folder / path
        undo.append((file, pictures[path]))
        if kind == "missing":
            file.unlink()
        elif kind == "truncated":
            file.write_bytes(pictures[path][:-9])
        elif kind == "changed":
            file.write_bytes(pictures[path].replace(b"\xff\xd9", b"\xff\xd9", 1)[:-3] + b"?" + b"\xff\xd9")
        elif kind == "misplaced":
            other = next(c for c in rng.sample(classes, 2) if c != file.parent.name)
            (folder / "clipart" / other).mkdir(exist_ok=True)
            file.rename(folder / "clipart" / other / file.name)
            undo.append((folder / "clipart" / other / file.name, None))
        else:
            path = f"clipart/{file.parent.name}/stray_{n}.jpg"
            (folder / path).write_bytes(b"x")
            undo.append((folder / path, None))
        expected.add((kind, path))
    wrong = folder / "image_list" / "clipart_test.txt"
    undo.append((wrong, wrong.read_bytes()))
    wrong.write_bytes(wrong.read_bytes() + b"\n")
    expected.add(("changed", "image_list/clipart_test.txt"))
    found = verify(small, "clipart", folder)
    for path, content in undo:
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    assert {(f.kind, f.path) for f in found.faults} == expected
    assert found.known_extras == EXTRAS


def test_lists_and_folders_give_each_image_the_same_label(
    root: tuple[Entry, Path], whole: bool, pictures: dict[str, bytes]
) -> None:
    _, folder = root
    made = open_manifest("domainnet/clipart", root=folder, identity="path", cache=folder)
    assert made.classes == entry("domainnet").classes
    assert (made.splits.count("train"), made.splits.count("test")) == (CPL_TABLE_2["clipart"] if whole else (690, 690))
    lists = folder / "image_list"
    lists.rename(folder / "splits")  # the second public layout
    again = open_manifest(f"domainnet:{folder}/clipart", identity="path", cache=folder)
    (folder / "splits").rename(folder / "kept")  # folders alone
    bare = open_manifest("domainnet/clipart", root=folder, identity="path", cache=folder)
    (folder / "kept").rename(lists)
    assert again.rows_digest == made.rows_digest
    by_folder = {f"clipart/{uri}": label for uri, label in zip(bare.uris, bare.labels.tolist(), strict=True)}
    assert len(bare) == len(pictures)
    assert all(by_folder[uri] == label for uri, label in zip(made.uris, made.labels.tolist(), strict=True))


def test_without_a_record_of_the_archive_the_ends_of_images_are_looked_at(
    root: tuple[Entry, Path], pictures: dict[str, bytes]
) -> None:
    small, folder = root
    (folder / fetch.RECORDS).rename(folder / ".kept")
    first = next(iter(pictures))
    (folder / first).write_bytes(pictures[first][:-9])
    found = verify(small, "clipart", folder)
    (folder / first).write_bytes(pictures[first])
    (folder / ".kept").rename(folder / fetch.RECORDS)
    assert [(f.kind, f.path) for f in found.faults] == [("truncated", first)] and found.known_extras == EXTRAS


def test_the_third_layout_is_folders_of_a_split(tmp_path: Path) -> None:
    one = entry("officehome")
    for split in ("train", "test"):
        for name in one.classes:
            path = tmp_path / "Real World" / split / name / "1.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)).save(path)
    made = open_manifest("officehome/Real_World", root=tmp_path, cache=tmp_path)
    assert made.classes[:2] == ("Drill", "Exit_Sign") and made.splits == ("train",) * 65 + ("test",) * 65
    for uri, label in zip(made.uris, made.labels.tolist(), strict=True):
        assert uri.split("/")[1] == one.classes[label]
