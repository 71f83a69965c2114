"""The networks for small images: parameter counts, shapes of their stages, and pytorchcv's logits where it has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from w2s_fast.backbones import library, open_encoder
from w2s_fast.backbones.cifar import build, describe
from w2s_fast.backbones.loading import seeded
from w2s_fast.backbones.preprocess import Transform
from w2s_fast.backbones.students import new_module
from w2s_fast.core.errors import ModelError, UsageError

COUNTS = {
    **{"resnet20": 278_324, "resnet32": 472_756, "resnet56": 861_620, "resnet110": 1_736_564},
    **{"resnet8x4": 1_233_540, "resnet32x4": 7_433_860},
    **{"wrn_16_2": 703_284, "wrn_40_1": 569_780, "wrn_40_2": 2_255_156},
    **{"vgg8": 3_965_028, "vgg13": 9_462_180, "resnet50": 23_705_252},
    **{"shufflenet_v1": 949_258, "shufflenet_v2": 1_355_528, "mobilenet_v2_half": 812_836},
}
"""At 100 classes, as instantiated from the papers' code."""
RES = ((16, 32), (16, 32), (32, 16), (64, 8), 64)
WIDE = ((32, 32), (64, 32), (128, 16), (256, 8), 256)
VGG = ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4), 512)
SHAPES = {
    **dict.fromkeys(("resnet20", "resnet32", "resnet56", "resnet110"), RES),
    **dict.fromkeys(("resnet8x4", "resnet32x4"), WIDE),
    "wrn_16_2": ((16, 32), (32, 32), (64, 16), (128, 8), 128),
    "wrn_40_1": RES,
    "wrn_40_2": ((16, 32), (32, 32), (64, 16), (128, 8), 128),
    **dict.fromkeys(("vgg8", "vgg13"), VGG),
    "shufflenet_v1": ((24, 32), (240, 16), (480, 8), (960, 4), 960),
    "shufflenet_v2": ((24, 32), (116, 16), (232, 8), (464, 4), 1024),
    "mobilenet_v2_half": ((16, 16), (12, 16), (16, 8), (48, 4), (160, 2), 1280),
    "resnet50": ((64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4), 2048),
}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_and_shapes_of_the_stages(name: str) -> None:
    net = build(name, 100).eval()
    assert count(net) == COUNTS[name]
    with torch.no_grad():
        seen = net.stages(torch.randn(2, 3, 32, 32))
    *maps, pooled = SHAPES[name]
    assert [(f.shape[1], f.shape[2], f.shape[3]) for f in seen.post] == [(c, s, s) for c, s in maps]
    assert [f.shape for f in seen.pre] == [f.shape for f in seen.post]
    assert seen.pooled.shape == (2, pooled) and seen.logits.shape == (2, 100)


def test_parameter_counts_of_noisy_label_and_few_shot_networks() -> None:
    assert count(build("preact_resnet18", 10)) == 11_236_938
    assert count(build("preact_resnet34", 10)) == 21_345_098
    for depth, expected in ((12, 7_996_800), (18, 10_210_944), (36, 23_159_040)):
        net = build(f"fewshot_resnet{depth}", 0)
        assert count(net) == expected
        with torch.no_grad():
            seen = net.eval().stages(torch.randn(2, 3, 80, 80))
        assert [tuple(f.shape[1:]) for f in seen.post] == [(64, 40, 40), (128, 20, 20), (256, 10, 10), (512, 5, 5)]
        assert seen.logits.shape == (2, 512)


@pytest.mark.parametrize("name", ["resnet20", "resnet8x4", "vgg8", "shufflenet_v1", "resnet50"])
def test_a_stage_after_its_relu_is_the_relu_of_it_before(name: str) -> None:
    with torch.no_grad():
        seen = build(name, 10).eval().stages(torch.randn(2, 3, 32, 32))
    for pre, post in zip(seen.pre, seen.post, strict=True):
        assert torch.equal(pre.relu(), post) and float(pre.min()) < 0


def test_training_moves_running_statistics_once() -> None:
    for name in ("wrn_16_2", "resnet20"):
        net = build(name, 10).train()
        net(torch.randn(4, 3, 32, 32))
        counted = {k: int(v) for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
        assert set(counted.values()) == {1}


@pytest.mark.parametrize("depth", [20, 56, 110])
def test_logits_equal_pytorchcv(depth: int) -> None:
    cv = pytest.importorskip("pytorchcv.model_provider")
    theirs = cv.get_model(f"resnet{depth}_cifar100").eval()
    n = (depth - 2) // 6

    def renamed(key: str) -> str:
        key = key.replace("features.init_block.conv.", "conv1.").replace("features.init_block.bn.", "bn1.")
        key = key.replace("output.", "fc.")
        found = re.fullmatch(r"features\.stage(\d)\.unit(\d+)\.(.*)", key)
        if found is None:
            return key
        stage, unit, rest = found.groups()
        for number in (1, 2):
            rest = rest.replace(f"body.conv{number}.conv.", f"conv{number}.")
            rest = rest.replace(f"body.conv{number}.bn.", f"bn{number}.")
        rest = rest.replace("identity_conv.conv.", "downsample.0.").replace("identity_conv.bn.", "downsample.1.")
        return f"layer{stage}.{int(unit) - 1}.{rest}"

    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    ours = build(f"resnet{depth}", 100).eval()
    ours.load_state_dict({renamed(k): v for k, v in theirs.state_dict().items()})
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(x)
        assert len(ours.layer1) == n  # type: ignore[arg-type]
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_a_trained_file_is_an_encoder_and_a_student(tmp_path: Path) -> None:
    with seeded(3):
        net = build("resnet8x4", 7).eval()
    file = tmp_path / "w.safetensors"
    save_file({f"module.{k}": v for k, v in net.state_dict().items()}, file)
    encoder = open_encoder(f"cifar:resnet8x4/@{file}")
    x = torch.randn(2, 3, 32, 32)
    features, logits = encoder.encode(x)
    with torch.no_grad():
        seen = net.stages(x)
    torch.testing.assert_close(features, seen.pooled)
    torch.testing.assert_close(logits, seen.logits)
    assert encoder.dim == 256 and encoder.config["library"] == "cifar"
    module, _, _ = new_module(f"cifar:resnet8x4/@{file}", 5, seed=0, pretrained=True)
    assert torch.equal(module.conv1.weight, net.conv1.weight)  # type: ignore[union-attr]
    assert module.fc.weight.shape == (5, 256)  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="do not match the architecture"):
        open_encoder(f"cifar:resnet32x4/@{file}")
    with pytest.raises(ModelError, match="of another architecture"):
        open_encoder(f"cifar:vgg8/@{file}")


def test_the_contrastive_head_is_not_the_classifier() -> None:
    encoder = open_encoder("cifar:preact_resnet18", random_weights=True)
    features, logits = encoder.encode(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 512) and logits is not None and logits.shape == (2, 100)
    net = build("preact_resnet18", 10).eval()
    with torch.no_grad():
        z, e = net.embed(torch.randn(2, 3, 32, 32))  # type: ignore[operator]
    assert z.shape == (2, 10)
    torch.testing.assert_close(e.norm(dim=1), torch.ones(2))


def test_names_say_what_is_wrong() -> None:
    with pytest.raises(ModelError, match="no network 'resnet21'.*resnet2"):
        open_encoder("cifar:resnet21")
    with pytest.raises(ModelError, match="has no weights; write cifar:resnet20/@FILE"):
        open_encoder("cifar:resnet20")
    with pytest.raises(UsageError, match="no weights by name"):
        open_encoder("cifar:resnet20/imagenet")
    with pytest.raises(UsageError, match="no weights by name"):
        new_module("cifar:resnet20/imagenet", 4, seed=0, pretrained=True)
    assert {name for name, _ in library("cifar").names("resnet8")} == {"resnet8x4"}


def test_small_pictures_get_edges_and_others_are_cut() -> None:
    prepare = Transform(describe("resnet20"))
    white = Image.new("RGB", (28, 28), "white")
    x = prepare(white)
    black = prepare(Image.new("RGB", (32, 32)))
    assert x.shape == (3, 32, 32)
    assert torch.equal(x[:, :2], black[:, :2]) and torch.equal(x[:, :, 30:], black[:, :, 30:])
    assert bool((x[0, 2:30, 2:30] == x[0, 15, 15]).all()) and float(x[0, 15, 15]) > float(black[0, 15, 15])
    wide = Image.new("RGB", (96, 48))
    wide.paste((255, 0, 0), (24, 0, 72, 48))
    assert float(prepare(wide)[0].min()) > 1.5  # only the red centre is seen
    assert Transform(describe("fewshot_resnet12"))(white).shape == (3, 80, 80)
