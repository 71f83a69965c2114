"""The row kernel against the loss classes; run under Triton's interpreter by test_kernels_interpreted.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from row_tasks import RUNS, THREE, batch, by_torch, off, row_task

from w2s_fast import losses
from w2s_fast.train.kernels import kind_of, own_labels
from w2s_fast.train.kernels.rows import Truth, value_and_dz


def kernel(t, **changed):
    given = {"k": t.k, "t": t.t, "inverse": t.inverse, "factor": t.factor, "own": t.own, **changed}
    return value_and_dz(t.kind, t.numbers, given.pop("z", t.z), t.weak, t.rows, **given)


def agrees(t, value, dz, **how):
    """As near to double precision as torch's own single precision, or to a few units in the last place."""
    wanted, slope = by_torch(t, **how)
    single, single_slope = by_torch(t, torch.float32, **how)
    assert off(value, wanted) <= 2 * off(single, wanted) + 1e-6
    assert off(dz[..., : t.k], slope) <= 2 * off(single_slope, slope) + 1e-6
    assert off(single, wanted) < 1e-4, "the oracle is stable"


FEW = ["ce", "kd", "aux_conf", "aux_conf_argmax", "adapt_conf", "reverse_kl", "gce"]


@pytest.mark.parametrize(
    ("name", "k"), [(n, k) for n in THREE for k in (5, 40)] + [(n, k) for n in FEW for k in (1, 2)]
)
def test_is_the_loss_class(name, k):
    t = row_task(name, k=k, seed=k)
    value, dz = kernel(t)
    assert value.shape == (RUNS, 7)
    assert bool((dz[..., k:] == 0).all()), "padded columns, which hold NaN in z, get no gradient"
    agrees(t, value, dz)


@pytest.mark.parametrize("name", THREE)
def test_extreme_logits_stay_finite(name):
    t = row_task(name, k=5, seed=3)
    z, weak = t.z[..., :5], t.weak
    gap = torch.tensor([200.0, 1e4, 1e4]).view(-1, 1, 1)
    z.copy_(torch.where(z > 1, gap, torch.where(z < -1, -gap, z)))
    weak.copy_(torch.where(weak > 1, 200, torch.where(weak < -1, -1e4, weak)))
    if t.kind.hardens:
        t.own = own_labels(t.loss, z, batch(t, torch.float32))
    value, dz = kernel(t)
    assert bool(value.isfinite().all()) and bool(dz.isfinite().all())
    # balanced labels of saturated rows hang on rounding, so single precision is their oracle
    wanted, slope = by_torch(t, torch.float32 if t.kind.hardens else torch.float64)
    assert float(wanted.abs().max()) > 5
    assert off(value, wanted) < 2e-6
    assert off(dz[..., :5], slope) < 2e-5


@pytest.mark.parametrize("name", ["ce", "aux_conf_argmax", "adapt_conf", "adapt_conf flip", "gce"])
def test_ties_go_to_the_lowest_class(name):
    t = row_task(name, k=5, b=16, seed=1)
    t.z[..., :5] = t.z[..., :5].round().clamp(-1, 1)
    t.weak.round_().clamp_(-1, 1)
    top = t.z[..., :5].amax(dim=-1, keepdim=True)
    assert int(((t.z[..., :5] == top).sum(dim=-1) > 1).sum()) > 16, "most rows have ties"
    agrees(t, *kernel(t))


def test_factor_may_be_absent_and_rows_shared():
    t = row_task("adapt_conf", k=5)
    t.rows = t.rows[0].clone()
    agrees(t, *kernel(t, factor=None), factor=False)


def test_parts_of_longer_tables_are_fine():
    t = row_task("kd", k=5)
    long = {f: torch.cat([torch.full_like(getattr(t, f), 1), getattr(t, f)], dim=1) for f in ("rows", "factor")}
    t.rows, t.factor = long["rows"][:, 7:], long["factor"][:, 7:]
    wide = torch.full((23, 9), torch.nan)
    wide[:, :5] = t.weak
    t.weak = wide
    place, slopes = torch.zeros(RUNS + 2, 7), torch.zeros(RUNS + 2, 7, 8)
    value, dz = kernel(t, value=place[1:4], dz=slopes[1:4])
    agrees(t, value, dz)
    assert value.data_ptr() == place[1].data_ptr()
    assert not slopes[[0, 4]].any() and not place[[0, 4]].any()


def test_gradient_may_be_narrow():
    """fp16 is rounded by numpy as hardware does; of bf16 the interpreter cuts off the tail."""
    t = row_task("kd", k=5)
    _, exact = kernel(t)
    _, dz = kernel(t, dz=torch.empty_like(t.z, dtype=torch.float16))
    assert torch.equal(dz, exact.half())
    _, dz = kernel(t, dz=torch.empty_like(t.z, dtype=torch.bfloat16))
    assert float((dz.float() - exact).abs().max()) <= 2**-7 * float(exact.abs().max())
    assert torch.equal(dz == 0, exact == 0)


def test_offset_is_added_to_the_logits():
    t = row_task("adapt_conf", k=5)
    offset = torch.linspace(-2, 2, RUNS * 8).view(RUNS, 8)
    bare = t.z.clone()
    t.z = t.z + offset.unsqueeze(1)
    agrees(t, *kernel(t, z=bare, offset=offset))


@pytest.mark.parametrize("name", ["kd", "adapt_conf", "gce"])
def test_ground_truth_term(name):
    t = row_task(name, k=5)
    labels = torch.arange(23) % 6 - 1
    w, tau = torch.tensor([0.0, 0.5, 2.0]), torch.tensor([1.0, 0.3, 2.0])
    value, dz = kernel(t, truth=Truth(labels=labels, w=w, tau=tau))
    wanted, slope = by_torch(t)
    z = t.z[..., :5].double().requires_grad_(True)
    flat = (z / tau.view(-1, 1, 1)).reshape(-1, 5)
    extra = torch.nn.functional.cross_entropy(flat, labels[t.rows].reshape(-1), ignore_index=-1, reduction="none")
    extra = extra.view(RUNS, 7) * w.unsqueeze(1) * t.factor
    (more,) = torch.autograd.grad((extra.sum(dim=1) * t.inverse).sum(), z)
    assert off(value, wanted + extra.detach()) < 2e-6
    assert off(dz[..., :5], slope + more) < 2e-5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["kd", "aux_conf_argmax", "adapt_conf", "ce"])
def test_a_run_of_nans_leaves_its_neighbours_alone(name):
    t = row_task(name, k=5)
    value, dz = kernel(t)
    t.z[1] = torch.nan
    sick, sick_dz = kernel(t)
    assert torch.equal(sick[[0, 2]], value[[0, 2]])
    assert torch.equal(sick_dz[[0, 2]], dz[[0, 2]])
    assert bool(sick_dz[1, :, :5].isnan().all())


def test_one_row_of_one_run():
    t = row_task("kd", k=2, b=1, kp=2, runs=1)
    agrees(t, *kernel(t))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"own": torch.zeros(RUNS, 7, dtype=torch.int64)},
        lambda t: {"k": 9},
        lambda t: {"factor": t.factor.double()},
        lambda t: {"factor": t.factor.t().contiguous().t()},
        lambda t: {"dz": torch.empty(RUNS, 7, 5)},
        lambda t: {"z": t.z.transpose(1, 2).contiguous().transpose(1, 2)},
    ],
)
def test_what_does_not_fit_is_refused(change):
    t = row_task("kd", k=5)
    with pytest.raises(ValueError):
        kernel(t, **change(t))


def test_balanced_labels_must_be_given():
    t = row_task("aux_conf", k=5)
    with pytest.raises(ValueError, match="own"):
        kernel(t, own=None)


def test_balanced_labels_skip_padding():
    """Statistics over valid rows come from outside, so the kernel's target is the class's with padding too."""
    t = row_task("aux_conf", k=5, b=16, seed=2)
    valid = torch.arange(16) < torch.tensor([[16], [9], [4]])
    seen = replace(batch(t, torch.float64), valid=valid)
    own = own_labels(t.double, t.z[..., :5].double(), seen)
    value, dz = kernel(t, own=own, factor=valid.float())
    wanted, slope = t.double.value_and_dz(t.z[..., :5].double(), seen)
    assert off(value, wanted * valid) < 2e-6
    assert off(dz[..., :5], slope * valid.unsqueeze(-1) * t.inverse.view(-1, 1, 1)) < 2e-6


def test_numbers_of_floats_and_of_stacks_agree():
    one = losses.make("adapt_conf(T=.3, kd_t=2, ramp=.1, tau_s=.05, tau_w=2)")
    kind = kind_of(one, k=5)
    assert kind.numbers(one, 2, device="cpu").tolist() == [pytest.approx([0.05, 2, 0.3, 2, 0.1])] * 2
    both = losses.stack([one, losses.make("adapt_conf(tau_s=1)")], dtype=torch.float64, device="cpu")
    assert kind_of(both, k=5).numbers(both, 2, device="cpu")[1].tolist() == pytest.approx([1, 1, 0.5, 1, 0])
