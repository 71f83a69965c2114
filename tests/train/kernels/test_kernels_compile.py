"""The kernels become machine code of an H100 or H200 on any machine with Triton: no GPU is asked."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")]

KINDS = {
    "ce": {},
    "ce_soft": {},
    "kd": {"FLAG": True},
    "aux_conf": {"own_ptr": ...},
    "adapt_conf": {"PLAIN": True},
    "reverse_kl": {},
    "gce": {},
}
ROW = {"FLAG": False, "PLAIN": False, "own_ptr": None, "label_ptr": None, "w_gt_ptr": None, "tau_gt_ptr": None}


@pytest.fixture(autouse=True)
def _own_triton_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def spills(kernel, constants, warps, tmp_path, bf16=()):
    """Bytes of stack that a thread of the compiled kernel needs; 0 = everything fits into registers."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {name: value for name, value in constants.items() if value is not ...}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            integer = name in ("rows_ptr", "own_ptr", "label_ptr")
            signature[name] = "*i64" if integer else "*bf16" if name in bf16 else "*fp32"
        else:
            signature[name] = "fp32" if name in ("lead", "keep", "gain", "eps", "momentum") else "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(done.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    said = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:\d+ STACK:(\d+)", said)
    assert found is not None, said
    return int(found[1])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("block", "tall", "warps"), [(16, 16, 1), (512, 1, 2), (8192, 1, 16)])
def test_rows(name, block, tall, warps, tmp_path):
    from w2s_fast.train.kernels import rows

    constants = {**ROW, **KINDS[name], "KIND": name, "TALL": tall, "BLOCK": block}
    assert spills(rows._rows, constants, warps, tmp_path, bf16=("dz_ptr",)) == 0


def test_rows_with_everything_and_with_one_class(tmp_path):
    from w2s_fast.train.kernels import rows

    full = {"KIND": "adapt_conf", "FLAG": True, "PLAIN": False, "own_ptr": None, "TALL": 1, "BLOCK": 1024}
    assert spills(rows._rows, full, 4, tmp_path) == 0
    # Triton makes constants of arguments that are 1
    ones = dict.fromkeys(("b", "k", "kp", "weak_k", "z_run", "z_row", "dz_run", "dz_row", "rows_run"), 1)
    for name in KINDS:
        one = {**ROW, **KINDS[name], **ones, "KIND": name, "TALL": 1, "BLOCK": 16}
        assert spills(rows._rows, one, 1, tmp_path) == 0


def test_solvers(tmp_path):
    from w2s_fast.train.kernels import adam

    for absent in ({}, dict.fromkeys(("low_ptr", "l2_ptr", "shrink_ptr", "active_ptr"), None)):
        assert spills(adam._adam, {"BLOCK": 1024, **absent}, 4, tmp_path, bf16=("low_ptr", "g_ptr")) == 0
    for nesterov in (False, True):
        assert spills(adam._sgd, {"BLOCK": 1024, "NESTEROV": nesterov}, 4, tmp_path) == 0


def test_unit_rows(tmp_path):
    from w2s_fast.train.kernels import unit

    for block, warps in ((16, 1), (512, 2), (1024, 4), (4096, 16)):
        assert spills(unit._normalise, {"BLOCK": block}, warps, tmp_path, bf16=("low_ptr",)) == 0
        assert spills(unit._pull, {"BLOCK": block}, warps, tmp_path) == 0
        assert spills(unit._step, {"BLOCK": block}, warps, tmp_path, bf16=("low_ptr",)) == 0
