"""Modules to be trained as supervisors, by architecture name: what `weak.py` saves and rebuilds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from w2s_fast.backbones import Options, library, parse_model
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.core.errors import UsageError

Student = tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]


def new_module(arch: str, num_classes: int, *, seed: int, pretrained: bool) -> Student:
    """A network with a new head of `num_classes` logits: the module, its preprocessing as a dict, and the transform.

    `arch` is `timm:NAME`, `torchvision:NAME[/WEIGHTS]` (both also with a tag and `@FILE`, whose head is left out) or
    `drawn:cnn`. The head, and all else unless `pretrained`, is drawn from a generator seeded by `seed`; `drawn:cnn` has
    nothing pretrained. The transform maps an RGB `PIL.Image` to f[3, h, w]. Errors: `ModelError`, `UsageError`.
    """
    if num_classes < 2:
        raise UsageError(f"a supervisor needs at least two classes, not {num_classes}")
    name = parse_model(arch)
    if name.tap is not None:
        raise UsageError(f"{arch!r}: a network to be trained takes no tap; leave out #{name.tap}")
    make = library(name.library).student
    if make is None:
        raise UsageError(f"{arch!r} cannot be trained as a supervisor; take timm:NAME, torchvision:NAME or drawn:cnn")
    return make(name, num_classes, seed=seed, pretrained=pretrained)


def encoder_of(
    module: nn.Module, arch: str, *, name: str, preprocess: dict[str, Any], device: str = "cpu", **fields: Any
) -> FrozenEncoder:
    """The encoder of a trained network that `new_module(arch, ...)` made: penultimate features and logits."""
    made = parse_model(arch)
    of_trained = library(made.library).trained
    if of_trained is None:
        raise UsageError(f"{arch!r} names no kind of network that is trained as a supervisor")
    encoder = of_trained(module, parse_model(name), Options(device=device), preprocess=preprocess, **fields)
    # The name of a supervisor is where it lies, not what it is: it must not enter the key.
    encoder.config.update(library="weak", architecture=f"{made.library}:{made.name}")
    return encoder
