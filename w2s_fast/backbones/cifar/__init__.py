"""`cifar:NAME`, `cifar:NAME/@FILE`: the networks of the distillation papers for small images, written out.

None has released weights here: they are trained (`w2s-fast finetune`, `w2s-fast weak`) or come from a file; files of
mdistiller and of RepDistiller load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.core.errors import ModelError, UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from w2s_fast.backbones.cifar.staged import Staged
    from w2s_fast.backbones.encoder import FrozenEncoder

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
"""Of CIFAR-100's training images, as mdistiller has them."""
_WIDE = (32, 64, 128, 256)

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet:ResNet", {"depth": depth}) for depth in (20, 32, 44, 56, 110)},
    "resnet8x4": ("resnet:ResNet", {"depth": 8, "widths": _WIDE}),
    "resnet32x4": ("resnet:ResNet", {"depth": 32, "widths": _WIDE}),
    "wrn_16_1": ("wrn:WideResNet", {"depth": 16, "width": 1}),
    "wrn_16_2": ("wrn:WideResNet", {"depth": 16, "width": 2}),
    "wrn_40_1": ("wrn:WideResNet", {"depth": 40, "width": 1}),
    "wrn_40_2": ("wrn:WideResNet", {"depth": 40, "width": 2}),
    "vgg8": ("vgg:Vgg", {"convolutions": 1}),
    "vgg13": ("vgg:Vgg", {"convolutions": 2}),
    "shufflenet_v1": ("shuffle:ShuffleNetV1", {}),
    "shufflenet_v2": ("shuffle:ShuffleNetV2", {}),
    "mobilenet_v2_half": ("mobilenet:MobileNetV2", {}),
    "resnet50": ("bottleneck:ResNet50", {}),
    "preact_resnet18": ("preact:PreActResNet", {"blocks": (2, 2, 2, 2)}),
    "preact_resnet34": ("preact:PreActResNet", {"blocks": (3, 4, 6, 3)}),
    "fewshot_resnet12": ("fewshot:FewShotResNet", {"blocks": (1, 1, 1, 1)}),
    "fewshot_resnet18": ("fewshot:FewShotResNet", {"blocks": (1, 2, 2, 1)}),
    "fewshot_resnet36": ("fewshot:FewShotResNet", {"blocks": (2, 3, 5, 2)}),
}
"""Name -> "file:class" in this folder, and the class's arguments."""


def build(name: str, num_classes: int) -> Staged:
    """The network of that name with weights from torch's generators; `ModelError` for an unknown name."""
    if name not in NETWORKS:
        raise ModelError(f"cifar has no network {name!r}{nearest(name, NETWORKS)}")
    target, arguments = NETWORKS[name]
    module, _, cls = target.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), cls)(num_classes, **arguments)


def describe(name: str) -> dict[str, Any]:
    """The preprocessing of a network: a square of its side, CIFAR's mean and standard deviation."""
    from w2s_fast.backbones.preprocess import of_square

    return of_square(80 if name.startswith("fewshot_") else 32, MEAN, STD)


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """The encoder of `cifar:NAME/@FILE`, or with random weights from a generator seeded by the name."""
    from w2s_fast.backbones.loading import load_strictly, read_state, seeded

    if model.name not in NETWORKS:
        raise ModelError(f"cifar has no network {model.name!r}{nearest(model.name, NETWORKS)}")
    if model.pretrained is not None and model.file is None:
        raise UsageError(f"{model}: cifar networks have no weights by name; write cifar:{model.name}/@FILE")
    if model.file is None and not options.random_weights:
        raise ModelError(
            f"{model} has no weights; write cifar:{model.name}/@FILE, train it with `w2s-fast weak --model {model}`, "
            f"or give --random-weights"
        )
    state = None if model.file is None else read_state(model.file)
    with seeded(str(model)):
        net = build(model.name, _rows(model, state))
    found = [] if state is None else load_strictly(net, state, model=str(model), allow=options.allow_mismatch)
    return trained(
        net,
        model,
        options,
        preprocess=describe(model.name),
        files=() if model.file is None else (model.file,),
        weights="loaded" if state is not None else f"random: {model}",
        extra={"mismatch": found} if found else {},
    )


def student(
    name: ModelName, num_classes: int, *, seed: int, pretrained: bool
) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    """A network drawn from `seed`; of `/@FILE` all but the classifier is loaded. See `students.new_module`."""
    from w2s_fast.backbones.loading import load_body, seeded
    from w2s_fast.backbones.preprocess import Transform

    with seeded(seed):
        module = build(name.name, num_classes)
    if name.file is not None and pretrained:
        load_body(module, name, (f"{module.classifier_name}.",))
    elif name.pretrained is not None and name.file is None:
        raise UsageError(f"{name}: cifar networks have no weights by name; write cifar:{name.name}/@FILE")
    described = describe(name.name)
    return module, described, Transform(described)


def trained(module: nn.Module, model: ModelName, options: Options, **fields: Any) -> FrozenEncoder:
    """The encoder of a network: features are what enters its classifier."""
    from w2s_fast.backbones.torchvision import encoder_of

    return encoder_of(module, model, options, **{"library": "cifar", **fields})


def _rows(model: ModelName, state: dict[str, Tensor] | None) -> int:
    """How many classes a state dict has; 100 without one."""
    if state is None:
        return 100
    weight = state.get(f"{build(model.name, 2).classifier_name}.weight")
    if weight is None:
        raise ModelError(f"{model}: the file has no classifier; it is of another architecture than {model.name}")
    return int(weight.shape[0])


def _names(pattern: str) -> Iterator[tuple[str, str]]:
    return ((name, "network for small images") for name in NETWORKS if pattern.lower() in f"cifar:{name}")


LIBRARY = Library(open=open_named, text=lambda model: False, names=_names, files=True, student=student, trained=trained)
