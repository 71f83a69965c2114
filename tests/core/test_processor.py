"""Which processors have bfloat16 instructions."""

import pytest

from w2s_fast.core import processor


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f amx_bf16\n", True),
        ("flags\t\t: fpu avx512_bf16 avx2\n", True),
        ("flags\t\t: fpu avx512f avx2\n", False),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        ("vendor_id\t: bf16\n", False),
        ("", False),
    ],
)
def test_flags(tmp_path, monkeypatch, text, has):
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", file)
    assert processor.has_bf16.__wrapped__() is has


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert processor.has_bf16.__wrapped__() is False
