"""Guarded PGR, paired standard errors, McNemar's test and Student's quantiles; the intervals are in `intervals`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import UsageError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

Z975 = 1.96
"""The normal quantile of a two-sided 95 % interval, as the protocol writes it."""

NORMAL_FROM = 1e5
"""Degrees of freedom from which Student's quantile is the protocol's normal one (they differ by 2e-5 there)."""

GUARD = 2.0
"""A gap between ceiling and weak of at most this many standard errors leaves PGR undefined."""

BELOW = "ceiling below weak"
EQUAL = "ceiling equals weak"
NOISE = "gap within two standard errors"
MISSING = "not measured"


@dataclass(frozen=True, kw_only=True)
class PGR:
    """Performance gap recovered: `value`, or NaN with the reason in `flag` (a row writes null and `pgr_flag`)."""

    value: float
    flag: str | None = None


def gap_flag(gap: float, gap_se: float | None = None) -> str | None:
    """Why a gap (ceiling - weak) cannot carry a PGR, or None where it can; both arguments in one unit."""
    if not math.isfinite(gap) or (gap_se is not None and math.isnan(gap_se)):
        return MISSING
    if gap < 0:
        return BELOW
    if gap == 0:
        return EQUAL
    if gap_se is not None and gap <= GUARD * gap_se:
        return NOISE
    return None


def pgr(weak: float, w2s: float, ceiling: float, *, gap_se: float | None = None) -> PGR:
    """(w2s - weak) / (ceiling - weak), never clipped; NaN and a flag where the gap does not carry it.

    `weak`, `w2s` and `ceiling` are accuracies on the same test items, in one unit (fractions or percent), as is
    `gap_se`, the standard error of ceiling - weak (`paired_gap_se`); without it only a gap <= 0 is guarded.
    NaN or infinite accuracies give NaN and "not measured". Source: Burns et al. 2023, section 3.
    """
    flag = gap_flag(ceiling - weak, gap_se)
    if flag is None and not math.isfinite(w2s):
        flag = MISSING
    if flag is not None:
        return PGR(value=math.nan, flag=flag)
    return PGR(value=(w2s - weak) / (ceiling - weak))


def paired_gap_se(correct_a: NDArray[Any], correct_b: NDArray[Any]) -> float:
    """Standard error of the difference of two accuracies on the same n items: sd(a - b) / sqrt(n), a fraction.

    Both are 0/1 of shape [n], in the same order of items; one item alone gives infinity, because nothing is known
    about its spread. Errors: `UsageError` for other shapes or values, and for no item.
    """
    a, b = _paired(correct_a, correct_b)
    if a.size == 1:
        return math.inf
    d = a.astype(np.float64) - b.astype(np.float64)
    return float(d.std(ddof=1) / math.sqrt(d.size))


def mcnemar(correct_a: NDArray[Any], correct_b: NDArray[Any]) -> tuple[int, int, float]:
    """McNemar's exact test on paired 0/1 of shape [n]: (only a right, only b right, two-sided p).

    p is the exact binomial one, 2 P(X <= min) for X ~ Binomial(b + c, 1/2), at most 1, and 1 without discordant
    items. It holds for one seed's items; several seeds of the same items are not independent trials.
    """
    a, b = _paired(correct_a, correct_b)
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(~a & b))
    n, low = only_a + only_b, min(only_a, only_b)
    if only_a == only_b:
        return only_a, only_b, 1.0
    k = np.arange(1, low + 1, dtype=np.float64)
    log_choose = np.concatenate([np.zeros(1), np.cumsum(np.log((n - k + 1) / k))])
    top = float(log_choose.max())
    log_tail = top + math.log(float(np.exp(log_choose - top).sum())) - n * math.log(2)
    return only_a, only_b, min(1.0, 2 * math.exp(log_tail))


def t_quantile(df: float) -> float:
    """The 97.5 % quantile of Student's t with `df` degrees of freedom, whole or not: P(|T| <= q) = 0.95.

    P(|T| > q) is the regularised incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + q^2), which rises in x
    and is inverted by bisection. Errors: `UsageError` for df < 1.
    """
    if not df >= 1:
        raise UsageError(f"a t quantile needs at least 1 degree of freedom, not {df}: use two seeds or more")
    if df > NORMAL_FROM:
        return Z975
    low, high = 0.0, 1.0
    for _ in range(52):
        x = (low + high) / 2
        low, high = (low, x) if _incomplete_beta(x, df / 2, 0.5) > 0.05 else (x, high)
    x = (low + high) / 2
    return math.sqrt(df * (1 - x) / x)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) for 0 < x < 1, by its continued fraction (Abramowitz and Stegun 26.5.8), mirrored where it is slow."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    )
    # evaluated from the last term backwards: no partial denominator can vanish on the way
    fraction = 1.0
    for m in range(30 + int(1.5 * math.sqrt(max(a, b))), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return front / fraction


def as_correct(values: NDArray[Any], *, what: str) -> BoolArray:
    """0/1 of shape [n] as bool, or a `UsageError` that says what `what` is instead."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"{what} has shape {list(array.shape)}; correctness is one 0 or 1 per item, shape [n]")
    if array.dtype != np.bool_:
        if not bool(np.all((array == 0) | (array == 1))):
            raise UsageError(f"{what} holds values other than 0 and 1; correctness is predicted == label")
        array = array != 0
    return array


def _paired(correct_a: NDArray[Any], correct_b: NDArray[Any]) -> tuple[BoolArray, BoolArray]:
    a, b = as_correct(correct_a, what="the first system"), as_correct(correct_b, what="the second system")
    if a.shape != b.shape:
        raise UsageError(f"the systems have {a.size} and {b.size} items; give both on the same items, in one order")
    if a.size == 0:
        raise UsageError("there is no test item to compare on; give at least one")
    return a, b
