"""A sweep: the grid that a TOML file names, and what may be seen of its results without ground truth."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.rows import Row, reads_truth
from w2s_fast.core.settings import Settings
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.methods.grid import HEAD_PARAMETERS, LOSS_PARAMETERS, grid_of
from w2s_fast.studies.study import Study

SHIPPED = Path(__file__).parent / "sweeps"


def shipped() -> tuple[str, ...]:
    """Names of the sweeps that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep's file may say: the options of `w2s-fast train`, and `settings`, whose lists are axes of the grid.

    Where several values are meant, one alone need not be a list. `seeds` is a count, or the seeds themselves.
    """

    method: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    seeds: int | tuple[int, ...] = 1
    data: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    weak_seeds: int | None = None
    teachers: tuple[str, ...] = ()
    pool: bool = False
    supervision: tuple[str, ...] = ()
    split: str = "rotate"
    precision: str = "fp32"
    references: bool = True
    root: str | None = None
    identity: str = "content"
    class_names: str | None = None
    template: tuple[str, ...] = ()
    drop_failed: bool = False
    stream: bool | None = None
    random_weights: bool = False
    allow_mismatch: bool = False
    compute: str = "fp32"
    stored: str = "f16"
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def read(path: str | Path) -> Sweep:
        """The sweep of a TOML file, or of that name in `SHIPPED`; `UsageError` names the file and the key in it."""
        if not Path(path).exists() and str(path) in shipped():
            path = SHIPPED / f"{path}.toml"
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            known = ", ".join(shipped())
            raise UsageError(f"cannot read the sweep {path}: {why}; give a TOML file, or a name: {known}") from None
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not TOML: {error}") from None
        return Sweep.of(found, where=str(path))

    @staticmethod
    def of(values: dict[str, Any], *, where: str = "sweep") -> Sweep:
        """The sweep of a table of values, checked key by key."""
        known = {f.name: f for f in fields(Sweep)}
        settings = {*(f.name for f in fields(Settings)), *HEAD_PARAMETERS, *LOSS_PARAMETERS}
        chosen: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                hint = "; write it below a line [settings]" if key in settings else nearest(key, known)
                raise UsageError(f"{where}: unknown key {key!r}{hint}")
            chosen[key] = _typed(key, value, str(known[key].type), where)
        try:
            grid_of(chosen.get("settings", {}))
        except UsageError as error:
            raise type(error)(f"{where}, [settings]: {error}") from None
        return Sweep(**chosen)

    def study(self, *, cache: Path | None = None, device: str = "auto") -> Study:
        """What is studied."""
        options = ExtractOptions(
            compute=self.compute,  # type: ignore[arg-type] - checked by `Study.check`
            stored=self.stored,  # type: ignore[arg-type]
            random_weights=self.random_weights,
            allow_mismatch=self.allow_mismatch,
            device=device,
        )
        return Study(
            data=self.data,
            strong=self.strong,
            weak=self.weak,
            weak_seeds=self.weak_seeds,
            teachers=self.teachers,
            pool=self.pool,
            root=None if self.root is None else Path(self.root),
            identity=self.identity,
            class_names=None if self.class_names is None else Path(self.class_names),
            templates=self.template,
            drop_failed=self.drop_failed,
            stream=self.stream,
            cache=cache,
            options=options,
        )

    def arguments(self, *, device: str = "auto") -> dict[str, Any]:
        """What `fit` is asked for."""
        names = ("method", "loss", "head", "supervision")
        return {
            **{name: list(getattr(self, name)) or None for name in names},
            "seeds": self.seeds if isinstance(self.seeds, int) else list(self.seeds),
            "split": self.split,
            "references": self.references,
            "precision": self.precision,
            "device": device,
            **self.settings,
        }


def _typed(key: str, value: Any, kind: str, where: str) -> Any:
    """A TOML value as its field holds it."""
    if kind.startswith("tuple[str"):
        several = value if isinstance(value, list) else [value]
        if all(isinstance(v, str) for v in several):
            return tuple(several)
        raise UsageError(f"{where}: {key} must be a string or a list of strings, not {value!r}")
    if key == "seeds" and isinstance(value, list):
        return tuple(value)
    wanted = {"int": int, "bool": bool, "str": str, "dict": dict}[kind.partition("[")[0].partition(" ")[0]]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        words = {int: "a whole number", bool: "true or false", str: "a string", dict: "a table"}
        raise UsageError(f"{where}: {key} must be {words[wanted]}, not {value!r}")
    return value


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
