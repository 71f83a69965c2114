"""What is another bank and what is the same: keys change with what changes numbers, and with nothing else."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from w2s_fast.data import open_manifest
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.plan import plan
from w2s_fast.extract.text import Prompts, extract_text
from w2s_fast.store import why
from w2s_fast.store.keys import key_bytes

OPTIONS = ExtractOptions(device="cpu", workers=0)
GOLDEN = Path(__file__).with_name("golden_keys.json")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four images, as BMP: the bytes of a compressed file are the compressor's."""
    for label, shade in (("axe", 40), ("bird", 200)):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 36), (shade, i, 7)).save(tmp_path / "pics" / label / f"{i}.bmp")
    return tmp_path / "pics"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with the embedded CLIP in it."""
    return Path(shutil.copytree(str(files("w2s_fast") / "assets/drawn_clip"), tmp_path / "checkpoint"))


def job(folder: Path, model: str, tmp_path: Path, **options):
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    chosen = replace(OPTIONS, **options)
    return plan(manifest, [model], data=data, options=chosen, cache=tmp_path / "cache", device="cpu")[0]


def test_golden_keys(pictures: Path, tmp_path: Path) -> None:
    """A key that changes makes everybody extract everything again: only a new format may do that."""
    golden = json.loads(GOLDEN.read_text())
    images = job(pictures, "drawn:clip", tmp_path)
    assert images.ingredients == golden["images"]["ingredients"]
    assert images.key == golden["images"]["key"]
    text = extract_text(
        "drawn:clip", Prompts(classes=("axe", "bird"), templates=("a drawing of a {}",)), cache=tmp_path / "cache"
    )
    assert text.key == golden["text"]["key"]


def test_one_byte_of_one_weight_tensor_is_another_key(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    before = job(pictures, f"local:{checkpoint}", tmp_path)
    path = checkpoint / "open_clip_model.safetensors"
    tensors = load_file(path)
    name = sorted(n for n in tensors if n.startswith("visual"))[3]
    tensors[name].reshape(-1).view(np.uint8)[5] ^= 1
    save_file(tensors, path)
    after = job(pictures, f"local:{checkpoint}", tmp_path)
    assert after.key != before.key and why(before.ingredients, after.ingredients) == ["weights"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("interpolation", "bilinear"), ("mean", [0.5, 0.5, 0.25]), ("resize_mode", "squash"), ("std", [0.5, 0.5, 0.51])],
)
def test_another_preprocessing_is_another_key(pictures: Path, checkpoint: Path, tmp_path: Path, field, value) -> None:
    before = job(pictures, f"local:{checkpoint}", tmp_path)
    path = checkpoint / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"][field] = value
    path.write_text(json.dumps(config))
    after = job(pictures, f"local:{checkpoint}", tmp_path)
    changed = why(before.ingredients, after.ingredients)
    assert after.key != before.key and changed and all(path.startswith("preprocess") for path in changed)


def test_other_images_and_another_order_are_another_key(pictures: Path, tmp_path: Path) -> None:
    before = job(pictures, "drawn:clip", tmp_path)
    (pictures / "axe" / "0.bmp").rename(pictures / "axe" / "9.bmp")
    swapped = job(pictures, "drawn:clip", tmp_path)
    Image.new("RGB", (40, 36), (1, 2, 3)).save(pictures / "axe" / "9.bmp")
    other = job(pictures, "drawn:clip", tmp_path)
    assert len({before.key, swapped.key, other.key}) == 3
    assert why(before.ingredients, swapped.ingredients) == why(before.ingredients, other.ingredients) == ["rows"]


@pytest.mark.parametrize("options", [{"compute": "bf16"}, {"tf32": True}, {"stored": "f32"}])
def test_other_precision_is_another_key(pictures: Path, tmp_path: Path, options) -> None:
    assert job(pictures, "drawn:clip", tmp_path, **options).key != job(pictures, "drawn:clip", tmp_path).key


def test_what_changes_no_number_is_the_same_key(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Labels, class names, root path, the checkpoint's folder, batch size, workers; and the file's own layout."""
    before = job(pictures, f"local:{checkpoint}", tmp_path)
    moved = pictures.rename(tmp_path / "elsewhere")
    (moved / "axe").rename(moved / "ant")
    (moved / "bird" / "0.bmp").rename(moved / "ant" / "zz.bmp")  # another label, the same place in the order
    other = checkpoint.rename(tmp_path / "other name")
    path = other / "open_clip_model.safetensors"
    tensors = load_file(path)
    save_file(dict(reversed(tensors.items())), path, metadata={"saved": "again"})
    after = job(moved, f"local:{other}", tmp_path, batch_size=3, workers=2, max_failures=7)
    assert after.data != before.data and key_bytes(after.ingredients) == key_bytes(before.ingredients)
    assert after.key == before.key


def test_class_names_templates_and_their_order_decide_a_text_bank(tmp_path: Path) -> None:
    def key(classes, templates=("a drawing of a {}",)) -> str:
        return extract_text("drawn:clip", Prompts(classes=classes, templates=templates), cache=tmp_path).key

    keys = [
        key(("axe", "bird")),
        key(("bird", "axe")),
        key(("axe", "bird"), ("a photo of a {}",)),
        key(("axe", "bird"), ("a drawing of a {}", "a photo of a {}")),
        key(("axe", "bird"), ("a photo of a {}", "a drawing of a {}")),
    ]
    assert len(set(keys)) == len(keys)
    assert key(("axe", "bird")) == keys[0]
