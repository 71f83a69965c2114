"""Weights go with the activation and preprocessing that they were trained with, or are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from w2s_fast.backbones import open_encoder, parse_model
from w2s_fast.backbones.loading import load_strictly, read_state
from w2s_fast.core.errors import ModelError

TOP = Path(__file__).parents[2]
CLIP_MEAN, IMAGENET_MEAN = 0.48145466, 0.485
SMALL: dict[str, Any] = {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 300, "width": 24, "heads": 2, "layers": 1},
}


def printed_names() -> list[str]:
    """Every open_clip and timm model with a tag that README, help texts and recipes print."""
    texts = [TOP / "README.md", *(TOP / "w2s_fast").rglob("*.toml"), *(TOP / "w2s_fast").rglob("README.md")]
    texts += sorted((TOP / "cli").rglob("*.py"))
    found = (re.findall(r"\b(?:open_clip|timm|torchvision):[\w./-]*\w", p.read_text(encoding="utf-8")) for p in texts)
    return sorted({n.rstrip(".,/") for names in found for n in names} - {"open_clip:ARCH/TAG", "timm:NAME"})


@pytest.mark.parametrize("name", [n for n in printed_names() if not re.search(r"[A-Z]{4}|ARCH|NAME", n)])
def test_every_printed_model_resolves(name: str) -> None:
    with torch.device("meta"):
        encoder = open_encoder(name, random_weights=True, device="meta")
    assert encoder.dim > 0 and "mismatch" not in encoder.config
    if name.endswith("/openai"):
        assert encoder.config["activation"] == "quick_gelu" and encoder.preprocess["mean"][0] == CLIP_MEAN


def test_there_are_names_to_resolve() -> None:
    assert {f"open_clip:ViT-{n}/openai" for n in ("B-32", "B-16", "L-14")} <= set(printed_names())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small architecture in open_clip's registry, its file under three tags, and that file."""
    file = tmp_path / "w.safetensors"
    save_file(open_clip.CLIP(**SMALL).state_dict(), file)
    tags: dict[str, Any] = {
        "quick": {"file": str(file), "quick_gelu": True, "mean": (0.1,) * 3, "std": (0.2,) * 3},
        "siglip": {"file": str(file), "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"},
        "gelu": {"file": str(file), "quick_gelu": False},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", SMALL)  # type: ignore[attr-defined]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-quick", {**SMALL, "quick_gelu": True})  # type: ignore[attr-defined]
    for name in ("tiny", "tiny-quick"):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)  # type: ignore[attr-defined]
    return file


@pytest.mark.parametrize(
    ("name", "activation", "mean", "mode"),
    [
        ("tiny/quick", "quick_gelu", 0.1, "shortest"),
        ("tiny/gelu", "gelu", CLIP_MEAN, "shortest"),
        ("tiny/siglip", "gelu", 0.5, "squash"),
        ("tiny-quick/gelu", "gelu", CLIP_MEAN, "shortest"),
        ("tiny-quick/siglip", "quick_gelu", 0.5, "squash"),
    ],
)
def test_a_tag_and_a_file_of_it_are_one(tiny: Path, name: str, activation: str, mean: float, mode: str) -> None:
    encoders = [open_encoder(f"open_clip:{name}"), open_encoder(f"open_clip:{name}@{tiny}")]
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = open_clip.create_model(
        name.partition("/")[0], pretrained_text=False, quick_gelu=activation == "quick_gelu", load_weights=False
    )
    net.load_state_dict(read_state(tiny))
    with torch.no_grad():
        expected = net.eval().encode_image(x)
    for encoder in encoders:
        assert encoder.config["activation"] == activation and encoder.preprocess["mean"][0] == mean
        assert encoder.preprocess["resize_mode"] == mode and torch.equal(encoder.encode(x)[0], expected)
    assert encoders[0].config == encoders[1].config and encoders[0].preprocess == encoders[1].preprocess


def test_the_same_weights_have_one_identity_whichever_architecture_names_them(tiny: Path) -> None:
    one, two = open_encoder("open_clip:tiny/quick"), open_encoder("open_clip:tiny-quick/quick")
    assert one.config == two.config and one.preprocess == two.preprocess and one.weights_digest == two.weights_digest


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("open_clip:tiny/@{f}", r"does not say with which activation .*write open_clip:tiny/TAG@.*tags: quick, siglip"),
        ("timm:resnet18/@{f}", r"with which preprocessing .*write timm:resnet18.TAG/@.*tags: a1_in1k"),
        ("torchvision:resnet50/@{f}", r"write torchvision:resnet50/WEIGHTS@.*IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_a_bare_file_is_refused(tiny: Path, name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_encoder(name.replace("{f}", str(tiny)))


def test_a_file_takes_what_its_own_folder_says(tiny: Path) -> None:
    config = {"model_cfg": {**SMALL, "quick_gelu": True}, "preprocess_cfg": {"mean": [0.3] * 3, "std": [0.4] * 3}}
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(config))
    encoder = open_encoder(f"open_clip:tiny/@{tiny}")
    assert encoder.config["activation"] == "quick_gelu" and encoder.preprocess["mean"] == [0.3] * 3
    config.pop("preprocess_cfg")
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="declares no preprocessing; add the preprocess_cfg"):
        open_encoder(f"local:{tiny.parent}")


def test_files_of_torchvision_and_timm_keep_their_tags_preprocessing(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "t.pth")
    encoder = open_encoder(f"torchvision:resnet18/IMAGENET1K_V1@{tmp_path}/t.pth")
    assert encoder.preprocess["resize_size"] == 256
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "m.pth")
    for tag, interpolation in (("tv_in1k", "bilinear"), ("a1_in1k", "bicubic")):
        encoder = open_encoder(f"timm:resnet18.{tag}/@{tmp_path}/m.pth")
        assert encoder.preprocess["interpolation"] == interpolation and encoder.dim == 512
        assert encoder.config["num_classes"] == 0 and "mismatch" not in encoder.config
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "mean": [0.1] * 3, "std": [0.2] * 3}))
    assert open_encoder(f"timm:resnet18/@{tmp_path}/m.pth").preprocess["mean"] == [0.1] * 3


# ---- wrappers, the same for every library


def wrapped(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    prefixed = {p: {p + k: v for k, v in state.items()} for p in ("module.", "_orig_mod.", "net.", "model.")}
    return {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "optimizer": {"state": {}}},
        "module.": prefixed["module."],
        "compiled": {"model": prefixed["_orig_mod."]},
        "both": {f"module._orig_mod.{k}": v for k, v in state.items()},
        "net.": {"state_dict": prefixed["net."]},
        "Lightning": {"state_dict": {**prefixed["model."], "criterion.weight": torch.ones(3)}, "callbacks": {}},
        "EMA": {"state_dict": {k: v * 0 for k, v in state.items()}, "state_dict_ema": state},
        "swa": {"state_dict": {**prefixed["module."], "n_averaged": torch.tensor(3)}},
        "nested": {"model": {"state_dict": prefixed["module."]}},
        "no counts": {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    }


LIBRARIES = {
    "timm": (lambda: timm.create_model("test_resnet"), "timm:test_resnet.r160_in1k/@{f}"),
    "torchvision": (
        lambda: torchvision.models.mobilenet_v3_small(),
        "torchvision:mobilenet_v3_small/IMAGENET1K_V1@{f}",
    ),
    "open_clip": (lambda: open_clip.CLIP(**SMALL), "open_clip:tiny/gelu@{f}"),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_wrappers_are_taken_off(tiny: Path, library: str, tmp_path: Path) -> None:
    make, name = LIBRARIES[library]
    torch.manual_seed(3)
    net = make()
    expected = {k: v.clone() for k, v in net.state_dict().items()}
    for kind, content in wrapped(expected).items():
        torch.save(content, tmp_path / "x.pt")
        got = open_encoder(name.replace("{f}", str(tmp_path / "x.pt"))).module.state_dict()
        assert all(torch.equal(got[k], v) for k, v in expected.items()), kind


def test_two_prefixed_copies_are_refused_by_name(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    both = {f"{p}.{k}": v for p in ("model", "net") for k, v in net.state_dict().items()}
    torch.save({"state_dict": both}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="weight is missing"):
        load_strictly(net, read_state(tmp_path / "x.pt", own=net.state_dict()), model="m")


def test_allow_mismatch_is_for_a_few_numbers_only(tiny: Path, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"fill [\d,]+ of 11,6\d\d,\d\d\d numbers .* %.*asks for 95 %; the first: "):
        open_encoder(f"timm:resnet18.a1_in1k/@{tmp_path}/x.pt", allow_mismatch=True)
    state = read_state(tiny)
    state.pop("ln_final.bias")
    save_file(state, tiny)
    with pytest.raises(ModelError, match="ln_final.bias is missing"):
        open_encoder(f"open_clip:tiny/gelu@{tiny}")
    assert open_encoder(f"open_clip:tiny/gelu@{tiny}", allow_mismatch=True).config["mismatch"]


@pytest.mark.parametrize("text", ["open_clip:ViT-B-32/openai@/d/b 32.pt", "open_clip:ViT-B-32/@/a@b/c.pt"])
def test_names_with_files_parse_and_print(text: str) -> None:
    name = parse_model(text)
    assert str(name) == text and name.file is not None
    assert (name.tag, str(name.file)) in {("openai", "/d/b 32.pt"), (None, "/a@b/c.pt")}
