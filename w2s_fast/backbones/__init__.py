"""Frozen encoders by name: one record a library (open_clip, timm, torchvision, folders, embedded, supervisors).

A model is `<library>:<name>[/<pretrained>][#<tap>]`; `@FILE` behind the tag names a local checkpoint that was trained
with the tag's activation and preprocessing: `open_clip:ViT-B-32/openai`, `open_clip:ViT-B-32/openai@/data/b32.pt`,
`timm:resnet18.a1_in1k#layer3`, `timm:resnet18.a1_in1k/@/data/r18.pth` (timm's tags are part of the name).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core import plugins
from w2s_fast.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from w2s_fast.backbones.prompts import encode_prompts, tower_of
    from w2s_fast.core.prompts import ClassPrompts, class_prompts
    from w2s_fast.core.protocols import Encoder

    Student = tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]

LIBRARIES: dict[str, str] = {
    "open_clip": "w2s_fast.backbones.open_clip:LIBRARY",
    "timm": "w2s_fast.backbones.timm:LIBRARY",
    "torchvision": "w2s_fast.backbones.torchvision:LIBRARY",
    "cifar": "w2s_fast.backbones.cifar:LIBRARY",
    "local": "w2s_fast.backbones.local:LIBRARY",
    "drawn": "w2s_fast.backbones.embedded:LIBRARY",
    "weak": "w2s_fast.backbones.weak:LIBRARY",
}
"""Library name -> "module:attribute" of its `Library`; the entry-point group `w2s_fast.backbones` adds others."""
GROUP = "w2s_fast.backbones"
DEFAULT_STRONG = "drawn:clip"
DEFAULT_WEAK = "drawn:cnn"
"""The models that are meant where none is named."""
_HUB = "hf-hub:"
_EXPORTS = {
    "ClassPrompts": "w2s_fast.core.prompts",
    "class_prompts": "w2s_fast.core.prompts",
    "encode_prompts": "w2s_fast.backbones.prompts",
    "tower_of": "w2s_fast.backbones.prompts",
}

__all__ = [
    "ClassPrompts",
    "Library",
    "ModelName",
    "Options",
    "canonical",
    "class_prompts",
    "encode_prompts",
    "libraries",
    "library",
    "may_have_text",
    "open_encoder",
    "parse_model",
    "tower_of",
]


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A parsed model name: library, name in it, `TAG`, `TAG@FILE`, `@FILE` or seed or None, tap or None."""

    library: str
    name: str
    pretrained: str | None = None
    tap: str | None = None

    def __str__(self) -> str:
        text = f"{self.library}:{self.name}"
        text += "" if self.pretrained is None else f"/{self.pretrained}"
        return text if self.tap is None else f"{text}#{self.tap}"

    @property
    def rest(self) -> str:
        """Name and tag as they were written, for libraries whose names hold a slash."""
        return self.name if self.pretrained is None else f"{self.name}/{self.pretrained}"

    @property
    def file(self) -> Path | None:
        """The local checkpoint that `@FILE` names, or None."""
        _, at, file = (self.pretrained or "").partition("@")
        return Path(file).expanduser() if at else None

    @property
    def tag(self) -> str | None:
        """The pretrained tag (or seed) without a file, or None."""
        return (self.pretrained or "").partition("@")[0] or None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is opened. See `open_encoder`."""

    data: str | None = None
    cache: str | Path | None = None
    device: str = "cpu"
    random_weights: bool = False
    allow_mismatch: bool = False


def _no_names(pattern: str) -> Iterator[tuple[str, str]]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Library:
    """What one model library provides; all but `open` has a default, so that a library of two lines is one.

    open: a name and how to open it -> an `Encoder` (core's protocol), with a `text_tower()` if it has one.
    text: whether a model of such a name can have a text tower, so that it is worth loading to look for one.
    names: (name, what it is) of the models whose name holds a pattern, with or without case; "" is all.
    files: whether the weights of a named model may come from a file, as in `LIBRARY:NAME/TAG@FILE`, or a recipe's root.
    folder: whether a name is a path, which `canonical` makes absolute.
    supervises: whether a name stands for a supervisor of the data set at hand, another network on every data set.
    student: (name, number of classes, seed=, pretrained=) -> a network to be trained, its preprocessing, its transform.
    trained: (network, name, options, preprocess=, **fields) -> the encoder of a network that `student` made.
    """

    open: Callable[[ModelName, Options], Encoder]
    text: Callable[[ModelName], bool] = lambda model: True
    names: Callable[[str], Iterator[tuple[str, str]]] = _no_names
    files: bool = False
    folder: bool = False
    supervises: Callable[[ModelName], bool] = lambda model: False
    student: Callable[..., Student] | None = None
    trained: Callable[..., Any] | None = None


def library(name: str) -> Library:
    """The record of a library; a plain function that an entry point names is its `open`. KeyError if unknown."""
    found = plugins.load(LIBRARIES, GROUP, name)
    return found if isinstance(found, Library) else Library(open=found)


def may_have_text(model: str) -> bool:
    """Whether a model of such a name can have a text tower, so that it is worth loading to look for one."""
    name = parse_model(model)
    return library(name.library).text(name)


def libraries() -> tuple[str, ...]:
    """All known library names, third-party ones last; imports none of them."""
    return plugins.names(LIBRARIES, GROUP)


def parse_model(text: str) -> ModelName:
    """Parse `<library>:<name>[/<pretrained>][#<tap>]`; a bare path or an unknown library is a `UsageError`.

    `local:PATH` and `open_clip:hf-hub:org/name` keep their slashes; what follows the first `@` is a file.
    """
    prefix, colon, rest = text.partition(":")
    known = libraries()
    if prefix not in known:
        if not colon or len(prefix) == 1 or "/" in prefix:
            there = "/" in text or Path(text).expanduser().exists()
            hint = f"local:{text}" if there else f"timm:{text}, open_clip:..., or weak:{text} for a supervisor"
            raise UsageError(f"{text!r} has no library prefix; write {hint} (all: w2s-fast models {text})")
        raise UsageError(f"unknown model library {prefix!r} in {text!r}{nearest(prefix, known)}")
    rest, _, tap = rest.partition("#")
    if prefix == "local" or rest.startswith(_HUB):
        name, pretrained = rest, ""
    else:
        head, at, file = rest.partition("@")
        name, _, pretrained = head.partition("/")
        pretrained += at + file
    if not name or pretrained.endswith("@"):
        raise UsageError(f"{text!r} is incomplete; write {prefix}:NAME[/PRETRAINED][#TAP]")
    return ModelName(library=prefix, name=name, pretrained=pretrained or None, tap=tap or None)


def canonical(text: str) -> str:
    """The name under which a model is remembered: a path in it is absolute, whatever folder it was named from."""
    model = parse_model(text)
    name, pretrained = model.name, model.pretrained
    if library(model.library).folder:
        name = _absolute(name)
    elif model.file is not None:
        pretrained = f"{model.tag or ''}@{_absolute(str(model.file))}"
    return str(replace(model, name=name, pretrained=pretrained))


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - keeps links, which are followed when files are


def open_encoder(
    model: str,
    *,
    data: str | None = None,
    cache: str | Path | None = None,
    device: str = "cpu",
    random_weights: bool = False,
    allow_mismatch: bool = False,
) -> Any:
    """Load a frozen encoder by name, in evaluation mode and float32, on `device`.

    `data` and `cache` find supervisors (`weak:NAME[/SEED]`, `drawn:cnn/SEED`). `random_weights` leaves the weights of a
    library's named model as drawn from a generator seeded by the name, unless a file is given. `allow_mismatch` accepts
    weights that do not match the architecture and records how in `config`. Errors: `UsageError` for a name that is
    none, `ModelError` for one that is unknown, cannot be fetched, or does not match its weights.
    """
    name = parse_model(model)
    options = Options(
        data=data, cache=cache, device=device, random_weights=random_weights, allow_mismatch=allow_mismatch
    )
    return library(name.library).open(name, options)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
