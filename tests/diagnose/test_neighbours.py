"""Nearest neighbours against brute force in double precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.diagnose import neighbours as module
from w2s_fast.diagnose.neighbours import neighbours


def brute(x: Tensor, queries: Tensor | None, k: int, *, cosine: bool, alone: bool) -> tuple[np.ndarray, np.ndarray]:
    a = x.numpy().astype(np.float64)
    b = a if queries is None else queries.numpy().astype(np.float64)
    if cosine:
        a, b = (m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12) for m in (a, b))
    similar = b @ a.T
    if alone:
        np.fill_diagonal(similar, -np.inf)
    order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similar, order, axis=1)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(57, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("metric", ["cosine", "inner"])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("chunk", [10, 4096])
def test_neighbours_are_those_of_brute_force(
    x: Tensor, metric: str, exclude_self: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(module, "BLOCK", chunk + 3)
    ids, near = neighbours(x, k=7, metric=metric, exclude_self=exclude_self)  # type: ignore[arg-type]
    wanted, similar = brute(x, None, 7, cosine=metric == "cosine", alone=exclude_self)
    assert ids.dtype == torch.int64
    assert near.dtype == torch.float32
    np.testing.assert_array_equal(ids.numpy(), wanted)
    np.testing.assert_allclose(near.numpy(), similar, atol=1e-5)


def test_queries_of_their_own_may_find_equal_rows(x: Tensor) -> None:
    queries = torch.cat([x[5:8], 3 * x[2:3]])
    ids, near = neighbours(x, queries, k=4)
    wanted, similar = brute(x, queries, 4, cosine=True, alone=False)
    np.testing.assert_array_equal(ids.numpy(), wanted)
    np.testing.assert_allclose(near.numpy(), similar, atol=1e-5)
    assert ids[:, 0].tolist() == [5, 6, 7, 2]


def test_equal_rows_are_neighbours_but_none_is_its_own() -> None:
    ids, near = neighbours(torch.ones(12, 3), k=4)
    assert not (ids == torch.arange(12).unsqueeze(1)).any()
    assert all(len(set(row)) == 4 for row in ids.tolist())
    torch.testing.assert_close(near, torch.ones(12, 4))


def test_every_other_row_can_be_asked_for_and_rows_without_direction_are_far(x: Tensor) -> None:
    x[3] = 0
    ids, near = neighbours(x.double(), k=56)
    assert sorted(ids[3].tolist()) == [n for n in range(57) if n != 3]
    assert (near[3] == 0).all()
    assert neighbours(x.half(), k=2)[0].shape == (57, 2)


def test_what_cannot_be_searched_is_refused(x: Tensor) -> None:
    with pytest.raises(UsageError, match="give 1 to 56"):
        neighbours(x, k=57)
    with pytest.raises(UsageError, match="give 1 to 57"):
        neighbours(x, x, k=58)
    with pytest.raises(UsageError, match="k=0"):
        neighbours(x, k=0)
    with pytest.raises(UsageError, match="'euclid'"):
        neighbours(x, k=1, metric="euclid")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="8 wide"):
        neighbours(x, x[:, :8], k=1)
    with pytest.raises(DataError, match="rows"):
        neighbours(x[0], k=1)
    x[4, 2] = torch.nan
    with pytest.raises(DataError, match="row 4 of x"):
        neighbours(x, k=1)
