"""What a name stands for is found by content: paths are absolute, and every file that enters a key is watched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from w2s_fast.backbones import canonical, open_encoder
from w2s_fast.core.errors import BankStale
from w2s_fast.data import open_manifest
from w2s_fast.store.refs import list_refs
from w2s_fast.tasks.extraction import extract_all
from w2s_fast.tasks.opening import prepare

CONFIG: dict[str, Any] = {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1},
}


def encoder_folder(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    net = open_clip.CLIP(**CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    declared = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(declared))


@pytest.fixture
def photos(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for kind in "ab":
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"photos/{kind}/{i}.png")
    return f"imagefolder:{tmp_path}/photos"


def features(model: str, data: str, cache: Path) -> torch.Tensor:
    """What training reads, by the name as it was given."""
    return prepare(open_manifest(data, cache=cache), [model], data=data, cache=cache)[model].features()


def computed(model: str, data: str) -> torch.Tensor:
    """The same without a cache."""
    encoder, manifest = open_encoder(model), open_manifest(data)
    images = [encoder.prepare(Image.open(manifest.root / uri).convert("RGB")) for uri in manifest.uris]
    return encoder.encode(torch.stack(images))[0]


def test_one_relative_name_in_two_folders_is_two_models(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for seed, place in enumerate("AB"):
        encoder_folder(tmp_path / place / "enc", seed)
        monkeypatch.chdir(tmp_path / place)
        list(extract_all([photos], ["local:enc"], cache=tmp_path / "cache"))
        found.append(features("local:enc", photos, tmp_path / "cache"))
        assert torch.allclose(found[-1], computed("local:enc", photos), atol=4e-3), place
    assert not torch.allclose(found[0], found[1])
    assert {ref.model for ref in list_refs(tmp_path / "cache")} == {f"local:{tmp_path}/{p}/enc" for p in "AB"}


@pytest.mark.parametrize(
    ("name", "absolute"),
    [
        ("local:enc", "local:{here}/enc"),
        ("local:../enc#layer1", "local:{up}/enc#layer1"),
        ("open_clip:ViT-B-32/openai@w.pt", "open_clip:ViT-B-32/openai@{here}/w.pt"),
        ("timm:resnet18.a1_in1k/@w.pt#layer1", "timm:resnet18.a1_in1k/@{here}/w.pt#layer1"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32/openai"),
        ("drawn:cnn/0", "drawn:cnn/0"),
        ("weak:r18", "weak:r18"),
    ],
)
def test_names_with_paths_are_absolute(
    name: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical(name) == absolute.format(here=tmp_path, up=tmp_path.parent)
    assert canonical(canonical(name)) == canonical(name)


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and put its mtime back, as archivers and `cp -p` do."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace("0.5", "0.3"))


def other_weights(path: Path) -> None:
    state = load_file(path)
    save_file({k: v + 0.5 for k, v in state.items()}, path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "mean": (lambda d: keep_times(d / "open_clip_config.json", edit), "open_clip_config.json changed .another content"),
    "weights": (
        lambda d: keep_times(d / "open_clip_model.safetensors", other_weights),
        "model.safetensors changed .another content",
    ),
    "added": (lambda d: (d / "vocabulary.json").write_text("[]"), "enc changed .files were added or removed"),
    "gone": (lambda d: (d / "open_clip_config.json").unlink(), "open_clip_config.json changed .it is gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_of_the_key_is_watched(photos: str, tmp_path: Path, change: str) -> None:
    encoder_folder(tmp_path / "enc", 0)
    model, cache = f"local:{tmp_path}/enc", tmp_path / "cache"
    list(extract_all([photos], [model], cache=cache))
    before = features(model, photos, cache)
    how, says = CHANGES[change]
    how(tmp_path / "enc")
    with pytest.raises(BankStale, match=f"{says}.*; extract again with: "):
        features(model, photos, cache)
    if change in ("mean", "weights"):
        list(extract_all([photos], [model], cache=cache))
        after = features(model, photos, cache)
        assert not torch.allclose(after, before) and torch.allclose(after, computed(model, photos), atol=4e-3)


def test_a_link_is_what_it_leads_to_now(photos: str, tmp_path: Path) -> None:
    for seed, place in enumerate("AB"):
        encoder_folder(tmp_path / place, seed)
    (tmp_path / "enc").symlink_to(tmp_path / "A")
    model, cache = f"local:{tmp_path}/enc", tmp_path / "cache"
    list(extract_all([photos], [model], cache=cache))
    (tmp_path / "enc").unlink()
    (tmp_path / "enc").symlink_to(tmp_path / "B")
    with pytest.raises(BankStale, match="model.safetensors changed"):
        features(model, photos, cache)
    list(extract_all([photos], [model], cache=cache))
    assert torch.allclose(features(model, photos, cache), computed(f"local:{tmp_path}/B", photos), atol=4e-3)


def test_a_retargeted_link_does_not_answer(photos: str, tmp_path: Path) -> None:
    for seed, place in enumerate("AB"):
        encoder_folder(tmp_path / place, seed)
    folder = tmp_path / "enc"
    folder.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (folder / name).symlink_to(tmp_path / "A" / name)
    model, cache = f"local:{folder}", tmp_path / "cache"
    list(extract_all([photos], [model], cache=cache))
    (folder / "open_clip_model.safetensors").unlink()
    (folder / "open_clip_model.safetensors").symlink_to(tmp_path / "B" / "open_clip_model.safetensors")
    with pytest.raises(BankStale, match="model.safetensors changed"):
        features(model, photos, cache)


def test_a_copy_with_new_times_is_the_same_model(photos: str, tmp_path: Path) -> None:
    encoder_folder(tmp_path / "enc", 0)
    model, cache = f"local:{tmp_path}/enc", tmp_path / "cache"
    list(extract_all([photos], [model], cache=cache))
    shutil.copytree(tmp_path / "enc", tmp_path / "copy")
    shutil.rmtree(tmp_path / "enc")
    shutil.move(tmp_path / "copy", tmp_path / "enc")
    for file in (tmp_path / "enc").iterdir():
        os.utime(file)
    features(model, photos, cache)


def test_swapped_images_of_one_size_and_time_get_their_own_ids(tmp_path: Path) -> None:
    for kind, grey in (("a", 10), ("b", 200)):
        (tmp_path / "p" / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (20, 20), grey + i).save(tmp_path / f"p/{kind}/{i}.bmp")
            os.utime(tmp_path / f"p/{kind}/{i}.bmp", ns=(10**18, 10**18))
    data, cache = f"imagefolder:{tmp_path}/p", tmp_path / "cache"
    first = open_manifest(data, cache=cache).ids
    a, b, spare = tmp_path / "p/a/0.bmp", tmp_path / "p/b/0.bmp", tmp_path / "spare"
    for source, target in ((a, spare), (b, a), (spare, b)):
        source.rename(target)
    second = open_manifest(data, cache=cache)
    assert second.ids == open_manifest(data, cache=tmp_path / "fresh").ids
    assert second.ids[0] == first[3] and second.ids[3] == first[0]
