"""Downloads over a real local server: resumed, checked, unpacked safely, or refused with nothing half-made."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from served import server, tarred, zipped

from w2s_fast.core.errors import DataError
from w2s_fast.data import fetch, open_manifest
from w2s_fast.data.archives import unpack
from w2s_fast.data.catalogue import Entry, Published, entry
from w2s_fast.data.verify import verify


def mini(content: bytes, **more: object) -> Entry:
    """CIFAR-10's entry, with an archive of its own."""
    one = replace(entry("cifar10").files[0], bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), **more)
    return replace(entry("cifar10"), files=(one,))


def cifar_archive(rows: int = 20) -> bytes:
    rng = np.random.default_rng(0)
    files = {}
    for name in (*entry("cifar10").train, *entry("cifar10").test):
        table = rng.integers(0, 256, (rows, 3073), np.uint8)
        table[:, 0] = np.arange(rows) % 10
        files[name] = table.tobytes()
    return tarred(files)


def test_a_cut_line_is_taken_up_by_range_and_the_data_set_opens(tmp_path: Path) -> None:
    content = cifar_archive()
    with server({"cifar-10-binary.tar.gz": content}, cut_after=100_001) as (address, log):
        assert fetch.fetch(mini(content), "", tmp_path, mirror=address) == []
    assert len(log) == -(-len(content) // 100_001) and log[1].endswith("bytes=100001-")
    assert not (tmp_path / "cifar-10-binary.tar.gz").exists() and not list(tmp_path.glob("*.partial"))
    found = verify(mini(content), "", tmp_path)
    assert not found.faults
    made = open_manifest("cifar10", root=tmp_path, cache=tmp_path)
    assert len(made) == 120 and made.splits.count("test") == 20 and made.classes[3] == "cat"
    assert made.labels.tolist() == [row % 10 for _ in range(6) for row in range(20)]
    from w2s_fast.data.decode import read_image

    raw = (tmp_path / "cifar-10-batches-bin/data_batch_2.bin").read_bytes()[3 * 3073 + 1 : 4 * 3073]
    expected = np.frombuffer(raw, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(read_image(made, 23)), expected)
    # a second run asks for nothing
    with server({}) as (address, log):
        fetch.fetch(mini(content), "", tmp_path, mirror=address)
    assert log == []


def test_a_server_without_ranges_starts_anew(tmp_path: Path) -> None:
    content = cifar_archive()
    (tmp_path / "x.partial").write_bytes(content[:1000])
    with server({"x": content}, ranges=False) as (address, _):
        fetch.download(f"{address}/x", tmp_path / "x", size=len(content))
    assert (tmp_path / "x").read_bytes() == content


def test_a_partial_file_of_another_version_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"z" * 50)
    with server({"x": b"right"}) as (address, _):
        fetch.download(f"{address}/x", tmp_path / "x", size=None)
    assert (tmp_path / "x").read_bytes() == b"right"


def test_a_line_that_gives_nothing_is_given_up_and_what_came_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TRIES", 2)
    (tmp_path / "x.partial").write_bytes(b"ab")
    with server({"x": b"abcdef"}, cut_after=0) as (address, _), pytest.raises(DataError, match="2 bytes are kept"):
        fetch.download(f"{address}/x", tmp_path / "x", size=6)
    with server({}) as (address, _), pytest.raises(DataError, match="404"):
        fetch.download(f"{address}/x", tmp_path / "x", size=6)


@pytest.mark.parametrize("change", ["bytes", "sha256"])
def test_a_wrong_file_is_refused_and_nothing_is_unpacked(tmp_path: Path, change: str) -> None:
    content = cifar_archive()
    wrong = mini(content)
    one = replace(wrong.files[0], **({"sha256": "0" * 64} if change == "sha256" else {"bytes": len(content) + 1}))
    if change == "bytes":  # another file lies there already
        (tmp_path / one.name).write_bytes(content)
    with (
        server({"cifar-10-binary.tar.gz": content}) as (address, _),
        pytest.raises(DataError, match="not the published"),
    ):
        fetch.fetch(replace(wrong, files=(one,)), "", tmp_path, mirror=address)
    assert not (tmp_path / "cifar-10-batches-bin").exists()


def test_more_than_is_published_is_refused(tmp_path: Path) -> None:
    with server({"x": b"x" * 5000}) as (address, _), pytest.raises(DataError, match="more than the published"):
        fetch.download(f"{address}/x", tmp_path / "x", size=4000)


def test_too_little_disk_is_told_before_the_first_byte(tmp_path: Path) -> None:
    huge = replace(entry("cifar10"), files=(replace(entry("cifar10").files[0], bytes=1 << 60),))
    with pytest.raises(DataError, match="GB free"):
        fetch.fetch(huge, "", tmp_path)


def test_what_a_licence_forbids_is_left_to_hand(tmp_path: Path) -> None:
    left = fetch.fetch(entry("imagenet"), "", tmp_path)
    assert len(left) == 3 and "register" in left[0]


# ---- hostile archives


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (tarred({"../out": b"x"}), "leads out"),
        (tarred({"/etc/out": b"x"}), "leads out"),
        (zipped({"a/../../out": b"x"}), "leads out"),
        (zipped({"..\\out": b"x"}), "leads out"),
        (tarred({"a": b"x"}, special=_link("b", "/etc/passwd")), "link or a device"),
        (zipped({"A.jpg": b"1", "a.jpg": b"2"}), "twice"),
        (zipped({"bomb": bytes(200 << 20)}, compression=zipfile.ZIP_DEFLATED), "far more than its size"),
        (tarred({"a.bin": np.random.default_rng(0).bytes(90_000)})[:60_000], "cut or damaged"),
        (zipped({"a": b"x" * 9000})[:5000], "neither a zip nor a tar"),
        (b"<html>quota exceeded</html>", "neither a zip nor a tar"),
        (zipped({}), "is empty"),
    ],
)
def test_hostile_archives_leave_nothing(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / "x.zip"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=why):
        unpack(archive, tmp_path / "in" / "root")
    assert list((tmp_path / "in" / "root").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_a_flipped_byte_inside_a_zip_is_found(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.jpg": b"x" * 500}))
    content[100] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="cut or damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "root")


def test_two_archives_share_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(zipped({f"clipart/{name}/1.jpg": b"1"}))
        unpack(tmp_path / name, tmp_path / "root")
    assert len(list((tmp_path / "root").rglob("*.jpg"))) == 2
    shutil.rmtree(tmp_path / "root")


def test_unverified_files_are_said_to_be(tmp_path: Path) -> None:
    one = Published(name="notes.txt", kind="data", url="http://x/notes.txt")
    said: list[str] = []
    with server({"notes.txt": b"hello"}) as (address, _):
        fetch.fetch(replace(entry("cifar10"), files=(one,)), "", tmp_path, mirror=address, say=said.append)
    assert "unverified" in said[0]
