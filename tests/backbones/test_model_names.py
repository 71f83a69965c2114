from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from w2s_fast.backbones import LIBRARIES, Library, ModelName, may_have_text, open_encoder, parse_model
from w2s_fast.core.errors import MissingText, ModelError, UsageError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("open_clip:ViT-B-32/openai", ("open_clip", "ViT-B-32", "openai", None)),
        ("open_clip:ViT-B-32/@/data/b 32.pt", ("open_clip", "ViT-B-32", "@/data/b 32.pt", None)),
        ("open_clip:ViT-B-32/@weights/b32.pt#ln_post", ("open_clip", "ViT-B-32", "@weights/b32.pt", "ln_post")),
        ("open_clip:hf-hub:org/name", ("open_clip", "hf-hub:org/name", None, None)),
        ("timm:resnet18.a1_in1k#layer3.1", ("timm", "resnet18.a1_in1k", None, "layer3.1")),
        ("torchvision:resnet50/IMAGENET1K_V2", ("torchvision", "resnet50", "IMAGENET1K_V2", None)),
        ("local:/path/to/dir", ("local", "/path/to/dir", None, None)),
        ("local:C:/dir/@x", ("local", "C:/dir/@x", None, None)),
        ("weak:r18/3", ("weak", "r18", "3", None)),
        ("weak:r18", ("weak", "r18", None, None)),
        ("drawn:clip", ("drawn", "clip", None, None)),
    ],
)
def test_names_parse_and_print(text: str, parts: tuple[str, str, str | None, str | None]) -> None:
    name = parse_model(text)
    assert (name.library, name.name, name.pretrained, name.tap) == parts
    assert str(name) == text and parse_model(str(name)) == name


def test_supervisors_have_no_text_wherever_they_come_from() -> None:
    assert may_have_text("drawn:clip") and may_have_text("open_clip:ViT-B-32/openai")
    assert not any(map(may_have_text, ("drawn:cnn/0", "drawn:cnn", "weak:r18/0", "timm:resnet18.a1_in1k")))


def test_files() -> None:
    assert parse_model("timm:resnet18/@/a/b.safetensors").file == Path("/a/b.safetensors")
    assert parse_model("timm:resnet18/@~/b.pt").file == Path.home() / "b.pt"
    assert ModelName(library="timm", name="resnet18", pretrained="x").file is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/models/clip", "write local:/models/clip"),
        ("models/clip", "write local:models/clip"),
        ("resnet18", "write timm:resnet18, open_clip:"),
        ("openclip:ViT-B-32", "unknown model library 'openclip' .*did you mean 'open_clip'"),
        ("hf:org/blip", "unknown model library 'hf'"),
        ("timm:", "is incomplete; write timm:NAME"),
        ("timm:resnet18/@", "is incomplete"),
        ("open_clip:/openai", "is incomplete"),
        ("open_clip:#x", "is incomplete"),
    ],
)
def test_bad_names(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_model(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("open_clip:ViT-B-23", "open_clip has no architecture 'ViT-B-23'; did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32/openia", "open_clip has no weights 'openia' for ViT-B-32; did you mean 'openai'"),
        ("open_clip:ViT-B-32", "names no weights; write open_clip:ViT-B-32/TAG .tags: openai, "),
        ("timm:resnet19", "timm has no model 'resnet19'; did you mean 'resnet1"),
        ("timm:resnet18.a9_in1k", "timm has no weights 'a9_in1k' for resnet18; did you mean 'resnet18.a"),
        ("timm:resnet18/a1_in1k", "as in timm:resnet18.a1_in1k"),
        ("torchvision:resnet19", "torchvision has no classifier 'resnet19'; did you mean"),
        ("torchvision:resnet50/IMAGENET1K_V3", "no weights 'IMAGENET1K_V3' for resnet50; did you mean"),
        ("drawn:clipp", "drawn has no model 'clipp'; did you mean 'clip'"),
        ("timm:resnet18/@/none.pt", "the weight file /none.pt does not exist"),
        ("open_clip:RN50/@/none.pt", "the weight file /none.pt does not exist"),
        ("local:/none", "the folder /none does not exist"),
    ],
)
def test_unknown_models_name_the_nearest(text: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_encoder(text)


def test_a_model_without_text() -> None:
    with pytest.raises(MissingText, match="timm:resnet10t has no usable text tower"):
        open_encoder("timm:resnet10t", random_weights=True).text_tower()


def test_every_library_of_the_table_exists() -> None:
    for value in LIBRARIES.values():
        module, _, attribute = value.partition(":")
        assert isinstance(getattr(import_module(module), attribute), Library)


def test_listing_and_parsing_import_no_library() -> None:
    code = (
        "import sys, w2s_fast.backbones as b; b.libraries(); b.parse_model('open_clip:ViT-B-32/openai'); "
        "print([m for m in ('torch', 'timm', 'open_clip', 'torchvision', 'PIL', 'numpy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
