"""`torchvision:NAME[/WEIGHTS[@FILE]]`: classification models, features before the last layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import fetching, load_body, load_strictly, read_state, seeded
from w2s_fast.backbones.preprocess import Transform, of_torchvision
from w2s_fast.backbones.taps import LOGITS, Watch
from w2s_fast.core.errors import ModelError, nearest

HOST = "download.pytorch.org"


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open a torchvision classifier with named weights (default: the best), a local file's, or random ones."""
    text, name = str(model), model.name
    file = model.file
    weights = weights_of(name, model.tag)
    if file is not None:
        check_file(model)
    state = None if file is None else read_state(file, own=build(name, num_classes=None, seed=text).state_dict())
    classes = None if state is None else _rows(state, build(name, num_classes=None, seed=text))
    net = build(name, num_classes=classes, seed=text)
    files: tuple[Path, ...] = ()
    found: list[str] = []
    source = "loaded"
    if state is not None and file is not None:
        found, files = load_strictly(net, state, model=text, allow=options.allow_mismatch), (file,)
    elif options.random_weights:
        source = f"random: {text}"
    else:
        files = fetch(net, weights, model=text)
    config = {"mismatch": found} if found else {}
    return encoder_of(
        net, model, options, preprocess=of_torchvision(weights.transforms()), files=files, weights=source, extra=config
    )


def weights_of(name: str, tag: str | None) -> Any:
    """The member of the weights enum that a tag names (default: the best); it also holds the evaluation transform."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}{nearest(name, known)}")
    members = models.get_model_weights(name)
    tags = [str(w.name) for w in members]
    if tag is not None and tag not in tags:
        raise ModelError(f"torchvision has no weights {tag!r} for {name}{nearest(tag, tags)}")
    return members[tag or "DEFAULT"]  # type: ignore[index]


def check_file(model: ModelName) -> None:
    """A `ModelError` for a file that is not there, or whose preprocessing no tag says."""
    from torchvision import models

    if model.file is None or not model.file.is_file():
        raise ModelError(f"the weight file {model.file} does not exist")
    if model.tag is None:
        tags = ", ".join(str(w.name) for w in models.get_model_weights(model.name))
        raise ModelError(
            f"{model} does not say with which preprocessing {model.file.name} was trained; write "
            f"{model.library}:{model.name}/WEIGHTS@{model.file} (one of {tags})"
        )


def build(name: str, *, num_classes: int | None, seed: str | int) -> nn.Module:
    """The architecture with random weights from `seed` and `num_classes` outputs (None = torchvision's own)."""
    from torchvision import models

    if name in {"inception_v3", "googlenet"}:
        raise ModelError(f"torchvision's {name} has auxiliary heads and is not supported; take timm's inception models")
    more = {} if num_classes is None else {"num_classes": num_classes}
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.get_model(name, weights=None, **more)


def fetch(net: nn.Module, weights: Any, *, model: str, head: bool = True) -> tuple[Path, ...]:
    """Load downloaded weights into `net` and name their file; without `head` those of the last layer are left out."""
    fix = f"write {model.partition('/')[0]}/{weights.name}@/path/to/weights.pth, or give --random-weights"
    with fetching(model, host=HOST, fix=fix):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    if not head:
        own, last = net.state_dict(), last_layer(net)
        state = {**state, **{k: own[k] for k in own if k.startswith(f"{last}.")}}
    load_strictly(net, state, model=model)
    file = Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rpartition("/")[2]
    return (file,) if file.is_file() else ()


def last_layer(net: nn.Module) -> str:
    """The path of the classifying layer: what the network calls its own (`classifier_name`), or the last `Linear`, or
    the last `Conv2d` of a network without one."""
    if isinstance(named := getattr(net, "classifier_name", None), str):
        return named
    for kind in (nn.Linear, nn.Conv2d):
        paths = [path for path, part in net.named_modules() if isinstance(part, kind)]
        if paths:
            return paths[-1]
    raise ModelError(f"{type(net).__name__} has no linear or convolutional layer to read features before")


def encoder_of(
    net: nn.Module,
    model: ModelName,
    options: Options,
    *,
    preprocess: dict[str, Any],
    files: tuple[Path, ...] = (),
    weights: str = "loaded",
    extra: dict[str, Any] | None = None,
    library: str = "torchvision",
    **fields: Any,
) -> FrozenEncoder:
    """The encoder of any classifier: features are what enters its last layer, a tapped part's output, or `#logits`."""
    text = str(model)
    net = net.eval().to(options.device)
    side = int(preprocess.get("crop_size") or preprocess.get("size") or 224)
    if model.tap == LOGITS:
        forward, dim = partial(_logits, net), out_width(net)
    else:
        watch = Watch(net, model.tap or last_layer(net), model=text, entering=model.tap is None)
        forward, dim = partial(_watched, watch), watch.width((3, side, side))
    config: dict[str, Any] = {
        "library": library,
        "architecture": model.name,
        "num_classes": out_width(net),
        "tap": model.tap or "pre_logits",
        "weights": weights,
        **(extra or {}),
    }
    return FrozenEncoder(
        name=text,
        module=net,
        forward=forward,
        dim=dim,
        config=config,
        preprocess=preprocess,
        weight_files=files,
        **fields,
    )


def out_width(net: nn.Module) -> int:
    """How many logits the classifier has."""
    last = net.get_submodule(last_layer(net))
    return int(last.out_features if isinstance(last, nn.Linear) else last.out_channels)  # type: ignore[union-attr, arg-type]


def _logits(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    z = net(x)
    return z, z


def _watched(watch: Watch, x: Tensor) -> tuple[Tensor, Tensor]:
    z, features = watch.run(x)
    return features, z


def _rows(state: dict[str, Tensor], net: nn.Module) -> int | None:
    weight = state.get(f"{last_layer(net)}.weight")
    return None if weight is None else int(weight.shape[0])


def student(
    name: ModelName, num_classes: int, *, seed: int, pretrained: bool
) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    """A network with a new head, drawn from `seed` like all else unless `pretrained`; see `students.new_module`."""
    weights = weights_of(name.name, name.tag)
    if pretrained and name.file is not None:
        check_file(name)
    module = build(name.name, num_classes=num_classes, seed=seed)
    if pretrained and name.file is not None:
        load_body(module, name, (f"{last_layer(module)}.",))
    elif pretrained:
        fetch(module, weights, model=str(name), head=False)
    described = of_torchvision(weights.transforms())
    return module, described, Transform(described)


def _names(pattern: str) -> Iterator[tuple[str, str]]:
    from torchvision import models

    for name in models.list_models(module=models):
        if pattern.lower() in name.lower():
            yield name, "torchvision"


LIBRARY = Library(
    open=open_named, text=lambda model: False, names=_names, files=True, student=student, trained=encoder_of
)
