"""The shipped drawn CLIP: what its captions say, what its folder holds, and that it sees what its card says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.drawn_clip import captions, pretrain, vocabulary
finally:
    sys.path.remove(str(ROOT))

from w2s_fast.data import drawn  # noqa: E402
from w2s_fast.data.drawn.things import THINGS  # noqa: E402

CARD = json.loads((pretrain.ASSETS / "card.json").read_text())
IDS = json.loads((pretrain.ASSETS / "vocabulary.json").read_text())["ids"]


def test_rare_names_never_stand_alone():
    assert tuple(sorted(captions.COMPOUNDS)) == drawn.CLASSES[1::2]
    rng = np.random.default_rng(0)
    texts = [captions.caption(name, "real", None, rng) for name in drawn.OBJECTS for _ in range(200)]
    compounds = {compound for compound, _ in captions.COMPOUNDS.values()}
    for text in texts:
        for compound in compounds:
            text = text.replace(compound, "")
        assert not set(captions.COMPOUNDS) & set(text.replace(",", " ").replace(".", " ").split()), text


def test_other_names_do_not_hold_rare_names():
    words = {word for thing in THINGS.values() for name in (thing.kind, *thing.also) for word in name.split()}
    assert not words & set(captions.COMPOUNDS)


def test_folder():
    assert (pretrain.ASSETS / "open_clip_model.safetensors").stat().st_size <= 4_000_000
    config = json.loads((pretrain.ASSETS / "open_clip_config.json").read_text())
    assert config == {"model_cfg": pretrain.model_config(len(IDS)), "preprocess_cfg": pretrain.PREPROCESS}
    assert CARD["renderer"] == drawn.RENDERER
    assert set(CARD["zero_shot"]) == set(drawn.DOMAINS)
    assert set(vocabulary.kept_ids([])) <= set(IDS)


def test_vocabulary_is_closed():
    rows = vocabulary.compact(["a photo of a fish", "a photo of a nine", "an infograph"], IDS)
    assert rows[0, 0] == len(IDS) - 2
    assert rows.max() == len(IDS) - 1
    with pytest.raises(KeyError, match="zebra"):
        vocabulary.compact(["a photo of a fish", "a photo of a zebra"], IDS)


def test_zero_shot_is_that_of_the_card():
    import open_clip

    model = open_clip.create_model(f"local-dir:{pretrain.ASSETS}", precision="fp32")
    found = pretrain.zero_shot(model, IDS, space="pool", per_class=5)
    for domain, accuracy in CARD["zero_shot"].items():
        standard_error = np.sqrt(accuracy * (100 - accuracy) / 200)
        assert abs(found[domain] - accuracy) < 4 * standard_error, domain


def test_preprocessing_leaves_pixels():
    import open_clip
    from PIL import Image

    transform = open_clip.create_model_and_transforms(f"local-dir:{pretrain.ASSETS}", precision="fp32")[2]
    image = drawn.render("real", "fish", space="train", index=0)
    np.testing.assert_allclose(transform(Image.fromarray(image)), pretrain.normalised(image[None])[0], atol=1e-6)


@pytest.mark.slow
def test_pretraining_runs_and_repeats(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "POOL_PER_CLASS", 1)
    results = []
    for run in ("one", "two"):
        arguments = ["pretrain", "--images", "256", "--epochs", "1", "--out", str(tmp_path / run)]
        monkeypatch.setattr(sys, "argv", arguments)
        pretrain.main()
        results.append((tmp_path / run / "open_clip_model.safetensors").read_bytes())
    assert results[0] == results[1]
    assert (tmp_path / "one" / "open_clip_model.safetensors").stat().st_mode & 0o444 == 0o444
