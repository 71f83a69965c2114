"""Views are functions of (seed, epoch, image): whatever the batch, the device path or the order; and what they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_worlds import pictures, views

from w2s_fast.core.errors import SpecError
from w2s_fast.finetune.augment import AUGMENTS, MIXES, parse_augments
from w2s_fast.finetune.augment.geometry import Crop, Flip, RandomResizedCrop, moved
from w2s_fast.finetune.augment.mix import Cutmix, Mixup, beta
from w2s_fast.finetune.augment.policies import operate, strength_of
from w2s_fast.finetune.draws import keys_of, uniforms
from w2s_fast.finetune.views import batches

EVERY = [*AUGMENTS, "crop(pad=2, fill='edge')", "flip, crop(pad=2)", "crop(pad=2), flip", "rrc, flip, autoaugment"]


def test_draws_are_uniform_and_independent() -> None:
    keys = keys_of([f"{i:032x}" for i in range(20000)])
    u = uniforms(1, 2, keys, 4)
    assert u.min() >= 0 and u.max() < 1
    counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in u.T])
    assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    others = [uniforms(1, 3, keys, 4), uniforms(2, 2, keys, 4), uniforms(1, 2, keys, 4, stream=1)]
    for other in [*others, np.roll(u, 1, 0), np.roll(u, 1, 1)]:
        assert np.abs(np.corrcoef(u[:, 0], other[:, 0])[0, 1]) < 0.04
    assert len({float(x) for x in u.ravel()}) == u.size


@pytest.mark.parametrize("augment", EVERY)
def test_a_view_depends_on_seed_epoch_and_image_alone(augment: str) -> None:
    pixels, _ = pictures(40)
    data = views(pixels, augment)
    whole = data.batch(np.arange(40), seed=3, epoch=5)
    some = np.array([17, 2, 39])
    part = data.batch(some, seed=3, epoch=5)
    assert torch.equal(whole.x[some], part.x)
    assert part.x.shape == (3, 3, 8, 8) and part.x.dtype == torch.float32
    assert not torch.equal(data.batch(np.arange(40), seed=3, epoch=6).x, whole.x)
    assert not torch.equal(data.batch(np.arange(40), seed=4, epoch=5).x, whole.x)
    if augment in MIXES:
        assert whole.partner is not None and part.partner is not None and whole.share is not None
        assert sorted(whole.partner) == list(range(40)) and (whole.partner != np.arange(40)).all()
        assert (whole.partner[some] == part.partner).all() and (whole.share[some] == part.share).all()  # type: ignore[index]
    # rows that are dealt another order keep their views
    order = np.random.default_rng(0).permutation(40)
    if augment not in MIXES:
        other = replace(data, source=type(data.source)(data=pixels[order]), keys=data.keys[order])  # type: ignore[call-arg]
        assert torch.equal(other.batch(np.arange(40), seed=3, epoch=5).x, whole.x[order])


def test_shift_and_mirror_equal_a_loop_over_pixels_on_both_paths() -> None:
    pixels, _ = pictures(6)
    rows, down, right = np.array([5, 0, 3, 3]), np.array([-2, 0, 1, 9]), np.array([1, 0, -3, 0])
    flip = np.array([True, False, True, False])
    expected = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    for i in range(4):
        for y in range(8):
            for x in range(8):
                a, b = y + down[i], (7 - x if flip[i] else x) + right[i]
                if 0 <= a < 8 and 0 <= b < 8:
                    expected[i, y, x] = pixels[rows[i], a, b]
    assert torch.equal(moved(pixels, rows, down=down, right=right, flip=flip), expected)
    assert torch.equal(moved(pixels.float(), rows, down=down, right=right, flip=flip), expected.float())
    edge = moved(pixels, rows, down=down, right=right, edge=True)
    assert (torch.equal(edge[3, 0], pixels[3, 7]) and int(edge.min()) > 0) or bool((edge == 0).any())


def test_ranges() -> None:
    pixels, _ = pictures(40)
    u = np.random.default_rng(0).random((4000, 4))
    down, right = Crop(pad=4).shifts(u, 8, 8)
    assert set(down) == set(right) == set(range(-4, 5))
    assert Crop(pad=0).shifts(u, 16, 32)[0].max() == 2
    assert 0.45 < Flip().mirrored(u).mean() < 0.55
    whole = RandomResizedCrop(low=1.0)(pixels[:1].expand(1, 8, 8, 3), np.array([[0.3, 0.5, 0.9, 0.1]]))
    torch.testing.assert_close(whole, pixels[:1].float())  # the whole area at ratio 1 is the image


def test_a_resized_crop_is_the_box_enlarged() -> None:
    from torch.nn.functional import interpolate

    image = torch.rand(1, 16, 16, 3) * 255
    u = np.array([[(0.25 - 0.08) / 0.92, 0.5, 0.0, 1.0]])  # a quarter, square, top right
    out = RandomResizedCrop()(image, u)
    box = image.permute(0, 3, 1, 2)[:, :, :8, 8:]
    expected = interpolate(box, (16, 16), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    torch.testing.assert_close(out[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0])
def test_beta_has_the_moments_of_beta(alpha: float) -> None:
    x = beta((np.arange(200_000)[:, None] + 0.5) / 200_000, alpha)
    assert x.mean() == pytest.approx(0.5, abs=1e-4)
    assert x.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=2e-3)
    assert (x**4).mean() == pytest.approx(np.prod([(alpha + r) / (2 * alpha + r) for r in range(4)]), rel=2e-3)


def test_mixing() -> None:
    a, b = torch.zeros(300, 8, 8, 3), torch.full((300, 8, 8, 3), 200.0)
    u = np.random.default_rng(1).random((300, 4))
    mixed, share = Mixup(alpha=1.0)(a, b, u)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)).numpy(), (1 - share) * 200, rtol=1e-5, atol=1e-3)
    mixed, share = Cutmix()(a, b, u)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)).numpy(), (1 - share) * 200, rtol=1e-5, atol=1e-3)
    assert set(mixed.unique().tolist()) == {0.0, 200.0}


def test_policies_use_all_their_operations() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (400, 16, 16, 3)).astype(np.uint8))
    for name in ("autoaugment", "autoaugment(policy='cifar10')", "randaugment(magnitude=9)"):
        [one] = parse_augments(name)
        out = one(x, rng.random((400, one.draws)))
        assert out.shape == x.shape
        changed = (out.float() != x.float()).flatten(1).any(1).float().mean()
        assert 0.5 < float(changed) <= 1
    assert strength_of("Posterize", 8, (32, 32), negative=False) == 4
    assert strength_of("Solarize", 9, (32, 32), negative=True) == 0
    assert strength_of("Rotate", 9, (32, 32), negative=True) == -30
    pixels = x[:2].permute(0, 3, 1, 2)
    assert torch.equal(operate(pixels, "Invert", 0.0), 255 - pixels)
    assert torch.equal(operate(pixels, "TranslateX", 3.0)[..., 3:], pixels[..., :-3])


def test_erase_and_colour() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (200, 8, 8, 3)).astype(np.uint8))
    [erase] = parse_augments("erase(p=1.0)")
    out = erase(x, np.random.default_rng(1).random((200, 5)))
    assert 0.02 < float((out == 128).all(-1).float().mean()) < 0.35
    [gray] = parse_augments("gray(p=1.0)")
    flat = gray(x, np.zeros((200, 1)))
    assert torch.equal(flat[..., 0], flat[..., 1])
    [jitter] = parse_augments("jitter(hue=0.0, p=1.0)")
    middle = jitter(x, np.full((200, 5), 0.5))
    torch.testing.assert_close(middle, x.float(), rtol=1e-3, atol=0.5)  # no change at the middle of every range


def test_batches_cover_an_epoch_and_one_is_never_left_alone() -> None:
    for n, size in ((50, 16), (33, 16), (16, 16), (1, 4), (5, 16)):
        found = batches(0, 3, n, size)
        assert sorted(np.concatenate(found)) == list(range(n))
        assert n == 1 or min(map(len, found)) > 1
    assert not np.array_equal(batches(0, 1, 50, 50)[0], batches(0, 2, 50, 50)[0])


def test_specs_say_what_is_wrong() -> None:
    with pytest.raises(SpecError, match="no augmentation 'flop'; did you mean 'flip'|no augmentation 'flop'"):
        parse_augments("flop")
    with pytest.raises(SpecError, match="comes last"):
        parse_augments("mixup, flip")
    assert parse_augments("none") == [] and len(parse_augments("crop(pad=4), flip, mixup(alpha=0.1)")) == 3
