from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tiny import photo

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones import torchvision as tv
from w2s_fast.backbones.preprocess import Transform
from w2s_fast.backbones.taps import Watch
from w2s_fast.core.errors import ModelError
from w2s_fast.core.hashing import canonical_json
from w2s_fast.core.protocols import Encoder

PHOTOS = [photo(0), photo(1, (500, 300)), photo(2, (31, 260))]


def batch(encoder: Encoder) -> torch.Tensor:
    return torch.stack([encoder.prepare(p) for p in PHOTOS])


# ---- timm


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224.ms_in1k"])
def test_timm_is_timms_own_pipeline(name: str) -> None:
    encoder = open_encoder(f"timm:{name}", random_weights=True)
    assert isinstance(encoder, Encoder)
    net = timm.create_model(name, pretrained=False).eval()
    net.load_state_dict(encoder.module.state_dict())
    own = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net), is_training=False)
    x = batch(encoder)
    assert torch.equal(x, torch.stack([own(p) for p in PHOTOS]))  # type: ignore[operator]
    x = x[:1]
    features, logits = encoder.encode(x)
    with torch.no_grad():
        assert torch.equal(logits, net(x))  # type: ignore[arg-type]
        assert torch.equal(features, net.forward_head(net.forward_features(x), pre_logits=True))
    assert features.shape == (1, encoder.dim)
    assert Transform(json.loads(canonical_json(encoder.preprocess)))(PHOTOS[0]).equal(encoder.prepare(PHOTOS[0]))


def test_timm_taps() -> None:
    whole = open_encoder("timm:resnet10t", random_weights=True)
    x = batch(whole)[:1]
    logits = open_encoder("timm:resnet10t#logits", random_weights=True)
    assert logits.dim == 1000 and torch.equal(*logits.encode(x))  # type: ignore[arg-type]
    part = open_encoder("timm:resnet10t#layer2", random_weights=True)
    part.module.load_state_dict(whole.module.state_dict())
    seen: list[torch.Tensor] = []
    whole.module.get_submodule("layer2").register_forward_hook(lambda m, i, o: seen.append(o))
    z = whole.encode(x)[1]
    features, again = part.encode(x)
    assert part.dim == 128 and torch.equal(features, seen[0].mean((2, 3))) and torch.equal(again, z)  # type: ignore
    assert len({canonical_json(e.config) for e in (whole, logits, part)}) == 3
    with pytest.raises(ModelError, match="has no part 'layer9' to tap; did you mean 'layer"):
        open_encoder("timm:resnet10t#layer9", random_weights=True)


def test_tokens_and_channels_last_are_pooled_over_places_only() -> None:
    vit = open_encoder("timm:vit_tiny_patch16_224#blocks.1", random_weights=True)
    seen: list[torch.Tensor] = []
    vit.module.get_submodule("blocks.1").register_forward_hook(lambda m, i, o: seen.append(o))
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(vit.encode(x)[0], seen[0][:, 1:].mean(1))
    swin = open_encoder("timm:swin_tiny_patch4_window7_224#layers.1", random_weights=True)
    assert swin.dim == 192


def test_a_part_that_gives_nothing() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    net.unused = torch.nn.Linear(2, 2)  # type: ignore[assignment]
    forward = net.forward
    net.forward = lambda x: forward(x) if x.ndim == 2 else net[1](net[0](x))  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="m: the part 'unused' is not used"):
        Watch(net, "unused", model="m").run(torch.zeros(1, 3, 2, 2))


def test_timm_from_a_file_with_its_own_classes(tmp_path: Path) -> None:
    net = timm.create_model("resnet10t", num_classes=7).eval()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    encoder = open_encoder(f"timm:resnet10t.c3_in1k/@{tmp_path}/w.safetensors")
    x = batch(encoder)
    with torch.no_grad():
        assert torch.equal(encoder.encode(x)[1], net(x))  # type: ignore[arg-type]
    assert encoder.config["num_classes"] == 7 and encoder.weight_files == (tmp_path / "w.safetensors",)
    assert str(tmp_path) not in canonical_json([encoder.config, encoder.preprocess])
    with pytest.raises(ModelError, match=r"do not match the architecture: .*more.; name the right"):
        open_encoder(f"timm:resnet18.a1_in1k/@{tmp_path}/w.safetensors")


def test_a_timm_folder(tmp_path: Path) -> None:
    net = timm.create_model("resnet10t", num_classes=5).eval()
    with pytest.raises(ModelError, match="names no timm architecture"):
        (tmp_path / "config.json").write_text("{}")
        open_encoder(f"local:{tmp_path}")
    config = {"architecture": "resnet10t", "num_classes": 5, "pretrained_cfg": {**net.pretrained_cfg, "num_classes": 5}}
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "input_size": [3, 64, 64]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="holds no weights"):
        open_encoder(f"local:{tmp_path}")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    encoder = open_encoder(f"local:{tmp_path}")
    assert encoder.preprocess["mean"] == [0.1, 0.2, 0.3] and encoder.preprocess["input_size"] == [3, 64, 64]
    x = batch(encoder)
    assert x.shape[2:] == (64, 64)
    with torch.no_grad():
        assert torch.equal(encoder.encode(x)[1], net(x))  # type: ignore[arg-type]
    assert str(tmp_path) not in canonical_json([encoder.config, encoder.preprocess])
    assert encoder.config["architecture"] == "resnet10t"


# ---- torchvision


@pytest.mark.parametrize(
    ("name", "tag", "dim"),
    [("squeezenet1_1", None, 512), ("mobilenet_v3_small", "IMAGENET1K_V1", 1024), ("resnet18", None, 512)],
)
def test_torchvision_is_its_own_pipeline(name: str, tag: str | None, dim: int) -> None:
    encoder = open_encoder(f"torchvision:{name}{f'/{tag}' if tag else ''}", random_weights=True)
    net = torchvision.models.get_model(name, weights=None).eval()
    net.load_state_dict(encoder.module.state_dict())
    own = torchvision.models.get_model_weights(name)[tag or "DEFAULT"].transforms()  # type: ignore[index]
    x = batch(encoder)
    assert torch.equal(x, torch.stack([own(p) for p in PHOTOS]))
    features, logits = encoder.encode(x)
    with torch.no_grad():
        assert torch.equal(logits, net(x))  # type: ignore[arg-type]
    assert features.shape == (3, dim) and encoder.dim == dim
    last = encoder.module.get_submodule(tv.last_layer(encoder.module))
    if isinstance(last, torch.nn.Linear):
        assert torch.allclose(last(features), logits, atol=1e-6)  # type: ignore[arg-type]


def test_torchvision_files_and_taps(tmp_path: Path) -> None:
    net = torchvision.models.squeezenet1_1(num_classes=4).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    encoder = open_encoder(f"torchvision:squeezenet1_1/IMAGENET1K_V1@{tmp_path}/w.pth")
    x = batch(encoder)
    with torch.no_grad():
        assert torch.equal(encoder.encode(x)[1], net(x))  # type: ignore[arg-type]
        part = open_encoder(f"torchvision:squeezenet1_1/IMAGENET1K_V1@{tmp_path}/w.pth#features.3")
        assert torch.equal(part.encode(x)[0], net.features[:4](x).mean((2, 3)))
    assert open_encoder(f"torchvision:squeezenet1_1/IMAGENET1K_V1@{tmp_path}/w.pth#logits").dim == 4
    with pytest.raises(ModelError, match="inception_v3 has auxiliary heads"):
        open_encoder("torchvision:inception_v3", random_weights=True)


def test_torchvision_weights_are_loaded_whole_or_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = torchvision.models.squeezenet1_1().state_dict()
    weights = tv.weights_of("squeezenet1_1", None)
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, **_: state)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("w2s_fast.backbones.loading._answers", lambda host: True)
    encoder = open_encoder("torchvision:squeezenet1_1")
    assert all(torch.equal(v, state[k]) for k, v in encoder.module.state_dict().items())
    assert encoder.config["weights"] == "loaded" and encoder.weight_files == ()
    net = tv.build("squeezenet1_1", num_classes=3, seed=0)
    head = {k: v.clone() for k, v in net.state_dict().items() if k.startswith("classifier.1.")}
    tv.fetch(net, weights, model="m", head=False)
    for k, v in net.state_dict().items():
        assert torch.equal(v, head.get(k, state[k]))
    state.pop("features.0.bias")
    with pytest.raises(ModelError, match=r"features.0.bias is missing"):
        open_encoder("torchvision:squeezenet1_1")
