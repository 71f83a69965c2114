"""An experiment: everything that may be asked of a study, as one value that is checked, resolved and written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import UsageError
from w2s_fast.core.options import Key, at, keys_of, read_options
from w2s_fast.core.settings import Settings
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.methods.options import ComputeOptions, FitOptions
from w2s_fast.tasks.options import DataOptions, ModelOptions

if TYPE_CHECKING:
    from w2s_fast.data.manifest import Manifest
    from w2s_fast.methods.plan import Plan

OWNERS = (DataOptions, ModelOptions, ExtractOptions, FitOptions, ComputeOptions)
"""What an experiment consists of; names of their options are the keys of its files and the flags of commands."""
CHOOSING = ("method", "loss", "head", "supervision")
"""Options that together name what is fitted: to give one of them anew is to give them all anew."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Data, models, extraction, fits, computing, and the plan that their names were resolved to; made by `of`.

    cache says where banks lie, not what is asked: it is no part of the question.
    """

    data: DataOptions
    models: ModelOptions
    extraction: ExtractOptions
    fits: FitOptions
    compute: ComputeOptions
    plan: Plan = field(compare=False, repr=False)
    cache: Path | None = field(default=None, compare=False)

    @staticmethod
    def of(values: Mapping[str, Any], *, cache: str | Path | None = None, where: str = "") -> Experiment:
        """The experiment of a flat table of options, checked key by key, every name resolved; opens no data, no model.

        values: as in `w2s-fast sweep`'s files: `data`, `method`, `seeds`, ..., and `settings`, a table whose lists are
        axes of the grid; None stands for the default. where: a file, or `core.options.COMMAND_LINE`, for messages.
        Raises `UsageError` (`SpecError`) that says what is wrong, where, and what was meant.
        """
        from w2s_fast.methods.plan import Plan

        _check_places(values, where)
        read = read_options(values, OWNERS, where=where)
        return Experiment(
            data=read[DataOptions],
            models=read[ModelOptions],
            extraction=read[ExtractOptions],
            fits=read[FitOptions],
            compute=read[ComputeOptions],
            plan=Plan.of(read[FitOptions], where=where),
            cache=None if cache is None else Path(cache),
        )

    def amended(self, values: Mapping[str, Any], *, where: str = "") -> Experiment:
        """This experiment with other values for some options; `settings` are taken key by key."""
        given = {key: value for key, value in values.items() if value is not None}
        asked = self.options()
        if any(key in given for key in CHOOSING):
            asked = {key: value for key, value in asked.items() if key not in CHOOSING}
        settings = {**self.fits.settings, **given.get("settings", {})}
        return Experiment.of({**asked, **given, "settings": settings}, cache=self.cache, where=where)

    def options(self) -> dict[str, Any]:
        """Every option by its name, defaults included, as `of` takes them."""
        return {name: getattr(self._owner(keys[0]), keys[0].field) for name, keys in _keys().items()}

    def _owner(self, key: Key) -> Any:
        groups = (self.data, self.models, self.extraction, self.fits, self.compute)
        return groups[OWNERS.index(key.owner)]

    def sets(self) -> list[str]:
        """The data sets by name, globs expanded."""
        from w2s_fast.data import canonical, expand_data

        found = [canonical(name) for name in expand_data(self.data.names)]
        if self.data.pool and len(found) < 2:
            raise UsageError(f"--pool joins several data sets, and only {found[0]} is named; add one: --data A B")
        if len(found) > 1 and self.data.class_names is not None:
            raise UsageError("--class-names belongs to one data set; give one --data")
        return found

    def points(self) -> Iterator[tuple[list[str], str, str]]:
        """(data sets, strong, weak) of each task: one data set, or with `pool` all of them."""
        sets = self.sets()
        for several in [sets] if self.data.pool else [[data] for data in sets]:
            for strong in self.models.strong:
                for weak in self.models.weak:
                    yield several, strong, weak

    def open_manifest(self, data: str, *, identity: str | None = None) -> Manifest:
        """The manifest of one of its data sets; identity in place of the one that is asked for."""
        from w2s_fast.core.paths import cache_root
        from w2s_fast.data import open_manifest

        one = self.data
        return open_manifest(
            data,
            root=one.root,
            identity=identity or one.identity,
            class_names=one.class_names,
            cache=cache_root(self.cache),
        )

    def opening(self) -> dict[str, Any]:
        """What `tasks.open_task` takes beside the names of data set, strong encoder and weak model."""
        own = {
            f.name: getattr(group, f.name)
            for group in (self.data, self.models)
            for f in fields(group)
            if f.name not in ("names", "pool", "strong", "weak")
        }
        return {**own, "options": self.extraction, "stream": self.compute.stream, "cache": self.cache}

    def identity(self) -> dict[str, Any]:
        """What tells this question from another, as JSON.

        Names are resolved, paths absolute, files of one's own (class names, losses) by their content; options that
        change at most the rounding of numbers are left out, and so is the order in which things were named.
        """
        told = {
            name: _identity(getattr(self._owner(keys[0]), keys[0].field))
            for name, keys in _keys().items()
            if keys[0].option.numbers and keys[0].owner is not FitOptions
        }
        return {**told, "data": sorted(self.sets()), "fits": self.plan.identity()}

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of `identity()`: equal for equal questions, however they were asked."""
        from w2s_fast.core.hashing import digest_json

        return digest_json(self.identity())


def _keys() -> dict[str, list[Key]]:
    return keys_of(*OWNERS)


def _identity(value: Any) -> Any:
    if isinstance(value, tuple):
        return sorted(value)
    if isinstance(value, Path):
        from w2s_fast.core.hashing import digest_bytes

        return f"sha256:{digest_bytes(value.read_bytes())}" if value.is_file() else str(value)
    return value


def _check_places(values: Mapping[str, Any], where: str) -> None:
    """Tell where a setting belongs that stands among the options."""
    from w2s_fast.methods.grid import HEAD_PARAMETERS, LOSS_PARAMETERS

    settings = {*(f.name for f in fields(Settings)), *HEAD_PARAMETERS, *LOSS_PARAMETERS}
    for key in values:
        if key in settings and key not in _keys():
            place = "write it below a line [settings]" if where else f"give settings={{{key!r}: ...}}"
            with at(where):
                raise UsageError(f"unknown key {key!r}; {place}")
