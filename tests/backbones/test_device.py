"""Pages that are kept: measured in a process of its own, by the page faults of repeated large blocks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from w2s_fast.backbones.device import keep_pages
kept = keep_pages() if sys.argv[1] == "kept" else None
torch.set_num_threads(1)
x = torch.ones(6 << 20)  # 24 MiB of float32
((x * 2) + 1).relu()  # pages that are touched for the first time are no matter
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    ((x * 2) + 1).relu()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[str, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    out = subprocess.check_output([sys.executable, "-c", CODE, how], text=True, env=clean | environment)
    kept, count = out.split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_thresholds_are_raised() -> None:
    assert faults("kept")[0] == "True"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_blocks_are_used_again_instead_of_mapped_anew() -> None:
    """Where the kernel gives huge pages, a run's count is a matter of luck: the best of some is compared."""
    few, many = (min(faults(how)[1] for _ in range(5)) for how in ("kept", "plain"))
    assert few * 3 < many


def test_an_allocator_that_the_user_has_set_is_left_alone() -> None:
    assert faults("kept", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
