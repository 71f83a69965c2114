"""What may enter a part: ids, numbers and failure records that fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.hashing import are_plain, pack_ids
from w2s_fast.store import layout
from w2s_fast.store.records import Failure

MAX_ID = 512
MAX_REASON = 300
STORED = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
_BLOCK = 128
_F16_END = 2.0**32
"""The square of what follows float16's largest number."""
_F16_LOSS = 2.0**-10
"""Twice float16's unit roundoff: a row that loses more has left its range, at either end."""


def checked_ids(ids: Sequence[str]) -> list[str]:
    """The ids as a list; UsageError for an empty part, and for an id that is empty, long, odd or repeated."""
    texts = list(ids)
    if not 1 <= len(texts) <= layout.PART_ROWS:
        raise UsageError(f"a part of {len(texts)} rows; give between 1 and {layout.PART_ROWS} ids")
    if set(map(type, texts)) == {str} and len(set(texts)) == len(texts) and are_plain(texts):
        return texts
    seen: set[str] = set()
    for row, text in enumerate(texts):
        if type(text) is not str or not 0 < len(text) <= MAX_ID or "\n" in text or not _encodable(text):
            raise UsageError(
                f"row {row} of the part: {text!r:.80} is not an id; use 1 to {MAX_ID} characters on one line"
            )
        if text in seen:
            raise UsageError(f"row {row} of the part: id {text!r} occurs twice; use core.hashing.number_repeats")
        seen.add(text)
    return texts


def checked_arrays(
    ids: list[str],
    start: int,
    *,
    features: NDArray[Any],
    logits: NDArray[Any] | None,
    norms: NDArray[Any],
    ok: NDArray[Any],
    stored: str,
) -> dict[str, NDArray[Any]]:
    """The arrays as they are stored: contiguous, little-endian, zeros where not ok; for `check_numbers` to look at."""
    if stored not in STORED:
        raise UsageError(f"stored={stored!r}; use 'f16' or 'f32'")
    n = len(ids)
    good = _shaped("ok", ok, (n,), ("bool",))
    lengths = _shaped("norms", norms, (n,), ("float32",))
    out: dict[str, NDArray[Any]] = {}
    for name, values in (("features", features), ("logits", logits)):
        if values is not None:
            values = _native(_shaped(name, values, (n, None), ("float16", "float32")))
            zeroed = values if good.all() else np.where(good[:, None], values, values.dtype.type(0))
            out[name] = _fitted(zeroed, STORED[stored])
    return {
        **out,
        "norms": np.ascontiguousarray(np.where(good, lengths, np.float32(0)), "<f4"),
        "ids": pack_ids(ids),
        "ok": np.ascontiguousarray(good),
    }


def check_numbers(arrays: Mapping[str, NDArray[Any]], ids: list[str], start: int) -> None:
    """DataError unless the stored numbers are finite, and the norms are those of the features, to 1 %."""
    for name in ("features", "logits"):
        if name not in arrays:
            continue
        values = _native(arrays[name])
        square = _squares(values)
        # a sum of squares shows whether each of its numbers is finite, unless it is too large to tell
        unclear = ~(square < (_F16_END if values.dtype == np.float16 else np.inf))
        for rows in _few(np.flatnonzero(unclear)):
            finite = np.isfinite(values[rows]).all(axis=1)
            if not finite.all():
                row = int(rows[int(np.argmin(finite))])
                raise DataError(
                    f"{name} of row {start + row} (id {ids[row]}) are not finite; compute in float32, or mark the row "
                    "as failed"
                )
        if name == "features":
            _check_norms(arrays["norms"], values, square, arrays["ok"], ids, start)


def checked_failures(
    failures: Sequence[Mapping[str, Any]], ids: list[str], start: int, ok: NDArray[Any]
) -> tuple[Failure, ...]:
    """Failure records in row order, exactly one for each row that is not ok."""
    listed: dict[int, Failure] = {}
    for failure in failures:
        row, text, reason = failure.get("row"), failure.get("id"), failure.get("reason")
        inside = isinstance(row, int | np.integer) and start <= row < start + len(ids)
        if not inside or ids[int(row) - start] != text or int(row) in listed:  # pyright: ignore[reportArgumentType]
            raise UsageError(
                f"failure record {dict(failure)!r:.200}: give one {{id, row, reason}} for each row, row being its "
                f"number in the bank, here {start} to {start + len(ids) - 1}, and id that row's"
            )
        listed[int(row)] = Failure(id=text, row=int(row), reason=str(reason)[:MAX_REASON])  # pyright: ignore[reportArgumentType]
    for i in np.flatnonzero(~ok):
        if start + int(i) not in listed:
            raise UsageError(f"row {start + int(i)} (id {ids[i]}) is not ok and has no failure record; add one")
    extra = next((row for row in sorted(listed) if ok[row - start]), None)
    if extra is not None:
        raise UsageError(f"row {extra} (id {ids[extra - start]}) is ok and has a failure record; drop one of the two")
    return tuple(listed[row] for row in sorted(listed))


def _shaped(name: str, values: Any, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> NDArray[Any]:
    if not isinstance(values, np.ndarray) or values.dtype.name not in dtypes:
        raise UsageError(
            f"{name}: {getattr(values, 'dtype', type(values).__name__)}, not a numpy array of {' or '.join(dtypes)}"
        )
    fits = values.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, values.shape, strict=True)
    )
    if not fits or not all(1 <= s <= layout.MAX_WIDTH for s in values.shape[1:]):
        wanted = ["n" if s is None else s for s in shape]
        raise UsageError(f"{name} has shape {values.shape}, not {wanted}, with widths from 1 to {layout.MAX_WIDTH}")
    return values


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _fitted(values: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    """In the wanted type, or in float32 where float16 overflows or underflows."""
    if wanted == np.float16 and values.dtype != np.float16:
        with np.errstate(over="ignore"):
            half = values.astype(wanted)
        if not _loses(values, half):
            return np.ascontiguousarray(half)
        wanted = STORED["f32"]
    return np.ascontiguousarray(values, wanted)


def _loses(full: NDArray[Any], half: NDArray[Any]) -> bool:
    """Whether float16 are infinite, or too far from the float32 that they stand for, in any row."""
    error = np.empty(len(full), np.float32)
    for i in range(0, len(full), _BLOCK):
        there = half[i : i + _BLOCK]
        if int((there.view(np.uint16) & 0x7C00).max()) == 0x7C00:
            return True
        error[i : i + _BLOCK] = _dot(np.abs(full[i : i + _BLOCK]) - _magnitudes(there))
    square = _squares(full)
    clear = _decided(square) & (error < 0.9 * _F16_LOSS**2 * square)
    for rows in _few(np.flatnonzero(~clear)):
        a, b = full[rows].astype(np.float64), half[rows].astype(np.float64)
        if (np.linalg.norm(a - b, axis=1) > _F16_LOSS * np.linalg.norm(a, axis=1)).any():
            return True
    return False


def _check_norms(
    norms: NDArray[Any],
    features: NDArray[Any],
    square: NDArray[np.float32],
    ok: NDArray[Any],
    ids: list[str],
    start: int,
) -> None:
    """Refuse norms that are another quantity, or another order: 1 % is far above rounding and far below that."""
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt(square)
        clear = _decided(square) & (np.abs(norms - lengths) <= 9e-3 * lengths)
    for rows in _few(np.flatnonzero(ok & ~clear)):
        true = np.linalg.norm(features[rows].astype(np.float64), axis=1)
        wrong = ~(np.abs(norms[rows].astype(np.float64) - true) <= 1e-2 * true + 1e-30)
        if wrong.any():
            at = int(np.argmax(wrong))
            row = int(rows[at])
            raise DataError(
                f"norms of row {start + row} (id {ids[row]}): {norms[row]} is not the L2 norm of its features, "
                f"{true[at]:.6g}; pass the norms of the raw features in the same order"
            )


def _decided(square: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where float32 has squared a row's norm to five digits, whatever the row's values are; else float64 is asked."""
    return (square > 1e-20) & (square < 1e30)


def _few(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]


def _squares(values: NDArray[Any]) -> NDArray[np.float32]:
    """Each row's sum of squares f32[n]; of float16 that are not finite, at least `_F16_END`."""
    out = np.empty(len(values), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(0, len(values), _BLOCK):
            there = values[i : i + _BLOCK]
            out[i : i + _BLOCK] = _dot(_magnitudes(there) if there.dtype == np.float16 else there)
    return out


def _dot(values: NDArray[Any]) -> NDArray[np.float32]:
    # a product of a row and a column is a dot of BLAS for each pair, twice as fast as einsum
    return np.matmul(values[:, None, :], values[:, :, None])[:, 0, 0]


def _magnitudes(half: NDArray[Any]) -> NDArray[np.float32]:
    """|half| as float32, exact: exponent and mantissa moved into place, the bias made good; infinity gives 2^16.

    numpy has no vector instructions for float16, and takes four times as long.
    """
    bits = (half.view(np.uint16) & 0x7FFF).astype(np.uint32)
    bits <<= 13
    values = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
