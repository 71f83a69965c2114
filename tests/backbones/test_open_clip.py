from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import open_clip.factory
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import clip_config, clip_folder, photo

from w2s_fast.backbones import open_encoder
from w2s_fast.core.errors import ModelError
from w2s_fast.core.hashing import canonical_json
from w2s_fast.core.protocols import Encoder


def names(folder: Path) -> str:
    return f"local:{folder}"


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_prepare_and_encode_are_open_clips_own(tmp_path: Path, resize_mode: str) -> None:
    clip_folder(tmp_path)
    path = tmp_path / "open_clip_config.json"
    both = json.loads(path.read_text())
    both["preprocess_cfg"]["resize_mode"] = resize_mode
    path.write_text(json.dumps(both))
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    encoder = open_encoder(names(tmp_path))
    assert isinstance(encoder, Encoder)
    images = [photo(0), photo(1, (32, 32)), photo(2, (300, 40))]
    ours = torch.stack([encoder.prepare(i) for i in images])
    assert torch.equal(ours, torch.stack([transform(i) for i in images]))
    with torch.no_grad():
        expected = net.eval().encode_image(ours)
    features, logits = encoder.encode(ours)
    assert torch.equal(features, expected) and logits is None
    assert features.shape == (3, encoder.dim) == (3, 20) and encoder.classes is None


def test_what_enters_the_key(tmp_path: Path) -> None:
    clip_folder(tmp_path / "a")
    one = open_encoder(names(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = open_encoder(names(tmp_path / "b"))
    assert moved.config == one.config and moved.preprocess == one.preprocess
    assert moved.weights_digest == one.weights_digest
    files = [tmp_path / "a" / name for name in ("open_clip_model.safetensors", "open_clip_config.json", "")]
    assert one.weight_files == tuple(files)
    assert one.config["activation"] == "gelu" and one.config["tap"] == "embedding"
    assert one.preprocess["mean"] == [0.4, 0.5, 0.6] and one.preprocess["interpolation"] == "bilinear"
    assert str(tmp_path) not in canonical_json([one.config, one.preprocess])
    clip_folder(tmp_path / "c", quick_gelu=True)
    quick = open_encoder(names(tmp_path / "c"))
    assert quick.config["activation"] == "quick_gelu" and quick.config != one.config
    x = one.prepare(photo())[None]
    assert not torch.allclose(quick.encode(x)[0], one.encode(x)[0])
    clip_folder(tmp_path / "d", seed=1)
    assert open_encoder(names(tmp_path / "d")).weights_digest != one.weights_digest


def test_taps(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    whole = open_encoder(names(tmp_path))
    x = whole.prepare(photo())[None]
    net = whole.module
    tapped = open_encoder(f"{names(tmp_path)}#transformer.resblocks.0")
    seen: list[torch.Tensor] = []
    net.visual.transformer.resblocks[0].register_forward_hook(lambda m, i, o: seen.append(o))  # type: ignore
    whole.encode(x)
    features, _ = tapped.encode(x)
    assert torch.equal(features, seen[0][:, 1:].mean(1)) and tapped.dim == 32
    assert tapped.tower is None and tapped.config["tap"] == "transformer.resblocks.0"
    with pytest.raises(ModelError, match=r"has no part 'transformer.resblock.0' to tap; did you mean"):
        open_encoder(f"{names(tmp_path)}#transformer.resblock.0")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny architecture in open_clip's own registry."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", clip_config())
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-48", clip_config(vision_cfg={"image_size": 48}))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-long", clip_config(text_cfg={"context_length": 20}))


@pytest.mark.usefixtures("known")
def test_a_local_file_for_a_named_architecture(tmp_path: Path) -> None:
    net = clip_folder(tmp_path)
    file = tmp_path / "open_clip_model.safetensors"
    encoder = open_encoder(f"open_clip:tiny/@{file}")
    x = encoder.prepare(photo())[None]
    with torch.no_grad():
        assert torch.equal(encoder.encode(x)[0], net.encode_image(x))
    torch.save({"state_dict": {f"module.{k}": v for k, v in load_file(file).items()}}, tmp_path / "w.pt")
    again = open_encoder(f"open_clip:tiny/@{tmp_path}/w.pt")
    assert again.weights_digest == encoder.weights_digest and again.config == encoder.config


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ("tiny-48", r"visual.positional_embedding has shape \(17, 32\), not \(37, 32\)"),
        ("tiny-long", r"positional_embedding has shape \(16, 24\), not \(20, 24\)"),
    ],
)
def test_a_silent_resize_of_positions_is_a_mismatch(tmp_path: Path, architecture: str, says: str) -> None:
    clip_folder(tmp_path)
    model = f"open_clip:{architecture}/@{tmp_path}/open_clip_model.safetensors"
    with pytest.raises(ModelError, match=says):
        open_encoder(model)
    allowed = open_encoder(model, allow_mismatch=True)
    assert any("positional_embedding" in found for found in allowed.config["mismatch"])


def test_missing_and_unexpected_keys(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    file = tmp_path / "open_clip_model.safetensors"
    state = load_file(file)
    state["extra"] = state.pop("ln_final.weight")
    save_file(state, file)
    with pytest.raises(
        ModelError, match=r"ln_final.weight is missing; extra is unexpected; name the right architecture"
    ):
        open_encoder(names(tmp_path))
    assert open_encoder(names(tmp_path), allow_mismatch=True).config["mismatch"] == [
        "ln_final.weight is missing",
        "extra is unexpected",
    ]
    state["visual.conv1.weight"] = torch.zeros(1)
    save_file(state, file)
    with pytest.raises(ModelError, match=r"visual.conv1.weight"):
        open_encoder(names(tmp_path))


@pytest.mark.usefixtures("known")
def test_a_tag_decides_the_activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_folder(tmp_path)
    tags: dict[str, Any] = {"odd": {"file": str(tmp_path / "open_clip_model.safetensors"), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    quick = open_encoder("open_clip:tiny/odd")
    assert quick.config["activation"] == "quick_gelu" and "mismatch" not in quick.config
    tags["odd"]["quick_gelu"] = False
    plain = open_encoder("open_clip:tiny/odd")
    assert plain.config["activation"] == "gelu"
    x = plain.prepare(photo())[None]
    assert not torch.allclose(plain.encode(x)[0], quick.encode(x)[0])


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds neither open_clip_config.json"):
        open_encoder(names(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no open_clip configuration"):
        open_encoder(names(tmp_path))
    clip_folder(tmp_path / "a")
    (tmp_path / "a" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        open_encoder(names(tmp_path / "a"))
    clip_folder(tmp_path / "b")
    path = tmp_path / "b" / "open_clip_config.json"
    with pytest.raises(ModelError, match="is a file; write open_clip:ARCH/TAG@FILE"):
        open_encoder(names(path))
    both = json.loads(path.read_text())
    both["model_cfg"]["vision_cfg"]["widht"] = 3
    path.write_text(json.dumps(both))
    with pytest.raises(ModelError, match=r"cannot build this configuration .*widht"):
        open_encoder(names(tmp_path / "b"))
    file = tmp_path / "b" / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    both["model_cfg"]["vision_cfg"].pop("widht")
    path.write_text(json.dumps(both))
    with pytest.raises(ModelError, match="is damaged"):
        open_encoder(names(tmp_path / "b"))
