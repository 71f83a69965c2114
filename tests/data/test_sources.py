from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from pictures import class_folders, save

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.hashing import row_id
from w2s_fast.data import SOURCES, Source, expand_data, open_manifest


def test_every_source_of_the_table_exists() -> None:
    for value in SOURCES.values():
        module, _, attribute = value.partition(":")
        assert isinstance(getattr(import_module(module), attribute), Source)


def test_listing_sources_imports_no_library() -> None:
    code = (
        "import sys, w2s_fast.data as d; d.sources(); print([m for m in ('PIL', 'torch', 'numpy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# ---- imagefolder


def test_folders_are_classes(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pets", {"dog": 2, "a cat": 3})
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / "dog" / "._000.png").write_text("left by an archiver")
    (root / "readme.md").write_text("not a class")
    (root / ".git").mkdir()
    save(root / "dog" / "deep" / "x.JPG", 99)
    m = open_manifest(f"imagefolder:{root}", cache=tmp_path)
    assert m.classes == ("a cat", "dog") and m.name == f"imagefolder:{root}"
    assert m.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert m.uris == (*(f"a cat/00{i}.png" for i in range(3)), "dog/000.png", "dog/001.png", "dog/deep/x.JPG")
    assert m.ids == tuple(row_id((root / uri).read_bytes()) for uri in m.uris)
    assert m.splits == ("",) * 6 and m.groups == ("pets",) * 6
    assert m.decode["route"] == "pil"


@pytest.mark.parametrize("pool", ["val", "test"])
def test_train_and_val_or_test_are_the_official_split(tmp_path: Path, pool: str) -> None:
    class_folders(tmp_path / "train", {"a": 1, "b": 2})
    class_folders(tmp_path / pool, {"a": 2, "b": 1}, seed=1)
    m = open_manifest(f"imagefolder:{tmp_path}", cache=tmp_path)
    assert m.splits == ("train",) * 3 + ("test",) * 3
    assert m.labels.tolist() == [0, 1, 1, 0, 0, 1]
    (tmp_path / "extra").mkdir()
    with pytest.raises(DataError, match="extra/ stands beside"):
        open_manifest(f"imagefolder:{tmp_path}", cache=tmp_path)


def test_repeated_images_are_numbered(tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        save(tmp_path / name, 7)
    m = open_manifest(f"imagefolder:{tmp_path}", cache=tmp_path / "cache")
    first = m.ids[0]
    assert m.ids == (first, f"{first}#2", f"{first}#3")


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_manifest(f"imagefolder:{tmp_path}/none")
    root = class_folders(tmp_path / "p", {"a": 1, "b": 1})
    with pytest.raises(DataError, match="is not a folder"):
        open_manifest(f"imagefolder:{root}/a/000.png")
    (root / "c").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*/c holds no images"):
        open_manifest(f"imagefolder:{root}", cache=tmp_path)
    (root / "c").rmdir()
    with pytest.raises(DataError, match="only one class"):
        open_manifest(f"imagefolder:{class_folders(tmp_path / 'one', {'a': 2})}", cache=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no class folders"):
        open_manifest(f"imagefolder:{tmp_path}/empty", cache=tmp_path)
    for part in ("train", "val", "test"):
        class_folders(tmp_path / "three" / part, {"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"both val/ and test/"):
        open_manifest(f"imagefolder:{tmp_path}/three", cache=tmp_path)
    with pytest.raises(DataError, match="--root is for lists"):
        open_manifest(f"imagefolder:{root}", root=tmp_path)


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 1, "b": 1})
    secret = save(tmp_path / "secret.png", 5)
    inner = root / "b" / "inner.png"
    inner.symlink_to(root / "a" / "000.png")
    m = open_manifest(f"imagefolder:{root}", cache=tmp_path)
    assert m.ids[2] == f"{m.ids[0]}#2" and m.uris[2] == "b/inner.png"
    inner.unlink()
    for link, target in ((root / "b" / "x.png", secret), (root / "b" / "deep", tmp_path), (root / "c", tmp_path)):
        link.symlink_to(target)
        with pytest.raises(DataError, match="outside the root"):
            open_manifest(f"imagefolder:{root}", cache=tmp_path)
        link.unlink()
    (root / "b" / "loop").symlink_to(root / "b")
    with pytest.raises(DataError, match="leads back"):
        open_manifest(f"imagefolder:{root}", cache=tmp_path)


# ---- list


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    for index, name in enumerate(
        ("clipart/a dog/x 1.jpg", "clipart/a dog/y.jpg", "clipart/cat/x.png", "clipart/cat/z.png")
    ):
        save(tmp_path / name, index)
    (tmp_path / "clipart_train.txt").write_bytes(b"\xef\xbb\xbfclipart/a dog/x 1.jpg 0\r\n\r\nclipart/cat/x.png 1\r\n")
    (tmp_path / "clipart_test.txt").write_text("clipart/a dog/y.jpg 0\nclipart/cat/z.png\t1")
    return tmp_path


def test_lists_with_spaces_bom_and_crlf(domain: Path) -> None:
    m = open_manifest(f"list:{domain}/clipart_train.txt", cache=domain)
    assert m.uris == ("clipart/a dog/x 1.jpg", "clipart/cat/x.png")
    assert m.labels.tolist() == [0, 1] and m.classes == ("a dog", "cat")
    assert m.groups == ("clipart", "clipart") and m.splits == ("", "")
    assert m.ids == tuple(row_id((domain / uri).read_bytes()) for uri in m.uris)


def test_braces_give_the_official_split(domain: Path) -> None:
    m = open_manifest(f"list:{domain}/clipart_{{train,test}}.txt", cache=domain)
    assert m.splits == ("train", "train", "test", "test") and m.labels.tolist() == [0, 1, 0, 1]


def test_root_and_class_names(domain: Path, tmp_path: Path) -> None:
    listed = tmp_path / "lists" / "one.txt"
    listed.parent.mkdir()
    listed.write_text("a dog/y.jpg 1\ncat/z.png 0\n")
    with pytest.raises(DataError, match=r"one.txt, line 1: the image .* does not exist"):
        open_manifest(f"list:{listed}")
    names = tmp_path / "names.txt"
    names.write_text("feline\ncanine\n")
    m = open_manifest(f"list:{listed}", root=domain / "clipart", class_names=names, cache=tmp_path)
    assert m.classes == ("feline", "canine") and m.groups == ("one", "one")
    names.write_text("feline\n")
    with pytest.raises(DataError, match="line 1: label 1 is out of range for 1 class names"):
        open_manifest(f"list:{listed}", root=domain / "clipart", class_names=names, cache=tmp_path)


def test_class_names_fall_back_to_numbers(domain: Path) -> None:
    listed = domain / "mixed.txt"
    listed.write_text("clipart/a dog/y.jpg 0\nclipart/cat/x.png 1\nclipart/cat/z.png 0\n")
    with pytest.raises(DataError, match="line 3: 'clipart/cat/z.png' has label 0, and .*line 2: .* has 1; 1 lines"):
        open_manifest(f"list:{listed}", cache=domain)
    listed.write_text("clipart/cat/x.png 1\nclipart/cat/z.png 0\n")
    assert open_manifest(f"list:{listed}", cache=domain).classes == ("0", "1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clipart/cat/x.png 0\nclipart/cat/none.png 1", "line 2: the image .*none.png does not exist"),
        ("clipart/cat/x.png", "line 1: 'clipart/cat/x.png' has no label"),
        ("clipart/cat/x.png 0\nclipart/a dog/y.jpg -1", "line 2: the label -1 is negative"),
        ("clipart/a dog/y.jpg", "line 1: the label 'dog/y.jpg' is not an integer"),
        ("clipart/cat/x.png 0\nclipart/cat/z.png 2", "no line has label 1"),
        ("clipart/cat/x.png 0\nclipart/cat/../cat/x.png 1", "line 2: .*x.png' is already in .*line 1"),
        ("clipart/cat/x.png 0\nclipart/cat/z.png 0", "only one class"),
        ("../x.png 0", "outside the root"),
        ("/etc/hostname 0", "outside the root"),
        ("\n \r\n", "the list is empty"),
    ],
)
def test_list_errors_name_file_and_line(domain: Path, text: str, says: str) -> None:
    listed = domain / "bad.txt"
    listed.write_text(text)
    with pytest.raises(DataError, match=says):
        open_manifest(f"list:{listed}", cache=domain)


def test_missing_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the list .*none.txt cannot be read"):
        open_manifest(f"list:{tmp_path}/none.txt")
    with pytest.raises(DataError, match="does not exist"):
        open_manifest(f"list:{tmp_path}/no/none.txt")


# ---- names and globs


def test_bare_paths_and_unknown_sources(tmp_path: Path) -> None:
    listed = tmp_path / "a.txt"
    listed.write_text("")
    for data, says in (
        (str(tmp_path), f"write imagefolder:{tmp_path}"),
        (str(listed), f"write list:{listed}"),
        ("data/clipart", "write imagefolder:data/clipart"),
        ("sketch", "write imagefolder:sketch"),
        ("imagefoldr:/p", "unknown data source 'imagefoldr' .*did you mean 'imagefolder'"),
        ("wdz:/p", "unknown data source 'wdz' .*did you mean 'wds'"),
        ("list:", "names no location"),
    ):
        with pytest.raises(UsageError, match=says):
            open_manifest(data)
    with pytest.raises(UsageError, match="identity 'contents'"):
        open_manifest("drawn:sketch", identity="contents")


def test_globs(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    for name in ("x_train.txt", "y_train.txt", "y_test.txt", "retrain.txt"):
        (tmp_path / name).write_text("")
    assert expand_data(f"imagefolder:{tmp_path}/*") == [f"imagefolder:{tmp_path}/{n}" for n in "abc"]
    assert expand_data([f"list:{tmp_path}/*_train.txt"]) == [f"list:{tmp_path}/{n}_train.txt" for n in "xy"]
    braces = f"list:{tmp_path}/?_{{train,test}}.txt"
    assert expand_data([braces]) == [f"list:{tmp_path}/{n}_{{train,test}}.txt" for n in "xy"]
    assert expand_data([f"imagefolder:{tmp_path}/a", f"imagefolder:{tmp_path}/[ab]"]) == [
        f"imagefolder:{tmp_path}/{n}" for n in "ab"
    ]
    with pytest.raises(DataError, match="no data set matches"):
        expand_data([f"imagefolder:{tmp_path}/z*"])
    with pytest.raises(UsageError, match="has no source prefix"):
        expand_data([str(tmp_path)])


def test_drawn_globs() -> None:
    six = [f"drawn:{d}" for d in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")]
    assert sorted(expand_data("drawn:*")) == sorted(expand_data("drawn")) == six
    assert expand_data(["drawn:s*", "drawn:sketch"]) == ["drawn:sketch"]


# ---- identity


def test_identity_by_path(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 1, "b": 1})
    before = open_manifest(f"imagefolder:{root}", identity="path", cache=tmp_path)
    assert before.ids != open_manifest(f"imagefolder:{root}", cache=tmp_path).ids
    assert before.decode["identity"] == "path"
    moved = root.rename(tmp_path / "q")
    assert open_manifest(f"imagefolder:{moved}", identity="path", cache=tmp_path).ids == before.ids
    size = (moved / "a" / "000.png").stat().st_size
    assert before.ids[0] == row_id(f"a/000.png\n{size}".encode())
    with (moved / "a" / "000.png").open("ab") as file:
        file.write(b"x")
    assert open_manifest(f"imagefolder:{moved}", identity="path", cache=tmp_path).ids[0] != before.ids[0]


def test_ids_survive_renames_and_follow_contents(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 2, "b": 1})
    before = open_manifest(f"imagefolder:{root}", cache=tmp_path).ids
    (root / "a").rename(root / "z")
    assert set(open_manifest(f"imagefolder:{root}", cache=tmp_path).ids) == set(before)
    save(root / "b" / "000.png", 12345)
    assert set(open_manifest(f"imagefolder:{root}", cache=tmp_path).ids) != set(before)


def test_labels_are_int64(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "p", {"a": 1, "b": 1})
    assert open_manifest(f"imagefolder:{root}", cache=tmp_path).labels.dtype == np.int64
    root.rename(tmp_path / "q")
    with pytest.raises(DataError):
        open_manifest(f"imagefolder:{root}", cache=tmp_path)


def test_a_path_with_brackets_is_no_glob(tmp_path: Path) -> None:
    odd = class_folders(tmp_path / "photos [2024]", {"a": 1, "b": 1})
    class_folders(tmp_path / "photos 2", {"a": 1, "b": 1})
    assert expand_data(f"imagefolder:{odd}") == [f"imagefolder:{odd}"]
    assert expand_data(f"imagefolder:{tmp_path}/photos [0-9]") == [f"imagefolder:{tmp_path}/photos 2"]
    for part in ("train", "test"):
        (odd / f"l_{part}.txt").write_text("a/000.png 0\n")
    assert expand_data(f"list:{odd}/l_{{train,test}}.txt") == [f"list:{odd}/l_{{train,test}}.txt"]


def test_messages_say_what_to_write(tmp_path: Path) -> None:
    for data in ("", " "):
        with pytest.raises(UsageError, match="write imagefolder:PATH"):
            open_manifest(data)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"fotos does not exist; correct the path, .* did you mean .*/photos\?"):
        open_manifest(f"imagefolder:{tmp_path / 'fotos'}", cache=tmp_path)
