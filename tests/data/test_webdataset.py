"""WebDataset shards: read in place, as the same images in folders are."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pictures import class_folders, noise, save

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import row_id
from w2s_fast.data import canonical, expand_data, open_manifest
from w2s_fast.data.decode import read_image

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def png(seed: int) -> bytes:
    out = io.BytesIO()
    from PIL import Image

    Image.fromarray(noise(seed)).save(out, "PNG")
    return out.getvalue()


def pack(path: Path, entries: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, seed: int, label: int) -> list[tuple[str, bytes]]:
    return [(f"{key}.png", png(seed)), (f"{key}.cls", f"{label}\n".encode())]


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_the_rows(tmp_path: Path, form: int) -> None:
    long = "deep/" + "x" * 80 + "/" + "y" * 60
    pack(tmp_path / "s-00.tar", [*sample("a/000", 1, 0), *sample(long, 2, 1)], form)
    pack(tmp_path / "s-01.tar", [*sample("000", 3, 1), ("notes", b"x"), ("001.jpg.txt", b"x")][:2], form)
    m = open_manifest(f"wds:{tmp_path}/s-{{00..01}}.tar", cache=tmp_path / "cache")
    assert m.labels.tolist() == [0, 1, 1] and m.classes == ("0", "1") and m.splits == ("", "", "")
    assert m.ids == tuple(row_id(png(seed)) for seed in (1, 2, 3))
    assert [u.partition(":")[2] for u in m.uris] == ["s-00.tar/a/000.png", f"s-00.tar/{long}.png", "s-01.tar/000.png"]
    for row, seed in enumerate((1, 2, 3)):
        assert (np.asarray(read_image(m, row)) == noise(seed)).all()
    assert not list(tmp_path.rglob("*.png"))


def test_the_same_images_in_folders_have_the_same_ids_and_key_ingredients(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 2, "b": 2})
    packed = [(str(p.relative_to(root)), p.read_bytes()) for p in sorted(root.rglob("*.png"))]
    labels = [(name.replace(".png", ".cls"), b"0" if name.startswith("a") else b"1") for name, _ in packed]
    pack(tmp_path / "s.tar", packed + labels)
    one = open_manifest(f"imagefolder:{root}", cache=tmp_path)
    two = open_manifest(f"wds:{tmp_path}/s.tar", cache=tmp_path)
    assert one.rows_digest == two.rows_digest and one.decode == two.decode
    assert one.labels.tolist() == two.labels.tolist()


def test_ids_are_remembered_until_the_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from w2s_fast.data import webdataset

    shard = pack(tmp_path / "s.tar", [*sample("a", 1, 0), *sample("b", 2, 1)])
    os.utime(shard, (1, 1))
    first = open_manifest(f"wds:{shard}", cache=tmp_path).ids

    def never(*_: object, **__: object) -> str:
        raise AssertionError("hashed again")

    with monkeypatch.context() as patch:
        patch.setattr(webdataset, "hash_content", never)
        assert open_manifest(f"wds:{shard}", cache=tmp_path).ids == first
    pack(shard, [*sample("a", 3, 0), *sample("b", 2, 1)])
    assert open_manifest(f"wds:{shard}", cache=tmp_path).ids == (row_id(png(3)), first[1])


def test_a_shard_that_changed_is_no_other_image(tmp_path: Path) -> None:
    shard = pack(tmp_path / "s.tar", [*sample("a", 1, 0), *sample("b", 2, 1)])
    m = open_manifest(f"wds:{shard}", cache=tmp_path)
    pack(shard, [*sample("a", 3, 0), *sample("b", 2, 1)])
    with pytest.raises(DataError, match=r"s\.tar:a\.png changed since the manifest was made"):
        read_image(m, 0)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match="changed since"):
        read_image(m, 1)


def test_labels_in_json_splits_and_names(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("test", 10)):
        said = [json.dumps({"label": i, "x": []}).encode() for i in range(2)]
        entries = [e for i in range(2) for e in ((f"{i}.JPEG", png(seed + i)), (f"{i}.json", said[i]))]
        pack(tmp_path / f"{part}-7.tar", entries)
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    m = open_manifest(f"wds:{tmp_path}/{{train,test}}-{{7..7}}.tar", class_names=names, cache=tmp_path)
    assert m.splits == ("train", "train", "test", "test") and m.classes == ("cat", "dog")
    assert expand_data(f"wds:{tmp_path}/train-*.tar") == [f"wds:{tmp_path}/train-7.tar"]
    assert canonical("wds:x/{0..3}.tar") == f"wds:{Path('x').absolute()}/{{0..3}}.tar"


def test_path_identity(tmp_path: Path) -> None:
    shard = pack(tmp_path / "s.tar", [*sample("a", 1, 0), *sample("b", 1, 1)])
    m = open_manifest(f"wds:{shard}", identity="path", cache=tmp_path)
    assert len(set(m.ids)) == 2 and not any("#" in i for i in m.ids)
    assert (np.asarray(read_image(m, 1)) == noise(1)).all()


WRONG = {
    "two images": ([*sample("a", 1, 0), ("a.jpg", b"x")], "the sample a has two images"),
    "no label": ([("a.png", b"x")], "the sample a has no label"),
    "no image": ([("a.cls", b"0")], "the sample a has no image"),
    "a key twice": ([*sample("a", 1, 0), *sample("a", 2, 0)], r"the member a\.png occurs twice"),
    "labels that differ": ([*sample("a", 1, 0), ("a.json", b'{"label": 1}')], "the labels 0 and 1"),
    "no integer": ([("a.png", b"x"), ("a.cls", b"cat")], "holds no label"),
    "JSON that is none": ([("a.png", b"x"), ("a.json", b"[" * 9000)], "holds no label"),
    "a huge label": ([("a.png", b"x"), ("a.cls", b"9" * 400)], "is out of range"),
    "a large label": ([*sample("a", 1, 0), *sample("b", 2, 2_000_000_000)], "no sample has label 1"),
    "a negative label": ([("a.png", b"x"), ("a.cls", b"-1")], "is out of range"),
    "a long label": ([("a.png", b"x"), ("a.cls", b" " * 70_000)], "more than 65536"),
    "nothing": ([], "hold no samples"),
}


@pytest.mark.parametrize("case", WRONG)
def test_samples_that_are_none(tmp_path: Path, case: str) -> None:
    entries, message = WRONG[case]
    shard = pack(tmp_path / "s.tar", entries)
    with pytest.raises(DataError, match=message):
        open_manifest(f"wds:{shard}", cache=tmp_path)


def test_ranges_that_are_none(tmp_path: Path) -> None:
    for name, message in (("{5..3}.tar", "is not one of 1 to"), ("{0..999999999}.tar", "is not one of 1 to"),
                          ("{0..1}-{0..1}.tar", "two ranges"), ("{0..3}.tar", "cannot be read")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            open_manifest(f"wds:{tmp_path}/{name}", cache=tmp_path)
    save(tmp_path / "x.png", 0)
    with pytest.raises(DataError, match="no tar header"):
        open_manifest(f"wds:{tmp_path}/x.png", cache=tmp_path)
