"""Rows encoded again agree with their bank; what made other numbers is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from w2s_fast.core.errors import DataError, IdMismatch, ModelError, UsageError
from w2s_fast.data import open_manifest
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.recompute import recompute
from w2s_fast.extract.text import Prompts, extract_text
from w2s_fast.extract.worker import extract
from w2s_fast.store import Bank, begin_bank, complete_bank, open_bank, open_key, write_part, write_ref

MODEL = "timm:test_resnet"
OPTIONS = ExtractOptions(random_weights=True, batch_size=8, workers=0, device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(6):
            image = Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), np.uint8))
            image.save(tmp_path / "images" / label / f"{i:02d}.png")
    return tmp_path / "images"


@pytest.fixture
def bank(folder: Path, tmp_path: Path) -> Bank:
    """12 rows, one of them unreadable."""
    (folder / "dog" / "03.png").write_bytes(b"no image")
    data = f"imagefolder:{folder}"
    extract(open_manifest(data), [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    return open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key())


def forged(bank: Bank, cache: Path, change) -> Bank:
    """A consistent bank of the same key with other numbers, as no checksum can tell."""
    features, logits = change(bank.array("features").astype(np.float32)), bank.array("logits")
    assert bank.packed_ids is not None and bank.ok is not None and len(bank.ids) == bank.rows
    shutil.rmtree(bank.folder)
    folder = begin_bank(cache, bank.ingredients)
    norms = np.linalg.norm(features, axis=1)
    write_part(
        folder, 0, ids=bank.ids, features=features, logits=logits, norms=norms, ok=bank.ok, failures=bank.failures
    )
    complete_bank(folder, rows=bank.rows, rows_digest=bank.rows_digest)
    return open_key(bank.key, cache=cache)


def test_a_sound_bank_agrees_row_by_row(bank: Bank, tmp_path: Path) -> None:
    for count, rows in ((5, 5), (99, 11)):
        found = recompute(bank, count, batch_size=4, device="cpu", cache=tmp_path / "cache")
        assert found.rows == rows
        assert found.min_cosine > 0.99999 and found.mean_cosine >= found.min_cosine
        assert found.max_delta <= 2e-3 * found.scale + 2e-3 * np.abs(bank.array("features")).max()
        assert found.logits_max_delta is not None and found.logits_max_delta < 1e-2


def test_rows_in_another_order_are_seen(bank: Bank, tmp_path: Path) -> None:
    def rolled(features):
        features[bank.ok] = np.roll(features[bank.ok], 1, axis=0)
        return features

    before = recompute(bank, 11, device="cpu", cache=tmp_path / "cache")
    after = recompute(forged(bank, tmp_path / "cache", rolled), 11, device="cpu", cache=tmp_path / "cache")
    assert after.max_delta > 20 * before.max_delta and after.min_cosine < before.min_cosine


def test_the_size_of_a_difference_is_the_size_of_the_change(bank: Bank, tmp_path: Path) -> None:
    def bumped(features):
        features[bank.ok, 3] += 0.5
        return features

    found = recompute(forged(bank, tmp_path / "cache", bumped), 11, device="cpu", cache=tmp_path / "cache")
    assert found.max_delta == pytest.approx(0.5, abs=5e-3)


def test_moved_images_are_found_where_one_says(bank: Bank, folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="images"):
        recompute(bank, 3, device="cpu", cache=tmp_path / "cache")
    found = recompute(bank, 3, data=f"imagefolder:{moved}", device="cpu", cache=tmp_path / "cache")
    assert found.min_cosine > 0.99999
    (moved / "cat" / "00.png").unlink()
    with pytest.raises(IdMismatch, match=bank.ids[0]):
        recompute(bank, 99, data=f"imagefolder:{moved}", device="cpu", cache=tmp_path / "cache")


def test_another_model_behind_the_name_is_told(bank: Bank, folder: Path, tmp_path: Path) -> None:
    write_ref(
        tmp_path / "cache", model="timm:test_vit", data=f"imagefolder:{folder}", options={"a": 1}, key=bank.key,
        rows_digest=bank.rows_digest,
    )  # fmt: skip
    for path in sorted((tmp_path / "cache/v1/refs").glob("*.json")):
        if b"test_resnet" in path.read_bytes():
            path.unlink()
    with pytest.raises(ModelError, match="weights"):
        recompute(bank, 3, device="cpu", cache=tmp_path / "cache")


def test_no_reference_and_no_rows(bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        recompute(bank, 0, cache=tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache/v1/refs")
    with pytest.raises(UsageError, match="no reference names bank"):
        recompute(bank, 3, cache=tmp_path / "cache")


def test_class_names_too(tmp_path: Path) -> None:
    prompts = Prompts(classes=("axe", "bird", "cat"), templates=("a drawing of a {}",))
    done = extract_text("drawn:clip", prompts, cache=tmp_path)
    found = recompute(open_key(done.key, cache=tmp_path), 2, cache=tmp_path)
    assert found.rows == 2 and found.max_delta == 0 and found.logits_max_delta is None
