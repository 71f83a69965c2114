from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import photo

from w2s_fast.backbones import embedded, open_encoder
from w2s_fast.backbones.drawn_cnn import DrawnCNN
from w2s_fast.backbones.students import new_module
from w2s_fast.backbones.weak import (
    d_train_ids,
    list_supervisors,
    load_supervisor,
    read_card,
    save_supervisor,
    supervisor_dir,
)
from w2s_fast.core.errors import CacheError, Damaged, ModelError, NewerFormat, UsageError
from w2s_fast.core.hashing import canonical_json, digest_ids
from w2s_fast.core.protocols import Encoder

DATA = "imagefolder:/my data/pets"
IDS = ("b" * 32, "a" * 32, "a" * 32 + "#2")


def card(arch: str = "drawn:cnn", *, classes: int = 3, seed: int = 0, **more: Any) -> dict[str, Any]:
    _, described, _ = new_module(arch, classes, seed=0, pretrained=False)
    return {
        "arch": arch,
        "classes": [f"c {i}" for i in range(classes)],
        "data": DATA,
        "seed": seed,
        "recipe": {"steps": 10},
        "command": "w2s-fast weak --name r",
        "preprocess": described,
        "acc": {"val": 0.5},
        **more,
    }


def trained(arch: str = "drawn:cnn", classes: int = 3, seed: int = 0) -> torch.nn.Module:
    """A module whose every tensor, running statistics included, is off its initial value."""
    module, _, _ = new_module(arch, classes, seed=seed, pretrained=False)
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.dtype.is_floating_point:
            value.add_(torch.rand(value.shape, generator=generator) * 0.1)
    return module.eval()


def save(cache: Path, name: str = "r", *, seed: int = 0, arch: str = "drawn:cnn", data: str = DATA) -> torch.nn.Module:
    module = trained(arch, seed=seed)
    directory = supervisor_dir(name, data, seed, cache)
    save_supervisor(directory, module, card(arch, seed=seed, data=data), IDS)
    return module


@pytest.mark.parametrize("arch", ["drawn:cnn", "timm:resnet10t", "torchvision:squeezenet1_1"])
def test_a_supervisor_comes_back(tmp_path: Path, arch: str) -> None:
    module = save(tmp_path, arch=arch, seed=2)
    encoder = open_encoder("weak:r/2", data=DATA, cache=tmp_path)
    assert isinstance(encoder, Encoder) and encoder.classes == ("c 0", "c 1", "c 2")
    _, described, prepare = new_module(arch, 3, seed=0, pretrained=False)
    x = encoder.prepare(photo())[None]
    assert torch.equal(x[0], prepare(photo())) and encoder.preprocess == described
    features, logits = encoder.encode(x)
    with torch.no_grad():
        assert torch.equal(logits, module(x))  # type: ignore[arg-type]
    assert features.shape == (1, encoder.dim) and not encoder.module.training
    assert encoder.tower is None and encoder.card["d_train_digest"] == digest_ids(sorted(IDS))
    assert encoder.weight_files[0].parent == supervisor_dir("r", DATA, 2, tmp_path)
    text = canonical_json([encoder.config, encoder.preprocess])
    assert str(tmp_path) not in text and "weak:r" not in text


def test_features_are_the_penultimate_layer(tmp_path: Path) -> None:
    module = save(tmp_path)
    assert isinstance(module, DrawnCNN)
    encoder = open_encoder("weak:r", data=DATA, cache=tmp_path)
    x = encoder.prepare(photo(3, (32, 32)))[None]
    pixels = torch.from_numpy(np.array(photo(3, (32, 32)))).permute(2, 0, 1)[None]
    assert torch.allclose(x, pixels / 127.5 - 1, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(encoder.encode(x)[0], module.forward_features(x))
    tapped = open_encoder("weak:r/0#logits", data=DATA, cache=tmp_path)
    assert tapped.dim == 3


def test_the_same_weights_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("r", "s"):
        save(tmp_path, name)
    one, two = (open_encoder(f"weak:{n}/0", data=DATA, cache=tmp_path) for n in ("r", "s"))
    assert (one.weights_digest, one.config, one.preprocess) == (two.weights_digest, two.config, two.preprocess)
    save(tmp_path, "r", seed=1)
    assert open_encoder("weak:r/1", data=DATA, cache=tmp_path).weights_digest != one.weights_digest


def test_seeds_and_listing(tmp_path: Path) -> None:
    assert list_supervisors(tmp_path) == []
    for seed in (10, 2):
        save(tmp_path, seed=seed)
    save(tmp_path, "a", data="drawn:real")
    assert [(s.name, s.data, s.seed) for s in list_supervisors(tmp_path)] == [
        ("a", "drawn:real", 0),
        ("r", DATA, 2),
        ("r", DATA, 10),
    ]
    assert [s.seed for s in list_supervisors(tmp_path, DATA)] == [2, 10]
    assert open_encoder("weak:r", data=DATA, cache=tmp_path).card["seed"] == 2
    broken = supervisor_dir("r", DATA, 2, tmp_path) / "card.json"
    broken.write_text("{")
    assert [s.seed for s in list_supervisors(tmp_path, DATA)] == [10]


def test_directories_differ_by_name_data_and_seed(tmp_path: Path) -> None:
    datas = ("list:/a/b", "list:/a-b", "list:/a b", "list:" + "/x" * 100, "list:" + "/x" * 101)
    every = {supervisor_dir(n, d, s, tmp_path) for n in ("r", "s") for d in datas for s in (0, 1)}
    assert len(every) == 20 and all(p.is_relative_to(tmp_path / "weak") and len(p.parts[-2]) < 60 for p in every)
    for name in ("../x", "", "a/b", ".x"):
        with pytest.raises(UsageError, match="cannot name a supervisor"):
            supervisor_dir(name, DATA, 0, tmp_path)
    with pytest.raises(UsageError, match="negative"):
        supervisor_dir("r", DATA, -1, tmp_path)


def test_missing_supervisors_give_the_command(tmp_path: Path) -> None:
    says = r"no supervisor weak:r/3 for drawn:real; make it with: w2s-fast weak --data drawn:real --name r --seeds 4$"
    with pytest.raises(ModelError, match=says):
        open_encoder("weak:r/3", data="drawn:real", cache=tmp_path)
    save(tmp_path, "resnet")
    with pytest.raises(ModelError, match="did you mean 'resnet'"):
        open_encoder("weak:resne", data=DATA, cache=tmp_path)
    with pytest.raises(UsageError, match="give the data set with --data"):
        open_encoder("weak:r", cache=tmp_path)
    with pytest.raises(UsageError, match="'x' is not a number"):
        open_encoder("weak:r/x", data=DATA, cache=tmp_path)


def test_ids_of_d_train(tmp_path: Path) -> None:
    save(tmp_path)
    directory = supervisor_dir("r", DATA, 0, tmp_path)
    assert d_train_ids(directory) == tuple(sorted(IDS))
    np.save(directory / "d_train.npy", np.array([b"x" * 32]))
    with pytest.raises(Damaged, match=r"d_train.npy does not have the digest"):
        d_train_ids(directory)
    (directory / "d_train.npy").write_bytes(b"")
    with pytest.raises(Damaged, match=r"d_train.npy cannot be read"):
        d_train_ids(directory)


def test_damage_is_detected(tmp_path: Path) -> None:
    save(tmp_path)
    directory = supervisor_dir("r", DATA, 0, tmp_path)
    weights = directory / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Damaged, match=r"is not the file that card.json records; make it again with: w2s-fast weak"):
        load_supervisor(directory)
    weights.unlink()
    with pytest.raises(Damaged):
        load_supervisor(directory)
    path = directory / "card.json"
    right = json.loads(path.read_text())
    for change, error in (({"format": 2}, NewerFormat), ({"acc": None}, None)):
        path.write_text(json.dumps({**right, **change}))
        if error:
            with pytest.raises(error):
                read_card(directory)
        else:
            read_card(directory)
    del right["arch"]
    path.write_text(json.dumps(right))
    with pytest.raises(Damaged, match="lacks fields"):
        read_card(directory)
    with pytest.raises(ModelError, match="no supervisor in"):
        read_card(tmp_path / "none")


def test_saving_replaces_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    directory = supervisor_dir("r", DATA, 0, tmp_path)
    before = open_encoder("weak:r/0", data=DATA, cache=tmp_path).weights_digest
    with pytest.raises(UsageError, match="lacks arch, recipe"):
        save_supervisor(directory, trained(), {k: v for k, v in card().items() if k not in {"arch", "recipe"}}, IDS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(CacheError, match=r"cannot be written to .*No space left"):
            save_supervisor(directory, trained(seed=5), card(), IDS)
    assert open_encoder("weak:r/0", data=DATA, cache=tmp_path).weights_digest == before
    save_supervisor(directory, trained(seed=5), card(), IDS)
    assert open_encoder("weak:r/0", data=DATA, cache=tmp_path).weights_digest != before
    assert sorted(p.name for p in directory.parent.iterdir()) == ["seed-0"]
    assert sorted(p.name for p in directory.iterdir()) == ["card.json", "d_train.npy", "model.safetensors"]


# ---- modules to train


def test_new_modules_follow_the_seed_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for arch in ("drawn:cnn", "timm:resnet10t", "torchvision:squeezenet1_1"):
        one, two, other = (new_module(arch, 5, seed=s, pretrained=False)[0] for s in (1, 1, 2))
        weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (one, two, other)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
        assert all(p.requires_grad for p in one.parameters())
        size = 32 if arch == "drawn:cnn" else 64
        assert one.eval()(torch.zeros(2, 3, size, size)).shape == (2, 5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("arch", ["timm:resnet10t", "torchvision:squeezenet1_1"])
def test_a_body_from_a_file_and_a_new_head(tmp_path: Path, arch: str) -> None:
    source = trained(arch, classes=9, seed=4)
    save_file({k: v.clone() for k, v in source.state_dict().items()}, tmp_path / "w.safetensors")
    fresh, _, _ = new_module(arch, 5, seed=1, pretrained=False)
    tagged = "timm:resnet10t.c3_in1k/" if arch.startswith("timm") else f"{arch}/IMAGENET1K_V1"
    module, _, _ = new_module(f"{tagged}@{tmp_path}/w.safetensors", 5, seed=1, pretrained=True)
    head = "fc." if arch.startswith("timm") else "classifier.1."
    for name, value in module.state_dict().items():
        expected = fresh if name.startswith(head) else source
        assert torch.equal(value, expected.state_dict()[name]), name


def test_what_cannot_be_trained() -> None:
    for arch, says in (
        ("open_clip:ViT-B-32/openai", "cannot be trained as a supervisor"),
        ("drawn:clip", "cannot be trained as a supervisor"),
        ("timm:resnet10t#layer1", "takes no tap"),
        ("resnet10t", "write timm:resnet10t"),
    ):
        with pytest.raises(UsageError, match=says):
            new_module(arch, 3, seed=0, pretrained=False)
    with pytest.raises(UsageError, match="at least two classes"):
        new_module("drawn:cnn", 1, seed=0, pretrained=False)
    with pytest.raises(ModelError, match="timm has no model 'resnet10'"):
        new_module("timm:resnet10", 3, seed=0, pretrained=False)


# ---- shipped ones


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.nn.Module]:
    """Assets as they ship: half-precision weights and one file of cards."""
    folder = tmp_path / "assets" / "drawn_cnn"
    folder.mkdir(parents=True)
    cards, modules = {}, {}
    for seed in (0, 1):
        stem = f"sketch-{seed}"
        modules[stem] = trained(seed=seed)
        half = {k: v.half() if v.dtype.is_floating_point else v for k, v in modules[stem].state_dict().items()}
        save_file(half, folder / f"{stem}.safetensors")
        cards[stem] = card(data="drawn:sketch", seed=seed, d_train_digest="x")
    (folder / "cards.json").write_text(json.dumps(cards))
    monkeypatch.setattr(embedded, "ASSETS", tmp_path / "assets")
    return modules


def test_shipped_supervisors(shipped: dict[str, torch.nn.Module], tmp_path: Path) -> None:
    encoder = open_encoder("drawn:cnn/1", data="drawn:sketch")
    half = load_file(tmp_path / "assets" / "drawn_cnn" / "sketch-1.safetensors")
    assert all(torch.equal(v, half[k].to(v.dtype)) for k, v in encoder.module.state_dict().items())
    x = encoder.prepare(photo(0, (32, 32)))[None]
    features, logits = encoder.encode(x)
    with torch.no_grad():
        assert torch.allclose(logits, shipped["sketch-1"](x), rtol=2e-3)  # type: ignore[arg-type]
    assert features.dtype == torch.float32 and encoder.classes == ("c 0", "c 1", "c 2")
    assert encoder.card["d_train_digest"] == "x"
    assert open_encoder("drawn:cnn", data="drawn:sketch").card["seed"] == 0
    assert embedded.shipped_seeds("drawn:sketch") == (0, 1) and embedded.shipped_seeds("list:/x") == ()


@pytest.mark.usefixtures("shipped")
def test_shipped_supervisors_of_other_data() -> None:
    command = "w2s-fast weak --data {} --model drawn:cnn --name cnn --seeds {}, and name it weak:cnn/{}"
    for data, seed, says in (("list:/x.txt", 0, "ships for the drawn domains only"), ("drawn:sketch", 7, "seeds 0, 1")):
        with pytest.raises(ModelError) as caught:
            open_encoder(f"drawn:cnn/{seed}", data=data)
        assert says in str(caught.value) and command.format(data, seed + 1, seed) in str(caught.value)
    with pytest.raises(UsageError, match="give it with --data drawn:DOMAIN"):
        open_encoder("drawn:cnn/0")
    with pytest.raises(UsageError, match="'x' is not a number"):
        open_encoder("drawn:cnn/x", data="drawn:sketch")
    with pytest.raises(UsageError, match="has one set of weights"):
        open_encoder("drawn:clip/x")
    with pytest.raises(ModelError, match="drawn_clip is missing; install"):
        open_encoder("drawn:clip")
