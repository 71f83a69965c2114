"""Classes are joined by name, whatever order either side has; where names cannot decide, both orders are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import w2s_fast as w2s
from w2s_fast.backbones.weak import list_supervisors
from w2s_fast.core.classes import class_name, columns, in_order, lookalikes, renamed
from w2s_fast.core.errors import DataError, MissingText
from w2s_fast.core.prompts import spoken
from w2s_fast.data import open_manifest
from w2s_fast.data.manifest import Manifest, read_names
from w2s_fast.extract.options import ExtractOptions

RECIPE = {"steps": 120, "batch_size": 16}
OPTIONS = ExtractOptions(workers=0)


def pictures(folder: Path, kinds: list[str], count: int = 14) -> None:
    """Each kind a colour of its own, by its place in `kinds`, with noise: easy to learn, and no image twice."""
    rng = np.random.default_rng(0)
    colours = np.random.default_rng(7).integers(0, 230, (len(kinds), 3))
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            pixels = colours[number] + rng.integers(0, 25, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{number}-{i}.png")


def weak_accuracy(data: str, cache: Path, **more: object) -> float:
    task = w2s.open_task(data, weak="weak:w", cache=cache, options=OPTIONS, **more)  # type: ignore[arg-type]
    return float((task.weak_logits[0].argmax(1) == task.labels).float().mean())


@pytest.fixture
def trained(tmp_path: Path) -> tuple[str, Path, Path, float]:
    """Six classes, a supervisor of them, and its accuracy on all images."""
    root, cache = tmp_path / "photos", tmp_path / "cache"
    pictures(root, ["ape", "bat", "cow", "dog", "elk", "fox"])
    data = f"imagefolder:{root}"
    list(w2s.train_supervisors([data], model="drawn:cnn", name="w", recipe=RECIPE, cache=cache))
    before = weak_accuracy(data, cache)
    assert before > 0.8
    return data, root, cache, before


def test_a_renamed_class_folder_is_refused_or_joined(trained: tuple[str, Path, Path, float], tmp_path: Path) -> None:
    data, root, cache, before = trained
    (root / "ape").rename(root / "zebra")
    with pytest.raises(
        DataError, match=r"knows the classes 'ape', 'bat'.*has 'bat', 'cow'.*by name, never by position: 1 .*'zebra'"
    ):
        weak_accuracy(data, cache)
    names = tmp_path / "names.tsv"
    names.write_text("zebra\tape\n" + "".join(f"{c}\t{c}\n" for c in ("bat", "cow", "dog", "elk", "fox")))
    list(w2s.extract_all([data], ["drawn:clip", "weak:w"], class_names=names, cache=cache, options=OPTIONS))
    assert weak_accuracy(data, cache, class_names=names) == before


def test_a_list_in_another_order_than_the_folders(trained: tuple[str, Path, Path, float], tmp_path: Path) -> None:
    data, root, cache, before = trained
    order = ["fox", "ape", "elk", "bat", "dog", "cow"]
    manifest = open_manifest(data, cache=cache)
    lines = [f"{uri} {order.index(uri.partition('/')[0])}" for uri in manifest.uris]
    (tmp_path / "official.txt").write_text("\n".join(lines))
    kept = list_supervisors(cache)[0].card["classes"]
    listed = f"list:{tmp_path}/official.txt"
    assert open_manifest(listed, root=root).classes == tuple(order) != tuple(kept)
    assert weak_accuracy(listed, cache, root=root) == before


def test_numbered_folders_go_by_value_and_keep_older_supervisors(tmp_path: Path) -> None:
    kinds = [str(i) for i in range(12)]
    pictures(tmp_path / "photos", kinds)
    data, cache = f"imagefolder:{tmp_path}/photos", tmp_path / "cache"
    assert open_manifest(data).classes == tuple(kinds)  # as text, 10 came before 2
    list(w2s.train_supervisors([data], model="drawn:cnn", name="w", recipe=RECIPE, cache=cache))
    before = weak_accuracy(data, cache)
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    (tmp_path / "names.txt").write_text("\n".join(words))
    task = w2s.open_task(
        data, weak="weak:w", cache=cache, options=OPTIONS, class_names=tmp_path / "names.txt", templates=("a {}",)
    )
    assert task.classes[10] == "ten"
    uris = np.array(task.manifest.uris)
    assert {words[i] for i in task.labels[torch.from_numpy(np.char.startswith(uris, "2/"))]} == {"two"}
    assert float((task.weak_logits[0].argmax(1) == task.labels).float().mean()) == before > 0.5


# ---- joins without a model


@pytest.mark.parametrize(
    ("of", "wanted", "known", "expected"),
    [
        (["a", "b", "c"], ["a", "b", "c"], (), [0, 1, 2]),
        (["c", "a", "b"], ["a", "b", "c"], (), [1, 2, 0]),
        (["0", "1", "10", "2"], ["0", "1", "2", "10"], (), [0, 1, 3, 2]),
        (["n02", "n01"], ["cat", "dog"], ("n01", "n02"), [1, 0]),
        (["cafe\u0301", "b"], ["b", "caf\u00e9"], (), [1, 0]),
        (["a", "b"], ["a", "c"], (), "1 of the names are on one side only, such as 'c'"),
        (["0", "1"], ["cat", "dog"], (), "knows the classes '0', '1', and data has 'cat', 'dog'"),
    ],
)
def test_columns(of: list[str], wanted: list[str], known: tuple[str, ...], expected: list[int] | str) -> None:
    if isinstance(expected, list):
        assert columns(of, wanted, what="m", other="data", known_as=known) == expected
        return
    with pytest.raises(DataError, match=expected):
        columns(of, wanted, what="m", other="data", known_as=known)


@pytest.mark.parametrize(
    ("own", "text", "by_number", "expected"),
    [
        (("0", "1", "2"), "zero\none\ntwo", False, ("zero", "one", "two")),
        (("a", "b"), "b\tbee\na\tay", False, ("ay", "bee")),
        (("a", "b"), "b\na", False, ("a", "b")),
        (
            ("n01", "n02"),
            "cat\ndog",
            False,
            "by position: 'cat', 'dog' and 'n01', 'n02'; write its lines as `old<TAB>new`",
        ),
        (("a", "b"), "a\tx", False, "has no line for 'b'"),
        (("b", "a"), "a\nb", True, "number the classes 'b', 'a' by their folders.*the orders differ at 2 of 2"),
        (("cat", "dog"), "feline\ncanine", True, ("feline", "canine")),
        (("cat", "dog"), "dog\ncow", True, "cannot be joined"),
        (("0", "1"), "x", True, "has 1 names, but d has 2 classes"),
        (("a", "b"), "a\tx\nb", False, "line 2: every line is a name, or every line is"),
    ],
)
def test_class_names_files(
    own: tuple[str, ...], text: str, by_number: bool, expected: tuple[str, ...] | str, tmp_path: Path
) -> None:
    (tmp_path / "n.txt").write_text(text)
    if isinstance(expected, tuple):
        assert renamed(own, read_names(tmp_path / "n.txt"), where="d", by_number=by_number) == expected
        return
    with pytest.raises(DataError, match=expected):
        renamed(own, read_names(tmp_path / "n.txt"), where="d", by_number=by_number)


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["dog", "Dog"], ("dog", "Dog")),
        (["hot dog", "hot_dog"], ("hot dog", "hot_dog")),
        (["x", "caf\u00e9", "cafe\u0301"], ("caf\u00e9", "cafe\u0301")),
        (["a", "b"], None),
        (["1", "01"], None),
    ],
)
def test_lookalikes(names: list[str], pair: tuple[str, str] | None) -> None:
    assert lookalikes(names) == pair


def test_lookalike_folders_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, ["dog", "Dog"], count=2)
    with pytest.raises(DataError, match="'Dog' and 'dog' differ in case, spaces, underscores or Unicode's forms only"):
        open_manifest(f"imagefolder:{tmp_path}")
    pictures(tmp_path / "u", ["caf\u00e9", "cafe\u0301"], count=2)
    with pytest.raises(DataError, match="are one name in two spellings"):
        open_manifest(f"imagefolder:{tmp_path}/u")
    assert class_name(" cafe\u0301 ") == "caf\u00e9" and in_order(["10", "9", "b"]) == ["10", "9", "b"]


def listed(tmp_path: Path, **lists: str) -> Manifest:
    pictures(tmp_path / "p", ["ant", "bee", "cat"], count=4)
    for name, text in lists.items():
        (tmp_path / "p" / f"x_{name}.txt").write_text(text)
    name = "x_{train,test}.txt" if len(lists) == 2 else f"x_{next(iter(lists))}.txt"
    return open_manifest(f"list:{tmp_path}/p/{name}")


def lines(order: list[str], of: range) -> str:
    at = {"ant": 0, "bee": 1, "cat": 2}
    return "\n".join(f"{kind}/{at[kind]}-{i}.png {order.index(kind)}" for kind in at for i in of)


def test_two_lists_with_two_numberings_are_refused(tmp_path: Path) -> None:
    one, two = ["ant", "bee", "cat"], ["cat", "bee", "ant"]
    with pytest.raises(
        DataError, match=r"x_test.txt, line 1: 'ant/0-2.png' has label 2, and .*x_train.txt, line 1: 'ant/0"
    ):
        listed(tmp_path, train=lines(one, range(2)), test=lines(two, range(2, 4)))


def test_lines_that_contradict_their_folders_are_named(tmp_path: Path) -> None:
    text = lines(["ant", "bee", "cat"], range(4)).replace("bee/1-2.png 1", "bee/1-2.png 0")
    with pytest.raises(
        DataError, match=r"line 7: 'bee/1-2.png' has label 0, and .*line 5: 'bee/1-0.png'.*has 1; 1 lines"
    ):
        listed(tmp_path, all=text)


def test_folders_that_are_no_classes_are_no_contradiction(tmp_path: Path) -> None:
    text = "ant/0-0.png 0\nant/0-1.png 1\nbee/1-0.png 0\nbee/1-1.png 1\ncat/2-0.png 0\n"
    assert listed(tmp_path, all=text).classes == ("0", "1")


def test_numbers_are_no_prompts() -> None:
    with pytest.raises(MissingText, match="'3' is a number, not a name; give the names with --class-names"):
        spoken(["cat", "3"])
