"""Frozen encoders by name: open_clip, timm, torchvision, local checkpoints, the embedded ones, trained supervisors.

A model is `<library>:<name>[/<pretrained>][#<tap>]`; in place of a pretrained tag, `@FILE` names a local checkpoint:
`open_clip:ViT-B-32/openai`, `open_clip:ViT-B-32/@/data/b32.safetensors`, `timm:resnet18.a1_in1k#layer3`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from w2s_fast.core import plugins
from w2s_fast.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from w2s_fast.backbones.encoder import FrozenEncoder
    from w2s_fast.backbones.prompts import encode_prompts, tower_of
    from w2s_fast.core.prompts import ClassPrompts, class_prompts

LIBRARIES: dict[str, str] = {
    "open_clip": "w2s_fast.backbones.open_clip:open_named",
    "timm": "w2s_fast.backbones.timm:open_named",
    "torchvision": "w2s_fast.backbones.torchvision:open_named",
    "local": "w2s_fast.backbones.local:open_named",
    "drawn": "w2s_fast.backbones.embedded:open_named",
    "weak": "w2s_fast.backbones.weak:open_named",
}
"""Library name -> "module:attribute" of its `Opener`; the entry-point group `w2s_fast.backbones` adds others."""
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
    "ModelName",
    "Opener",
    "Options",
    "class_prompts",
    "encode_prompts",
    "libraries",
    "may_have_text",
    "open_encoder",
    "parse_model",
    "tower_of",
]


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A parsed model name: library, name in it, pretrained tag or `@FILE` or seed, tap; the last two may be None."""

    library: str
    name: str
    pretrained: str | None = None
    tap: str | None = None

    def __str__(self) -> str:
        text = f"{self.library}:{self.name}"
        text += "" if self.pretrained is None else f"/{self.pretrained}"
        return text if self.tap is None else f"{text}#{self.tap}"

    @property
    def file(self) -> Path | None:
        """The local checkpoint that `@FILE` names, or None."""
        if self.pretrained is None or not self.pretrained.startswith("@"):
            return None
        return Path(self.pretrained[1:]).expanduser()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is opened. See `open_encoder`."""

    data: str | None = None
    cache: str | Path | None = None
    device: str = "cpu"
    random_weights: bool = False
    allow_mismatch: bool = False


class Opener(Protocol):
    """What a library of the table provides."""

    def __call__(self, model: ModelName, options: Options) -> FrozenEncoder: ...


TEXTLESS = frozenset({"timm", "torchvision", "weak"})


def may_have_text(model: str) -> bool:
    """Whether a model of such a name can have a text tower, so that it is worth loading to look for one."""
    name = parse_model(model)
    return name.library not in TEXTLESS and (name.library, name.name) != ("drawn", "cnn")


def libraries() -> tuple[str, ...]:
    """All known library names, third-party ones last; imports none of them."""
    return plugins.names(LIBRARIES, GROUP)


def parse_model(text: str) -> ModelName:
    """Parse `<library>:<name>[/<pretrained>][#<tap>]`; a bare path or an unknown library is a `UsageError`.

    `local:PATH` and `open_clip:hf-hub:org/name` keep their slashes; a name with `/@` ends there, the rest is a file.
    """
    library, colon, rest = text.partition(":")
    known = libraries()
    if library not in known:
        if not colon or len(library) == 1 or "/" in library:
            hint = f"local:{text}" if "/" in text or Path(text).expanduser().exists() else f"timm:{text}"
            raise UsageError(
                f"{text!r} has no library prefix; write {hint}{'' if '/' in text else ' or open_clip:...'}"
            )
        raise UsageError(f"unknown model library {library!r} in {text!r}{nearest(library, known)}")
    rest, _, tap = rest.partition("#")
    if library == "local":
        name, pretrained = rest, ""
    elif "/@" in rest:
        name, _, pretrained = rest.partition("/@")
        pretrained = f"@{pretrained}"
    elif rest.startswith(_HUB):
        name, pretrained = rest, ""
    else:
        name, _, pretrained = rest.partition("/")
    if not name or pretrained == "@":
        raise UsageError(f"{text!r} is incomplete; write {library}:NAME[/PRETRAINED][#TAP]")
    return ModelName(library=library, name=name, pretrained=pretrained or None, tap=tap or None)


def open_encoder(
    model: str,
    *,
    data: str | None = None,
    cache: str | Path | None = None,
    device: str = "cpu",
    random_weights: bool = False,
    allow_mismatch: bool = False,
) -> FrozenEncoder:
    """Load a frozen encoder by name, in evaluation mode and float32, on `device`.

    `data` and `cache` find supervisors (`weak:NAME[/SEED]`, `drawn:cnn/SEED`). `random_weights` leaves the weights of a
    library's named model as drawn from a generator seeded by the name, unless a file is given. `allow_mismatch` accepts
    weights that do not match the architecture and records how in `config`. Errors: `UsageError` for a name that is
    none, `ModelError` for one that is unknown, cannot be fetched, or does not match its weights.
    """
    name = parse_model(model)
    opener: Opener = plugins.load(LIBRARIES, GROUP, name.library)
    return opener(
        name,
        Options(data=data, cache=cache, device=device, random_weights=random_weights, allow_mismatch=allow_mismatch),
    )


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
