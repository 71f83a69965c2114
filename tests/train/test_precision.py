"""Reduced precision is gated by accuracy over paired seeds, single precision by parity (test_engine_gate.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from tasks import task, thirds

from w2s_fast.core import processor
from w2s_fast.train import Run, Start, Supervision, fit_heads
from w2s_fast.train.gemm import PRECISIONS, single_precision

SEEDS = 32


@pytest.fixture(autouse=True)
def _with_instructions(monkeypatch):
    """What bf16 gives is tested on processors without its instructions too, slowly."""
    monkeypatch.setattr(processor, "has_bf16", lambda: True)


LOSSES = ("ce", "kd", "aux_conf", "aux_conf_argmax", "adapt_conf")


def world(n=7000, k=20, d=64):
    """Classes as noisy directions with a teacher that is right on two thirds of the rows."""
    g = torch.Generator().manual_seed(7)
    y = torch.randint(k, (n,), generator=g)
    centre = torch.nn.functional.normalize(torch.randn(k, d, generator=g), dim=-1)
    x = torch.nn.functional.normalize(centre[y] + 0.16 * torch.randn(n, d, generator=g), dim=-1)
    said = torch.where(torch.rand(n, generator=g) < 0.68, y, torch.randint(k, (n,), generator=g))
    weak = torch.randn(n, k, generator=g)
    weak[torch.arange(n), said] += 3.0
    return x, y, Supervision(weak=weak), Start(k=k, d=d, text=centre)


def accuracies(precision, heads, losses, seeds):
    x, y, supervision, start = world()
    runs = [Run(head=h, loss=loss, seed=s, lr=0.01, epochs=5) for h in heads for loss in losses for s in range(seeds)]
    found = fit_heads(
        x,
        runs,
        splits=[thirds(len(y), 2000)],
        supervisions=[supervision],
        start=start,
        truth=y,
        precision=precision,
        selections=["last"],
    )
    test = thirds(len(y), 2000).test
    by_run = {f.index: (f.predicted["last"] == y.numpy()[test]).mean() for f in found}
    return np.array([by_run[i] for i in range(len(runs))]).reshape(len(heads) * len(losses), seeds)


@pytest.mark.parametrize("head", ["linear", "prototype(init='random')"])
def test_bf16_is_within_three_tenths_of_a_point(head):
    """Mean difference over 32 paired seeds and its 95 % interval, per loss."""
    gaps = 100 * (accuracies("bf16", [head], LOSSES, SEEDS) - accuracies("fp32", [head], LOSSES, SEEDS))
    assert (gaps != 0).any(), "nothing was reduced"
    mean, se = gaps.mean(axis=1), gaps.std(axis=1, ddof=1) / SEEDS**0.5
    half = student.ppf(0.975, SEEDS - 1) * se
    told = [f"{loss}: {m:+.3f} +- {h:.3f}" for loss, m, h in zip(LOSSES, mean, half, strict=True)]
    print(head, "; ".join(told))
    assert (abs(mean) <= 0.3).all(), told


def test_parameters_and_softmax_stay_in_single_precision():
    t, seen = task(), []

    def loss(z, weak, batch):
        seen.append((z.dtype, weak.logits.dtype))
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    (fit,) = fit_heads(
        t.x,
        [Run(head="linear", loss=loss, epochs=1)],
        splits=[thirds(t.n, 60)],
        supervisions=[t.sup],
        start=t.start,
        truth=t.y,
        precision="bf16",
    )
    assert set(seen) == {(torch.float32, torch.float32)}
    assert fit.theta["last"]["weight"].dtype == torch.float32
    weight = fit.theta["last"]["weight"]
    assert not torch.equal(weight, weight.bfloat16().float()), "the master copy has all its digits"
    assert fit.resolved["precision"] == "bf16"


def test_tf32_is_fp32_off_a_gpu():
    t = task()
    run = Run(head="linear", loss="kd", epochs=1)
    one, other = (
        next(
            fit_heads(
                t.x,
                [run],
                splits=[thirds(t.n, 60)],
                supervisions=[t.sup],
                start=t.start,
                truth=t.y,
                precision=precision,
            )
        )
        for precision in ("tf32", "fp32")
    )
    assert torch.equal(one.theta["last"]["weight"], other.theta["last"]["weight"])
    assert one.resolved["precision"] == other.resolved["precision"] == "fp32"


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
def test_settings_of_single_precision_agree_inside_and_are_put_back(name, before):
    """torch raises where its two settings disagree and the older one is asked for."""
    matmul = torch.backends.cuda.matmul
    was = (matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)
    try:
        matmul.fp32_precision = before
        with single_precision(PRECISIONS[name], torch.device("cuda")):
            assert matmul.fp32_precision == ("tf32" if name == "tf32" else "ieee")
            assert matmul.allow_tf32 == (name == "tf32")
            assert torch.get_float32_matmul_precision() == ("high" if name == "tf32" else "highest")
        assert matmul.fp32_precision == before
        assert torch.backends.mkldnn.matmul.fp32_precision == was[1]
    finally:
        matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision = was
    assert torch.get_float32_matmul_precision() == "highest"


def test_without_its_instructions_bf16_is_fp32_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    t = task()
    given = {"splits": [thirds(t.n, 60)], "supervisions": [t.sup], "start": t.start, "truth": t.y}
    run = Run(head="linear", loss="kd", epochs=2)
    (half,), (single,) = (list(fit_heads(t.x, [run], precision=p, **given)) for p in ("bf16", "fp32"))
    assert half.resolved["precision"] == "fp32"
    assert torch.equal(half.theta["last"]["weight"], single.theta["last"]["weight"])
    assert "no bfloat16 instructions" in caplog.text
