"""What float16 can hold, and which norms are the features' own, decided as float64 decides it."""

from __future__ import annotations

import numpy as np
import pytest

from w2s_fast.core.errors import DataError
from w2s_fast.core.hashing import row_id
from w2s_fast.store import checks

WIDTH = 24


def stored(features: np.ndarray, norms: np.ndarray | None = None) -> np.ndarray:
    n = len(features)
    true = np.linalg.norm(features.astype(np.float64), axis=1).astype(np.float32)
    ids = [row_id(i.to_bytes(4, "little")) for i in range(n)]
    given = true if norms is None else norms
    arrays = checks.checked_arrays(
        ids, 0, features=features, logits=None, norms=given, ok=np.ones(n, bool), stored="f16"
    )
    checks.check_numbers(arrays, ids, 0)
    return arrays["features"]


def float16_holds(features: np.ndarray) -> bool:
    """The rule of the format, in float64 throughout."""
    with np.errstate(over="ignore"):
        half = features.astype(np.float16).astype(np.float64)
    full = features.astype(np.float64)
    return bool((np.linalg.norm(full - half, axis=1) <= 2.0**-10 * np.linalg.norm(full, axis=1)).all())


@pytest.mark.parametrize("value", [65504.0, 65519.0, 65520.0, 65536.0, -65536.0, 70000.0, 1e30, -3e38])
def test_a_value_beyond_float16_makes_the_part_float32(value: float) -> None:
    features = np.ones((300, WIDTH), np.float32)
    features[257, 5] = value
    found = stored(features)
    assert found.dtype == (np.float16 if abs(value) < 65520 else np.float32)
    assert np.isfinite(found).all() and np.allclose(found, features, rtol=1e-3)


@pytest.mark.parametrize("exponent", range(-46, 36, 2))
def test_the_stored_type_is_what_float64_says_at_any_scale(exponent: int) -> None:
    rng = np.random.default_rng(exponent % 97)
    for row in range(6):
        features = rng.standard_normal((200, WIDTH)).astype(np.float32)
        features[row * 39] *= np.float32(10.0) ** rng.uniform(exponent, exponent + 2)
        assert (stored(features).dtype == np.float16) == float16_holds(features)


def test_the_stored_type_is_what_float64_says_at_the_limit() -> None:
    said: set[bool] = set()
    for step in np.linspace(0.5, 2.0, 400):  # subnormal rows whose loss goes through 2^-10 of their norm
        features = np.ones((3, WIDTH), np.float32)
        features[1] = np.float32(2.0**-24) * np.arange(300, 300 + WIDTH, dtype=np.float32) * np.float32(step)
        said.add(float16_holds(features))
        assert (stored(features).dtype == np.float16) == float16_holds(features)
    assert said == {True, False}


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(d, s) for d in ("<f2", ">f2") for s in (1e-6, 1e-4, 1.0, 900.0)]
    + [(d, s) for d in ("<f4", ">f4") for s in (1e-26, 1e-12, 1e-7, 1.0, 1e15, 1e35)],
)
@pytest.mark.parametrize("off", [0.0, 0.0095, -0.0095, 0.0105, -0.0105])
def test_norms_are_compared_at_any_scale(dtype: str, scale: float, off: float) -> None:
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((200, WIDTH)) * scale).astype(dtype)
    true = np.linalg.norm(features.astype(np.float64), axis=1)
    norms = true.astype(np.float32)
    norms[150] = true[150] * (1 + off)
    if abs(off) < 0.01:
        assert len(stored(features, norms)) == 200
    else:
        with pytest.raises(DataError, match="norms of row 150 .* is not the L2 norm"):
            stored(features, norms)
