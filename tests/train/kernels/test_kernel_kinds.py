"""Which losses the row kernel claims, and that nothing imports Triton before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest
import torch

from w2s_fast import losses
from w2s_fast.core.fields import is_real
from w2s_fast.losses.soft import Kd
from w2s_fast.train.kernels import available, kind_of, why_not
from w2s_fast.train.kernels.kinds import WIDEST

SERVED = ["ce", "ce_soft", "kd", "cpl", "aux_conf", "aux_conf_argmax", "adapt_conf", "reverse_kl", "gce"]


@pytest.mark.parametrize("name", SERVED)
def test_a_served_loss_has_a_kind_that_reads_all_its_numbers(name):
    loss = losses.make(name)
    kind = kind_of(loss, k=345)
    assert kind is not None
    # an option that is None is off; where it is set, the kernel leaves the loss to torch
    real = {f.name for f in fields(loss) if is_real(f) and (f.name == "tau_s" or getattr(loss, f.name) is not None)}
    assert real == {"tau_s", "tau_w", *kind.fields}
    assert kind.numbers(loss, 4, device="cpu").shape == (4, len(real))


def test_flags_follow_the_fields():
    def kind(spec):
        return kind_of(losses.make(spec), k=5)

    assert kind("kd(tau2=True)").flag and not kind("kd").flag
    assert kind("adapt_conf(flip=True)").flag and not kind("adapt_conf").flag
    assert kind("adapt_conf").plain and not kind("adapt_conf(kd_t=2)").plain
    assert kind("aux_conf").hardens and not kind("aux_conf(harden='argmax')").hardens
    assert not kind("aux_conf_argmax").hardens
    assert kind("cpl") == kind("kd")


def test_a_stack_of_unlike_kd_t_is_not_plain():
    both = losses.stack([losses.make(f"adapt_conf(kd_t={t})") for t in (1, 2)], dtype=torch.float32, device="cpu")
    assert not kind_of(both, k=5).plain


def test_what_the_kernel_does_not_do():
    class Mine(Kd):
        pass

    kd = losses.make("kd")
    assert kind_of(Mine(), k=5) is None
    assert kind_of(losses.make(lambda z, weak, batch: z.sum(-1)), k=5) is None
    assert kind_of(kd, k=5, teachers=2) is None
    assert kind_of(losses.make("aux_conf(buffer=8)"), k=5) is None
    assert kind_of(losses.make("aux_conf(harden='argmax', buffer=8)"), k=5) is not None
    assert kind_of(losses.make("adapt_conf(beta=.5)"), k=5) is None
    assert kind_of(losses.make("aux_conf_argmax(legacy_warmup=True)"), k=5) is None
    assert kind_of(losses.make("logconf_eleuther(buffer=0)"), k=5) is None
    assert kind_of(kd, k=WIDEST) is not None and kind_of(kd, k=WIDEST + 1) is None


def test_the_engine_imports_no_triton():
    code = (
        "import sys; before = 'triton' in sys.modules\n"
        "import w2s_fast.train, w2s_fast.train.kernels\n"
        "assert before or 'triton' not in sys.modules\n"
        "assert 'w2s_fast.train.kernels.rows' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_why_not(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    from w2s_fast.train.kernels import launch

    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    assert why_not("cuda") == "triton is not installed"
    monkeypatch.setattr(launch, "find_spec", lambda name: object())
    assert not available("cpu") and "not cuda" in str(why_not("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert "7.0" in str(why_not("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    assert ("C compiler" in str(why_not("cuda"))) == (os.name == "posix")
    monkeypatch.setattr(launch.shutil, "which", lambda name: name)
    assert available("cuda")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert available("cpu")
