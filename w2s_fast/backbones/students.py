"""Modules to be trained as supervisors, by architecture name: what `weak.py` saves and rebuilds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from w2s_fast.backbones import ModelName, Options, parse_model
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import load_strictly, read_state, seeded
from w2s_fast.backbones.preprocess import of_drawn, of_timm, of_torchvision, transform
from w2s_fast.core.errors import ModelError, UsageError

Student = tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]


def new_module(arch: str, num_classes: int, *, seed: int, pretrained: bool) -> Student:
    """A network with a new head of `num_classes` logits: the module, its preprocessing as a dict, and the transform.

    `arch` is `timm:NAME`, `torchvision:NAME[/WEIGHTS]` (both also with `/@FILE`, whose head is left out) or
    `drawn:cnn`. The head, and all else unless `pretrained`, is drawn from a generator seeded by `seed`; `drawn:cnn` has
    nothing pretrained. The transform maps an RGB `PIL.Image` to f[3, h, w]. Errors: `ModelError`, `UsageError`.
    """
    if num_classes < 2:
        raise UsageError(f"a supervisor needs at least two classes, not {num_classes}")
    name = parse_model(arch)
    if name.tap is not None:
        raise UsageError(f"{arch!r}: a network to be trained takes no tap; leave out #{name.tap}")
    if (name.library, name.name) == ("drawn", "cnn"):
        return _drawn(num_classes, seed=seed)
    if name.library == "timm":
        return _timm(name, num_classes, seed=seed, pretrained=pretrained)
    if name.library == "torchvision":
        return _torchvision(name, num_classes, seed=seed, pretrained=pretrained)
    raise UsageError(f"{arch!r} cannot be trained as a supervisor; take timm:NAME, torchvision:NAME or drawn:cnn")


def encoder_of(
    module: nn.Module, arch: str, *, name: str, preprocess: dict[str, Any], device: str = "cpu", **fields: Any
) -> FrozenEncoder:
    """The encoder of a trained network that `new_module(arch, ...)` made: penultimate features and logits."""
    text, options = parse_model(name), Options(device=device)
    made = parse_model(arch)
    model = ModelName(library=text.library, name=text.name, pretrained=text.pretrained, tap=text.tap)
    if made.library == "timm":
        from w2s_fast.backbones.timm import encoder_of as timm_encoder

        encoder = timm_encoder(module, model, options, preprocess=preprocess, **fields)
    else:
        from w2s_fast.backbones.torchvision import encoder_of as classifier_encoder

        encoder = classifier_encoder(module, model, options, preprocess=preprocess, **fields)
    # The name of a supervisor is where it lies, not what it is: it must not enter the key.
    encoder.config.update(library="weak", architecture=f"{made.library}:{made.name}")
    return encoder


def _drawn(num_classes: int, *, seed: int) -> Student:
    from w2s_fast.backbones.drawn_cnn import IMAGE_SIZE, MEAN, STD, DrawnCNN

    with seeded(seed):
        module = DrawnCNN(num_classes)
    described = of_drawn(IMAGE_SIZE, MEAN, STD)
    return module, described, transform(described)


def _timm(name: ModelName, num_classes: int, *, seed: int, pretrained: bool) -> Student:
    from timm.data.config import resolve_data_config

    from w2s_fast.backbones import timm

    if name.pretrained is not None and name.file is None:
        raise ModelError(f"{name}: timm writes tags with a dot, as in timm:{name.name}.{name.pretrained}")
    if not name.name.startswith("hf-hub:"):
        timm.check_name(name.name)
    fetch = pretrained and name.file is None
    module = timm.build(name.name, text=str(name), pretrained=fetch, seed=seed, num_classes=num_classes)
    if pretrained and name.file is not None:
        head = module.pretrained_cfg.get("classifier")
        heads = tuple(f"{h}." for h in ([head] if isinstance(head, str) else head or ()))
        _load_body(module, name, heads)
    described = of_timm(resolve_data_config({}, model=module))
    return module, described, transform(described)


def _torchvision(name: ModelName, num_classes: int, *, seed: int, pretrained: bool) -> Student:
    from w2s_fast.backbones import torchvision

    weights = torchvision.weights_of(name.name, None if name.file is not None else name.pretrained)
    module = torchvision.build(name.name, num_classes=num_classes, seed=seed)
    if pretrained and name.file is not None:
        _load_body(module, name, (f"{torchvision.last_layer(module)}.",))
    elif pretrained:
        torchvision.fetch(module, weights, model=str(name), head=False)
    described = of_torchvision(weights.transforms())
    return module, described, transform(described)


def _load_body(module: nn.Module, name: ModelName, heads: tuple[str, ...]) -> None:
    assert name.file is not None
    state = {k: v for k, v in read_state(name.file).items() if not k.startswith(heads)}
    own = {k: v for k, v in module.state_dict().items() if k.startswith(heads)}
    load_strictly(module, {**state, **own}, model=str(name))
