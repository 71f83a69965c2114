"""Bad input at the command line: one sentence on stderr that says what, where and how to fix it; status 1 or 2."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from w2s_fast_cli.options import spread

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of eight images."""
    for label, shade in (("cat", 40), ("dog", 200)):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (32, 32), (shade, i, 0)).save(tmp_path / "pics" / label / f"{i}.png")
    return tmp_path / "pics"


def one_sentence(err: str) -> str:
    """The last line of stderr, which must be the error, alone and without a traceback."""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert lines[-1].startswith("error: ") and not any(line.startswith("error: ") for line in lines[:-1])
    return lines[-1]


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["train", "--loss", "kl"], 2, "no loss 'kl'"),
        (["train", "--loss", "cpl", "--head", "linear"], 2, "--loss kd --head linear"),
        (["train", "--head", "linear"], 2, "needs a loss"),
        (["train", "--method", "cplx"], 2, "no method 'cplx'"),
        (["train", "--method", "cpl", "--seeds", "x"], 2, "give a count (5) or a range"),
        (["train", "--method", "cpl", "--set", "lr"], 2, "write --set key=value"),
        (["train", "--loss", "/nowhere.py:mine"], 2, "there is no file /nowhere.py"),
        (["extract", "--data", "/some/folder"], 2, "write imagefolder:/some/folder"),
        (["extract", "--data", "imagefoldr:x"], 2, "'imagefolder'"),
        (["extract", "--data", "imagefolder:/no/such/place"], 1, "/no/such/place"),
        (["extract", "--data", "drawn:sketsh"], 1, "'sketch'"),
        (["extract", "--data", "drawn:x*"], 1, "no data set matches"),
        (["extract", "--template", "a photo"], 2, "exactly one {}"),
        (["weak", "--data", "drawn:sketch", "--name", "../x"], 2, "use letters"),
        (["weak", "--data", "drawn:sketch", "--epochs", "1", "--steps", "1"], 2, "not both"),
        (["report", "/no/such.jsonl"], 1, "no results file"),
        (["cache", "info", "abc"], 2, "abc"),
        (["export", "/no/head", "--out", "x"], 1, "no file"),
        (["data", "split", "drawn:sketch", "--mode", "rot"], 2, "'rotate'"),
    ],
)
def test_wrong_names_and_places(said: Said, argv: list[str], status: int, words: str) -> None:
    code, out, err = said(*argv)
    assert (code, out) == (status, "")
    assert words in one_sentence(err)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet18", "has no library prefix"),
        ("tim:resnet18", "'timm'"),
        ("timm:resnet18x", "'resnet18'"),
        ("open_clip:ViT-B-33/openai", "ViT-B-32"),
        ("open_clip:ViT-B-32/opnai", "openai"),
        ("torchvision:resnet19", "resnet18"),
        ("local:/no/such/dir", "/no/such/dir"),
        ("weak:nobody", "w2s-fast weak"),
        ("drawn:cnn", "w2s-fast weak"),
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32/openai@"),
    ],
)
def test_models_that_cannot_be_had(said: Said, pictures: Path, model: str, words: str) -> None:
    code, out, err = said("extract", "--data", f"imagefolder:{pictures}", "--model", model)
    assert code in (1, 2) and out == ""
    assert words in one_sentence(err)


def spoil(pictures: Path, how: str) -> list[str]:
    """Damage the folder, and give the data that names it."""
    data = f"imagefolder:{pictures}"
    if how == "empty class":
        (pictures / "eel").mkdir()
    elif how == "one class":
        for path in (pictures / "dog").iterdir():
            path.unlink()
        (pictures / "dog").rmdir()
    elif how == "no valid image":
        for number, path in enumerate(pictures.rglob("*.png")):
            path.write_bytes(b"not an image %d" % number)
    else:
        lines = {
            "missing file": "cat/0.png 0\ndog/99.png 1\n",
            "negative label": "cat/0.png 0\ndog/0.png -1\n",
            "label skipped": "cat/0.png 0\ndog/0.png 7\n",
            "duplicate": "cat/0.png 0\ndog/0.png 1\ncat/0.png 0\n",
        }[how]
        (pictures / "list.txt").write_text(lines)
        data = f"list:{pictures / 'list.txt'}"
    return ["--data", data]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty class", "eel"),
        ("one class", "only one class"),
        ("no valid image", "none of its 16 images can be read"),
        ("missing file", "dog/99.png"),
        ("negative label", "-1"),
        ("label skipped", "label"),
        ("duplicate", "cat/0.png"),
    ],
)
def test_data_that_cannot_be_used(said: Said, pictures: Path, how: str, words: str) -> None:
    code, out, err = said("extract", *spoil(pictures, how), "--model", "drawn:clip")
    assert code == 1 and out == ""
    assert words in one_sentence(err)


def test_unreadable_images_are_done_in_part_and_train_refuses(said: Said, pictures: Path) -> None:
    whole = (pictures / "cat" / "0.png").read_bytes()
    (pictures / "cat" / "0.png").write_bytes(whole[:60])
    data = f"imagefolder:{pictures}"
    code, _, err = said("extract", "--data", data, "--model", "drawn:clip")
    assert code == 3 and "1 images could not be read" in err
    assert said("weak", "--data", data, "--name", "w", "--steps", "3")[0] in (0, 1)


def test_a_traceback_only_with_debug() -> None:
    command = [sys.executable, "-m", "w2s_fast_cli", "train", "--loss", "kl"]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 2 and "Traceback" not in plain.stderr
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, timeout=120)
    assert debug.returncode != 0 and "Traceback" in debug.stderr


def test_flags_take_several_values() -> None:
    args = ["train", "--method", "cpl", "kd+lp", "--seeds", "2", "--data", "a", "b", "-q", "--loss", "ce"]
    expected = "train --method cpl --method kd+lp --seeds 2 --data a --data b -q --loss ce"
    assert spread(args) == expected.split()
