"""Where a recipe's data and weights lie under --data-root, and what is told where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from w2s_fast.backbones import libraries, library, parse_model
from w2s_fast.core.errors import DataError, ModelError, UsageError
from w2s_fast.data.paths import BRACES
from w2s_fast.recipes.recipe import AXES, ROOT, Recipe, Scale

WEIGHTS = "models"
"""Folder under the root for weight files, such as `open_clip-ViT-B-32-openai.safetensors`."""


def placed(recipe: Recipe, *, scale: str, root: Path | None) -> tuple[Recipe, list[str]]:
    """The recipe with its names resolved under `root`, and what had to be left out of it, in words.

    A column whose model's library this version does not have is left out. Errors: `UsageError` for a scale that needs a
    root and has none, `DataError` for a root or data set that is not there, `ModelError` where no column is left.
    """
    one = recipe.scale(scale)
    if scale == "full" and root is None:
        raise UsageError(
            f"{recipe.name} runs on real data: give --data-root DIR ({under(recipe.place, Path('DIR'))}), "
            "or run its miniature on the embedded data: --scale drawn"
        )
    if root is not None and not root.is_dir():
        raise DataError(f"--data-root {root}: there is no such folder; {recipe.name} wants {under(recipe.place, root)}")
    labels, left_out = _available(recipe, one)
    labels["data"] = {label: under(name, root) for label, name in labels["data"].items()}
    for label, name in labels["data"].items():
        if lacking := missing(name):
            raise DataError(
                f"{recipe.name}, {label}: {lacking} is not there; it wants {under(recipe.place, root)}. "
                f"Leave columns out with --only, or run the miniature: --scale drawn"
            )
    for axis in ("strong", "weak"):
        labels[axis] = {label: weights(name, root) for label, name in labels[axis].items()}
        for label, name in labels[axis].items():
            if (file := parse_model(name).file) is not None and not file.exists():
                raise ModelError(f"{recipe.name}, {label}: {file} is not there; it wants {under(recipe.place, root)}")
    supervisors = {
        name: {**table, "model": weights(table["model"], root)} for name, table in recipe.supervisors.items()
    }
    names = {axis: list(labels[axis].values()) for axis in AXES}
    ready = replace(one, labels=labels, asked={**one.asked, **names})
    return replace(recipe, scales={**recipe.scales, scale: ready}, supervisors=supervisors), left_out


def under(text: str, root: Path | None) -> str:
    """The text with `{root}` filled in."""
    return text if root is None else text.replace(ROOT, str(root))


def missing(data: str) -> Path | None:
    """The first path of a data set on disk that does not exist, or None."""
    source, _, location = data.partition(":")
    if source not in ("list", "imagefolder"):
        return None
    parts = ("train", "test") if BRACES in location else ("",)
    paths = [Path(location.replace(BRACES, part)).expanduser() for part in parts]
    return next((path for path in paths if not path.exists()), None)


def weights(model: str, root: Path | None) -> str:
    """The model from its weight file under the root, where one lies there; else as it is named."""
    if root is None or not from_files(model) or "@" in model:
        return under(model, root)
    stem = file_stem(model)
    found = sorted(path for path in (root / WEIGHTS).glob(f"{stem}.*") if path.stem == stem)
    # the tag stays in the name: it says which activation and preprocessing the file was trained with
    return f"{model}{'' if '/' in model else '/'}@{found[0]}" if found else model


def from_files(model: str) -> bool:
    """Whether the weights of a model by that name may come from a file of the user's."""
    prefix = model.partition(":")[0]
    return prefix in libraries() and library(prefix).files


def file_stem(model: str) -> str:
    """What a model's weight file is called under the root, without its ending."""
    return model.replace(":", "-").replace("/", "-")


def unplaced(error: ModelError, recipe: Recipe, model: str, root: Path | None) -> ModelError:
    """The error for weights that cannot be had, with where to place them."""
    if root is None or not from_files(model):
        return error
    name = file_stem(model)
    return ModelError(
        f"{recipe.name}: {error}; or place the file as {root / WEIGHTS / name}.safetensors (or .pth) and run this again"
    )


def _available(recipe: Recipe, scale: Scale) -> tuple[dict[str, dict[str, str]], list[str]]:
    labels = {axis: dict(scale.labels[axis]) for axis in AXES}
    told: list[str] = []
    for axis in ("strong", "weak"):
        for label, name in scale.labels[axis].items():
            model = _trained_from(name, recipe.supervisors)
            prefix = model.partition(":")[0]
            if prefix not in libraries():
                del labels[axis][label]
                told.append(f"{label} is left out: {model} needs the model library {prefix!r}, which is not here")
            else:
                parse_model(model)
        if not labels[axis]:
            raise ModelError(f"{recipe.name}: {'; '.join(told)}; the miniature runs: --scale drawn")
    return labels, told


def _trained_from(name: str, supervisors: Mapping[str, Mapping[str, object]]) -> str:
    """The architecture behind a supervisor of the recipe; any other model is itself."""
    prefix, _, rest = name.partition(":")
    own = supervisors.get(rest.partition("/")[0]) if prefix == "weak" else None
    return name if own is None else str(own["model"])
