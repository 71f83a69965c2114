"""Distillers of features against golden numbers and naive loops; KD against timm's distillation task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from finetune_worlds import SHORT, pictures, small, views
from torch import Tensor, nn
from torch.nn.functional import conv2d

from w2s_fast.backbones.cifar import build
from w2s_fast.backbones.cifar.staged import Stages
from w2s_fast.core.errors import SpecError, TrainError
from w2s_fast.finetune.distillers import make_distiller
from w2s_fast.finetune.distillers.reviewkd import pyramid
from w2s_fast.finetune.distillers.rkd import angle_term, distance_term
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.objective import Objective, make_objective
from w2s_fast.finetune.seeding import seeded
from w2s_fast.finetune.stages import stages_of
from w2s_fast.finetune.teachers import LiveTeacher, TeacherBank
from w2s_fast.losses import make
from w2s_fast.losses.supervision import Batch

PAIRS = [
    ("resnet20", "resnet56"), ("resnet32", "resnet110"), ("resnet8x4", "resnet32x4"), ("wrn_16_2", "wrn_40_2"),
    ("wrn_40_1", "wrn_40_2"), ("vgg8", "vgg13"), ("shufflenet_v1", "resnet32x4"), ("shufflenet_v1", "wrn_40_2"),
    ("mobilenet_v2_half", "vgg13"), ("mobilenet_v2_half", "resnet50"), ("shufflenet_v2", "resnet32x4"),
]  # fmt: skip
"""Weak teacher and strong student of AdaptConf's CIFAR tables."""


def of(pooled: Tensor, *maps: Tensor) -> Stages:
    return Stages(post=maps, pre=maps, pooled=pooled, logits=pooled)


def test_rkd_golden() -> None:
    s, t = torch.tensor([[0.0, 0], [3, 0], [0, 4]]), torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    assert float(distance_term(s, t)) == pytest.approx(0.00348125, abs=1e-8)
    assert float(angle_term(s, t)) == pytest.approx(0.00074448, abs=1e-8)
    value = make_distiller("rkd", of(s), of(t)).value(of(s), of(t))
    assert float(value) == pytest.approx(0.12425532, abs=1e-7)


def test_rkd_equals_loops_over_all_pairs_and_triples() -> None:
    g = torch.Generator().manual_seed(0)
    s, t = torch.randn(6, 4, generator=g).double(), torch.randn(6, 5, generator=g).double()

    def huber(x: float) -> float:
        return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5

    def dist(x: Tensor) -> Tensor:
        d = torch.tensor([[float((a - b).norm()) for b in x] for a in x], dtype=torch.float64)
        return d / d[d > 0].mean()

    def cosine(x: Tensor, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[i] - x[k]
        return 0.0 if i in (j, k) else float(a @ b / (a.norm() * b.norm()))

    ds, dt = dist(s), dist(t)
    expected = sum(huber(float(ds[i, j] - dt[i, j])) for i in range(6) for j in range(6)) / 36
    assert float(distance_term(s, t)) == pytest.approx(expected, rel=1e-6)
    triples = [(i, j, k) for i in range(6) for j in range(6) for k in range(6)]
    expected = sum(huber(cosine(s, *x) - cosine(t, *x)) for x in triples) / 216
    assert float(angle_term(s, t)) == pytest.approx(expected, rel=1e-6)


def test_rkd_sees_no_similarity_and_takes_duplicates() -> None:
    g = torch.Generator().manual_seed(1)
    t = torch.randn(5, 3, generator=g)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=g))
    s = 2 * t @ turn + torch.tensor([3.0, -1, 2])
    assert float(distance_term(s, t)) < 1e-9 and float(angle_term(s, t)) < 1e-9
    twice = torch.cat([t, t[:1]]).requires_grad_(True)
    value = distance_term(twice, torch.randn(6, 3, generator=g)) + angle_term(twice, torch.randn(6, 3, generator=g))
    value.backward()
    assert twice.grad is not None and bool(twice.grad.isfinite().all())


def test_pyramid_golden() -> None:
    def grid(values: list[float], side: int) -> Tensor:
        return torch.tensor(values).view(1, 1, side, side)

    assert float(pyramid(grid([3.0], 1), torch.zeros(1, 1, 1, 1))) == pytest.approx(9)
    assert float(pyramid(torch.full((2, 3, 8, 8), 1.5), torch.zeros(2, 3, 8, 8))) == pytest.approx(2.25)
    assert float(pyramid(grid([1.0, 2, 3, 4], 2), torch.zeros(1, 1, 2, 2))) == pytest.approx(85 / 12)
    assert float(pyramid(grid([float(i) for i in range(16)], 4), torch.zeros(1, 1, 4, 4))) == pytest.approx(73.25)


def test_reviewkd_ignores_the_deeper_level_where_attention_says_so() -> None:
    deep, shallow = torch.randn(2, 8, 4, 4), torch.randn(2, 6, 8, 8)
    seen = of(torch.randn(2, 8), torch.randn(2, 4, 8, 8), shallow, deep)
    module = make_distiller("reviewkd", seen, seen).eval()
    fusion = module.fusions[1]  # type: ignore[index]
    with torch.no_grad():
        fusion.attention.weight.zero_()  # type: ignore[union-attr]
        fusion.attention.bias.copy_(torch.tensor([80.0, -80.0]))  # type: ignore[union-attr]
        one = fusion(deep, torch.randn(2, 8, 1, 1), 4)
        other = fusion(deep, torch.randn(2, 8, 1, 1), 8)
    plain = fusion.conv1(deep)  # type: ignore[operator]
    torch.testing.assert_close(one[1], plain)
    assert other[1].shape[-1] == 8  # what is passed on has the teacher's side
    assert module.levels == 3  # pooled, deep, shallow; not the stem


def test_fitnet_is_zero_for_an_exact_projection_and_adds_over_stages() -> None:
    g = torch.Generator().manual_seed(2)
    maps = [torch.randn(2, c, 6, 6, generator=g) for c in (3, 4)]
    student = of(torch.randn(2, 4, generator=g), *maps)
    blank = of(student.pooled, torch.zeros(2, 5, 6, 6), torch.zeros(2, 7, 3, 3))
    module = make_distiller("fitnet", student, blank)
    weights = [layer.weight.detach() for layer in module.requires_grad_(False).project]  # type: ignore[union-attr]
    exact = of(student.pooled, *(conv2d(f, w) for f, w in zip(maps, weights, strict=True)))
    assert float(module.value(student, exact)) == pytest.approx(0, abs=1e-12)
    both = float(module.value(student, blank))
    first = conv2d(maps[0], weights[0]).square().mean()
    pooled = nn.functional.adaptive_avg_pool2d(conv2d(maps[1], weights[1]), 3).square().mean()
    assert both == pytest.approx(float(first + pooled), rel=1e-5)


@pytest.mark.parametrize(("weak", "strong"), PAIRS)
def test_all_pairs_of_the_paper_run(weak: str, strong: str) -> None:
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        student, teacher = (build(name, 10).eval().stages(x) for name in (strong, weak))
        for name in ("fitnet", "fitnet(variant='hint')", "reviewkd", "reviewkd(stem=True)", "rkd"):
            assert math.isfinite(float(make_distiller(name, student, teacher).value(student, teacher)))


@pytest.mark.parametrize("name", ["fitnet", "reviewkd"])
def test_projectors_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = pictures()
    kept: list[Objective] = []

    def watched(*args: Any, **more: Any) -> Objective:
        kept.append(make_objective(*args, **more))
        return kept[-1]

    monkeypatch.setattr("w2s_fast.finetune.fit.make_objective", watched)
    training = replace(SHORT, loss=name, gt=0.0, epochs=3, augment="none")
    weak = LiveTeacher(module=small(9, channels=4))
    fit = fit_network(small(), views(pixels, "none"), None, training=training, seed=0, k=3, teacher=weak)
    learned = list(kept[0].distiller.parameters())
    assert learned and all(p.grad is not None for p in learned)
    assert fit.curves["loss"][3] < fit.curves["loss"][1]


def test_kd_is_timms_distillation_task() -> None:
    timm, task = pytest.importorskip("timm"), pytest.importorskip("timm.task.distillation")
    with seeded(0):
        student, teacher = (timm.create_model("test_resnet", num_classes=3).double() for _ in range(2))
    x, y = torch.randn(5, 3, 64, 64).double(), torch.tensor([0, 1, 2, 0, 1])
    for tau in (1.0, 4.0):
        theirs = task.LogitDistillationTask(
            student, teacher, criterion=nn.CrossEntropyLoss(), loss_type="kl", distill_loss_weight=1.0,
            task_loss_weight=0.0, temperature=tau, device=torch.device("cpu"), dtype=torch.float64, verbose=False,
        )  # fmt: skip
        student.eval()
        with torch.no_grad():
            expected, z, weak = theirs(x, y)["kd_loss"], student(x), teacher.eval()(x)
        loss = make(f"kd(tau_w={tau}, tau_s={tau}, tau2=True)")
        ours = loss.value(z, Batch(weak=weak, t=torch.zeros(1, 1).double())).mean()
        assert float(expected) > 1e-3 and float(ours) == pytest.approx(float(expected), rel=1e-7, abs=1e-7)


def test_stages_of_networks_of_other_libraries() -> None:
    timm = pytest.importorskip("timm")
    x = torch.randn(2, 3, 64, 64)
    for name, maps in (("resnet18", 5), ("vit_tiny_patch16_224", 1)):
        net = timm.create_model(name, num_classes=7, **({"img_size": 64} if "vit" in name else {})).eval()
        with torch.no_grad():
            seen = stages_of(net)(x)
            torch.testing.assert_close(seen.logits, net(x))
        assert len(seen.post) == maps and seen.post[-1].ndim == 4 and seen.pooled.ndim == 2
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
    found = stages_of(plain)(torch.randn(2, 3, 2, 2))
    assert found.post == () and found.pooled.shape == (2, 4)
    with pytest.raises(SpecError, match="student shows none"):
        make_distiller("fitnet", found, seen)
    with pytest.raises(TrainError, match="let the teacher run along"):
        TeacherBank(table=torch.zeros(1, 2, 3), seed=0).stages(None)  # type: ignore[arg-type]
