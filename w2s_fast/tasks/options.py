"""What a question says of data and models; importing this imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2s_fast.backbones import DEFAULT_STRONG, DEFAULT_WEAK
from w2s_fast.backbones import canonical as canonical_model
from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.options import option
from w2s_fast.core.paths import absolute_path
from w2s_fast.core.templates import DEFAULT_TEMPLATE, check_templates
from w2s_fast.data import DEFAULT_DATA, IDENTITIES, canonical


def data_names(value: Any) -> Any:
    """Names of data sets with absolute paths; globs stay."""
    return _each(value, canonical)


def model_names(value: Any) -> Any:
    """Names of models with absolute paths."""
    return _each(value, canonical_model)


def _each(value: Any, change: Any) -> Any:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(change(one) for one in given) if all(isinstance(one, str) for one in given) else value


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data sets, and how they are read. pool: all of them are one task, with their domains as groups."""

    names: tuple[str, ...] = option(
        (DEFAULT_DATA,),
        "Data set: imagefolder:DIR, list:FILE, drawn:DOMAIN; globs; may repeat.",
        name="data",
        read=data_names,
    )
    root: Path | None = option(None, "Folder that the lines of a list: are relative to.", read=absolute_path)
    identity: str = option("content", "Row ids from the images' bytes (content) or path and size (path).")
    class_names: Path | None = option(
        None,
        "File of class names for prompts: lines of `old<TAB>new`, or one name a line where classes are numbers.",
        read=absolute_path,
    )
    templates: tuple[str, ...] = option(
        (DEFAULT_TEMPLATE,), "Prompt with {} for the class name; may repeat.", name="template"
    )
    drop_failed: bool = option(False, "Leave out images that could not be read.")
    drop_repeats: bool = option(False, "Leave out copies of images; a pool with copies of D_train is refused without.")
    pool: bool = option(False, "Join all data sets into one task, with their domains as groups.")

    def checked(self) -> DataOptions:
        """Itself, or a `UsageError` for a value out of range; opens nothing."""
        if self.identity not in IDENTITIES:
            raise UsageError(f"unknown identity {self.identity!r}{nearest(self.identity, IDENTITIES)}")
        check_templates(self.templates)
        return self


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which strong encoders, which weak models. weak_seeds: so many supervisors, each with every run seed."""

    strong: tuple[str, ...] = option(
        (DEFAULT_STRONG,), "Strong encoder, e.g. open_clip:ViT-B-32/openai; several at once.", read=model_names
    )
    weak: tuple[str, ...] = option(
        (DEFAULT_WEAK,), "Weak supervisor, e.g. weak:NAME; several at once.", read=model_names
    )
    weak_seeds: int | None = option(None, "Cross the seeds with so many supervisors.")
    teachers: tuple[str, ...] = option(
        (), "More weak models, for supervisions that read several, e.g. weak:r34 weak:r50.", read=model_names
    )

    def checked(self) -> ModelOptions:
        """Itself, or a `UsageError` for a value out of range; loads no model."""
        if self.weak_seeds is not None and self.weak_seeds < 1:
            raise UsageError(f"--weak-seeds must be at least 1, not {self.weak_seeds}")
        return self
