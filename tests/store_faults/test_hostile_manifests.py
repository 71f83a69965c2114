"""Hostile lists, folders and tars: a `DataError` in a sentence; nothing outside the root is opened, nothing blocks."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from w2s_fast.core.errors import DataError, W2SError
from w2s_fast.data import expand_data, open_manifest
from w2s_fast.data.decode import read_image
from w2s_fast.data.identity import MEMO

OUTSIDE = "outside-the-root"


def picture(seed: int = 0) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((8, 8), 10 + seed).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two images, and one image beside the root that nothing may reach."""
    for number, name in enumerate(("a/0.png", "a/1.png", "b/0.png", "b/1.png")):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / f"{OUTSIDE}.png").write_bytes(picture(99))
    return tmp_path / "root"


def refused(data: str, match: str, tmp_path: Path, **options: object) -> None:
    started = time.process_time()
    with pytest.raises(DataError, match=match) as caught:
        open_manifest(data, cache=tmp_path / "cache", **options)  # type: ignore[arg-type]
    assert time.process_time() - started < 2 and len(str(caught.value)) < 2000


LINES = {
    "upwards": ("../outside-the-root.png 0", "outside the root"),
    "far upwards": ("../../../../../../../../etc/passwd 0", "outside the root"),
    "upwards and back": (f"a/../../{OUTSIDE}.png 0", "outside the root"),
    "absolute": ("/etc/passwd 0", "outside the root"),
    "a device": ("/dev/zero 0", "outside the root"),
    "memory of the process": ("/proc/self/environ 0", "outside the root"),
    "a link out": ("link.png 0", "outside the root"),
    "a link to a folder out": ("away/outside-the-root.png 0", "outside the root"),
    "a loop of links": ("loop.png 0", "leads nowhere|does not exist"),
    "a loop of folders": ("round/round/round/x.png 0", "does not exist|leads nowhere"),
    "a pipe": ("pipe.png 0", "does not exist"),
    "a folder": ("a 0", "does not exist"),
    "NUL": ("a/0.png\0.txt 0", "leads nowhere"),
    "a name too long": ("x" * 5000 + " 0", "does not exist|leads nowhere"),
    "a path too deep": ("x/" * 5000 + "y 0", "does not exist|leads nowhere"),
    "a huge label": (f"a/0.png {10**18}", "no line has label"),
    "a label of 5,000 digits": ("a/0.png " + "9" * 5000, "is not an integer"),
    "a label of words": ("a/0.png cat", "is not an integer"),
    "a label that is negative": ("a/0.png -1", "is negative"),
    "a label that is NaN": ("a/0.png nan", "is not an integer"),
    "an image twice": ("a/0.png 0\na/./0.png 1", "is already in"),
    "no label": ("a/0.png", "has no label"),
}


@pytest.mark.parametrize("case", LINES)
def test_lines_of_a_list(root: Path, tmp_path: Path, case: str) -> None:
    (root / "link.png").symlink_to(f"../{OUTSIDE}.png")
    (root / "away").symlink_to("..")
    (root / "loop.png").symlink_to("loop.png")
    (root / "round").symlink_to("round")
    os.mkfifo(root / "pipe.png")
    line, match = LINES[case]
    listing = root / "list.txt"
    listing.write_text(f"{line}\nb/0.png 1\n")
    refused(f"list:{listing}", match, tmp_path)


def test_lists_that_are_none(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe.txt")
    refused(f"list:{root}/pipe.txt", "not a regular file", tmp_path)
    refused("list:/dev/zero", "not a regular file", tmp_path)
    with (root / "giant.txt").open("wb") as file:
        file.truncate(1 << 42)
    refused(f"list:{root}/giant.txt", "is larger than 256 MiB", tmp_path)
    (root / "binary.txt").write_bytes(b"\xff\xfe\0\x9f")
    refused(f"list:{root}/binary.txt", "not UTF-8", tmp_path)
    refused(f"imagefolder:{root}", "not a regular file", tmp_path, class_names=root / "pipe.txt")
    refused(f"imagefolder:{root}", "is larger than 16 MiB", tmp_path, class_names=root / "giant.txt")


def link_out(root: Path) -> None:
    (root / "a" / "x.png").symlink_to(f"../../{OUTSIDE}.png")


def folder_out(root: Path) -> None:
    (root / "c").symlink_to("/etc")


def loop_up(root: Path) -> None:
    (root / "a" / "up").symlink_to("..")


def links_doubling(root: Path) -> None:
    """Thirty folders, two links in each to the next: a billion paths."""
    for i in range(30):
        (root / "a" / f"d{i}").mkdir()
        for name in ("x", "y"):
            (root / "a" / f"d{i}" / name).symlink_to(f"../d{i + 1}")
    (root / "a" / "d30").mkdir()


def deep(root: Path) -> None:
    here = root / "a"
    for _ in range(300):
        here = here / "d"
        here.mkdir()


def odd_class(root: Path) -> None:
    folder = os.fsencode(root) + b"/\xff\xfe"
    os.mkdir(folder)  # noqa: PTH102
    Path(os.fsdecode(folder + b"/0.png")).write_bytes(picture(7))


def broken_line(root: Path) -> None:
    (root / "cat\nerror: done").mkdir()
    (root / "cat\nerror: done" / "0.png").write_bytes(picture(7))


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link out": (link_out, "outside the root"),
    "a class that is a link out": (folder_out, "outside the root"),
    "a link to itself": (lambda root: (root / "a" / "x.png").symlink_to("x.png"), "leads nowhere"),
    "a link to nothing": (lambda root: (root / "a" / "x.png").symlink_to("y.png"), "leads nowhere"),
    "a link upwards": (loop_up, "leads back|outside|listed already"),
    "links doubling": (links_doubling, "listed already"),
    "300 folders deep": (deep, "folders deep"),
    "a class that is not UTF-8": (odd_class, "not plain UTF-8"),
    "a class of two lines": (broken_line, "on one line"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(root: Path, tmp_path: Path, case: str) -> None:
    make, match = FOLDERS[case]
    make(root)
    refused(f"imagefolder:{root}", match, tmp_path)


def test_what_is_no_file_is_no_image_and_odd_names_are_fine(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "folder.png").mkdir()
    os.mknod(root / "a" / "zero.png", stat.S_IFREG | 0o600)
    odd = Path(os.fsdecode(os.fsencode(root / "a") + b"/\xff\xfe odd\n.png"))
    odd.write_bytes(picture(50))
    for path in [odd, *root.rglob("*.png")]:
        if path.is_file():
            os.utime(path, (1, 1))
    for identity in ("content", "path"):
        for _ in range(2):  # the second time from the memo
            m = open_manifest(f"imagefolder:{root}", identity=identity, cache=tmp_path / "cache")
            assert [u.partition("/")[2] for u in m.uris[:3]] == ["0.png", "1.png", "zero.png"]
            assert m.uris[3] == odd.relative_to(root).as_posix() and len(m) == 6
            assert read_image(m, 3).size == (8, 8) and len(m.rows_digest) == len(m.truth_digest) == 64
            with pytest.raises(DataError):
                read_image(m, 2)


def test_what_is_swapped_after_the_manifest_was_made_is_not_followed(root: Path, tmp_path: Path) -> None:
    m = open_manifest(f"imagefolder:{root}", identity="path", cache=tmp_path / "cache")
    target = root / "a" / "0.png"
    for make, match in (
        (lambda: target.symlink_to(f"../../{OUTSIDE}.png"), "outside the root"),
        (lambda: target.symlink_to("0.png"), "leads nowhere|cannot be read"),
        (lambda: os.mkfifo(target), "not a regular file"),
        (lambda: target.mkdir(), "not a regular file|Is a directory"),
    ):
        target.unlink()
        make()
        with pytest.raises(DataError, match=match):
            read_image(m, 0)
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
            target.touch()


@pytest.mark.parametrize("name", ["\0", "a\0b", "x" * 5000, "\ud800", "../../etc", "~nobody/x", "%00", "a\nb"])
def test_locations_that_no_file_has(name: str, tmp_path: Path) -> None:
    for source in ("imagefolder", "list", "wds"):
        with pytest.raises(W2SError):
            for data in expand_data(f"{source}:{tmp_path}/{name}"):
                open_manifest(data, cache=tmp_path)


def test_a_hostile_memo_costs_little(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2s_fast.data import identity

    monkeypatch.setattr(identity, "_SECONDS", 0.3)
    expected = open_manifest(f"imagefolder:{root}", cache=tmp_path / "sound").ids
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    for number, schema in enumerate((
        f"CREATE VIEW contents AS {endless} SELECT i AS path, i AS size, i AS mtime_ns, "
        "i AS ctime_ns, i AS inode, i AS id FROM n",
        "CREATE TABLE contents (path, size, mtime_ns, ctime_ns, inode, id); "
        "CREATE TRIGGER t AFTER INSERT ON contents BEGIN "
        "INSERT INTO contents SELECT * FROM contents; INSERT INTO contents SELECT * FROM contents; END",
        "CREATE TABLE contents (path BLOB, size TEXT, mtime_ns REAL, ctime_ns REAL, inode BLOB, id BLOB); "
        "INSERT INTO contents VALUES (x'ff', 'a', 1, 1, x'00', x'00')",
    )):  # fmt: skip
        cache = tmp_path / str(number)
        cache.mkdir()
        with sqlite3.connect(cache / MEMO) as db:
            db.executescript(schema)
        db.close()
        started = time.process_time()
        assert open_manifest(f"imagefolder:{root}", cache=cache).ids == expected
        assert time.process_time() - started < 3
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / MEMO)
    assert open_manifest(f"imagefolder:{root}", cache=tmp_path / "pipe").ids == expected


# ---- tars


def tar_of(path: Path, *entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for info, content in [*entries, *pair("y", 1)]:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, dict(pax)
    return info, content


def pair(key: str, label: int):
    return entry(f"{key}.png", picture(label)), entry(f"{key}.cls", str(label).encode())


MEMBERS = {
    "upwards": (entry("../x.png", picture()), "not a path inside"),
    "upwards within": (entry("a/../../x.png", picture()), "not a path inside"),
    "absolute": (entry("/etc/cron.d/x.png", picture()), "not a path inside"),
    "upwards by pax": (entry("x.png", picture(), path="../../x.png"), "not a path inside"),
    "a hard link": (entry("x.png", kind=tarfile.LNKTYPE, link="/etc/passwd"), "a hard link"),
    "a symbolic link": (entry("x.png", kind=tarfile.SYMTYPE, link="/etc/passwd"), "a symbolic link"),
    "a character device": (entry("x.png", kind=tarfile.CHRTYPE), "a device"),
    "a block device": (entry("x.png", kind=tarfile.BLKTYPE), "a device"),
    "a pipe": (entry("x.png", kind=tarfile.FIFOTYPE), "a pipe"),
    "sparse": (entry("x.png", kind=tarfile.GNUTYPE_SPARSE), "not a plain file"),
    "sparse by pax": (entry("x.png", picture(), **{"GNU.sparse.major": "1"}), "a sparse member"),
    "a huge size by pax": (entry("x.png", picture(), size="9" * 18), "though the tar ends before"),
    "a size that is none": (entry("x.png", picture(), size="-1"), "is not a number"),
    "a long extended header": (entry("x.png", picture(), comment="x" * 100_000), "an extended header of"),
    "a name of two lines": (entry("a\nb.png", picture()), "not a path inside"),
    "a key twice": (entry("y.png", picture()), r"y\.png occurs twice"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_members_of_a_tar(tmp_path: Path, case: str) -> None:
    made, match = MEMBERS[case]
    shard = tar_of(tmp_path / "s.tar", made)
    refused(f"wds:{shard}", match, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["s.tar"]


def test_tars_that_are_none(tmp_path: Path) -> None:
    sound = tar_of(tmp_path / "sound.tar", *pair("x", 0)).read_bytes()
    for number, (content, match) in enumerate((
        (b"", "ends before its end mark"),
        (sound[:600], "though the tar ends before"),
        (sound[:1000], "ends before its end mark"),
        (sound[:1024], "ends before its end mark"),
        (b"\x1f\x8b" + bytes(600), "no tar header"),
        (sound[:124] + b"77777777777\0" + sound[136:], "no tar header"),
        (bytes(1 << 20), "hold no samples"),
    )):  # fmt: skip
        (tmp_path / f"{number}.tar").write_bytes(content)
        refused(f"wds:{tmp_path}/{number}.tar", match, tmp_path)
    with (tmp_path / "giant.tar").open("wb") as file:
        file.truncate(1 << 42)
    refused(f"wds:{tmp_path}/giant.tar", "hold no samples", tmp_path)
    os.mkfifo(tmp_path / "pipe.tar")
    refused(f"wds:{tmp_path}/pipe.tar", "not a regular file", tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.tar").symlink_to("../sound.tar")
    refused(f"wds:{tmp_path}/in/link.tar", "outside the root", tmp_path)
