"""Sweeps: experiments from TOML files, and what may be seen of its results without ground truth."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2s_fast.core.errors import UsageError
from w2s_fast.core.rows import Row, reads_truth
from w2s_fast.studies.experiment import Experiment

SHIPPED = Path(__file__).parent / "sweeps"


def shipped() -> tuple[str, ...]:
    """Names of the sweeps that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def read_values(path: str | Path) -> dict[str, Any]:
    """The options in a TOML file, or in the sweep of that name in `SHIPPED`; `UsageError` names the file."""
    if not Path(path).exists() and str(path) in shipped():
        path = SHIPPED / f"{path}.toml"
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        known = ", ".join(shipped())
        raise UsageError(f"cannot read the sweep {path}: {why}; give a TOML file, or a name: {known}") from None


def read_sweep(path: str | Path, *, cache: str | Path | None = None) -> Experiment:
    """The experiment of a TOML file: the options of `w2s-fast train` as keys, and a table `[settings]`."""
    return Experiment.of(read_values(path), cache=cache, where=str(path))


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A configuration's weak agreement on hold-val: mean and standard deviation over its runs (or None)."""

    method: str
    strong: str
    weak: str
    mean: float | None
    sd: float | None
    runs: int
    data_sets: int
    diverged: int


def agreements(rows: Iterable[Row], *, selection: str = "last") -> list[Agreement]:
    """One line per configuration, in the order of the rows; runs on ground truth (ceilings) are left out."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if not reads_truth(row) and (row.get("selection") == selection or row.get("status") != "ok"):
            key = (str(row.get("method")), str(row.get("strong")), str(row.get("weak")))
            found.setdefault(key, []).append(row)
    return [_agreement(key, mine) for key, mine in found.items()]


def _agreement(key: tuple[str, str, str], rows: Sequence[Row]) -> Agreement:
    values = np.array([v for row in rows if (v := row.get("agree_val")) is not None], np.float64)
    return Agreement(
        method=key[0],
        strong=key[1],
        weak=key[2],
        mean=float(values.mean()) if len(values) else None,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        runs=len(rows),
        data_sets=len({row.get("data") for row in rows}),
        diverged=sum(row.get("status") != "ok" for row in rows),
    )
