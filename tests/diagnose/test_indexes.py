"""faiss indexes behind one function, against the exact search; kept indexes are checked before they are used."""

from pathlib import Path

import pytest
import torch

from w2s_fast.core.errors import UsageError
from w2s_fast.diagnose.index_files import folder_of
from w2s_fast.diagnose.indexes import estimated, search
from w2s_fast.diagnose.neighbours import neighbours


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    centres = torch.randn(40, 24, generator=g)
    return centres[torch.randint(40, (3000,), generator=g)] + 0.4 * torch.randn(3000, 24, generator=g)


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(len(set(p) & set(q)) for p, q in zip(a.tolist(), b.tolist(), strict=True)) / a.numel()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_indexes_find_what_the_exact_search_finds(x: torch.Tensor, kind: str, alone: bool) -> None:
    queries = None if alone else x[:500] + 0.05
    ids, near = neighbours(x, queries, k=6)
    found = search(x, queries, k=6, index=kind)
    share = overlap(found.ids, ids)
    assert share > (0.9999 if kind == "flat" else 0.9)
    assert found.recall == pytest.approx(share, abs=0.03), "the recall that is told is the recall there is"
    assert (found.near[:, 0] <= 1.00001).all()
    assert (found.near.diff(dim=1) <= 0).all()
    if alone:
        assert not (found.ids == torch.arange(len(x)).unsqueeze(1)).any()
    if kind == "flat":
        torch.testing.assert_close(found.near, near, atol=1e-5, rtol=0)


def test_a_poor_index_says_so_and_short_answers_are_made_whole(x: torch.Tensor) -> None:
    poor = search(x, k=20, index="ivf", probes=1)
    assert poor.recall < 0.97
    assert (poor.ids >= 0).all()
    assert all(len(set(row)) == 20 for row in poor.ids.tolist())


def test_exact_is_the_default_and_auto_takes_the_cheapest(x: torch.Tensor) -> None:
    assert search(x, k=3).kind == "exact"
    found = search(x, k=3, index="auto")
    assert found.kind == min(found.estimates, key=lambda kind: found.estimates[kind])
    one = estimated(x, q=1, k=3, probes=4, ef=16)
    assert one["exact"] < one["hnsw"], "building three thousand nodes for one query does not pay"


def test_a_kept_index_is_found_again_and_a_damaged_one_is_built_anew(x: torch.Tensor, tmp_path: Path) -> None:
    beside = folder_of("ab" * 32, cache=tmp_path)
    first = search(x, k=4, index="hnsw", beside=beside)
    (file,) = beside.glob("*.faiss")
    assert beside == tmp_path / "indexes" / "ab" / ("ab" * 32)
    whole, stamp = file.read_bytes(), file.stat().st_mtime_ns
    again = search(x, k=4, index="hnsw", beside=beside)
    assert torch.equal(again.ids, first.ids)
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    fixed = search(x, k=4, index="hnsw", beside=beside)
    assert overlap(fixed.ids, first.ids) > 0.9
    assert file.stat().st_mtime_ns != stamp
    search(x[:2000], k=4, index="hnsw", beside=beside)
    assert len(list(beside.glob("*.faiss"))) == 2, "other rows have an index of their own"


def test_unknown_indexes_and_a_gpu_that_is_not_there(x: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="did you mean 'hnsw'"):
        search(x, k=3, index="hsnw")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="index='exact'"):
            search(x, k=3, index="gpu")


@pytest.mark.slow
def test_halves_are_searched_within_two_gigabytes(tmp_path: Path) -> None:
    """1.28 M x 768 in half precision: the rows and what the search holds beside them, in a process of its own."""
    import subprocess
    import sys

    script = (
        "import resource, torch\n"
        "from w2s_fast.diagnose.neighbours import neighbours\n"
        "torch.set_num_threads(1)\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "x = torch.empty(1_280_000, 768, dtype=torch.float16)\n"
        "for part in x.split(20000): part.copy_(torch.randn(768)[None] + torch.arange(len(part))[:, None] % 97)\n"
        "ids, near = neighbours(x, x[:64], k=10)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 2**20)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 2.1
