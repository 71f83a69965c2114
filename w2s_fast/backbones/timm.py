"""`timm:NAME.TAG`, `timm:NAME.TAG/@FILE`, `timm:hf-hub:org/name`, and folders with timm's `config.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import (
    fetching,
    load_body,
    load_strictly,
    quiet,
    read_state,
    revision_of,
    seeded,
    unprefixed,
)
from w2s_fast.backbones.preprocess import Transform, of_timm
from w2s_fast.backbones.taps import LOGITS, Watch
from w2s_fast.core.errors import ModelError, nearest

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open a timm model with its tag's weights, a local file's, or random ones."""
    text, name = str(model), model.name
    if model.tag is not None:
        raise ModelError(f"{text}: timm writes tags with a dot, as in timm:{name}.{model.tag}; a file is /@FILE")
    if not name.startswith("hf-hub:"):
        check_name(name)
    if (file := model.file) is not None:
        if not file.is_file():
            raise ModelError(f"the weight file {file} does not exist")
        folder = with_preprocessing(name, file)
        if folder is not None:
            return _of_folder(model, folder, file, options)
        net, found = _fitted(name, read_state(file), text=text, allow=options.allow_mismatch)
        return encoder_of(net, model, options, files=(file,), found=found)
    if options.random_weights:
        return encoder_of(
            build(name, text=text, pretrained=False, seed=text), model, options, weights=f"random: {text}"
        )
    net = build(name, text=text, pretrained=True, seed=text)
    return encoder_of(net, model, options, files=_cached_files(net.pretrained_cfg))


def with_preprocessing(name: str, file: Path) -> Path | None:
    """None where a tag says with which preprocessing a file was trained, else its folder, whose `config.json` does.

    A `ModelError` names the tags where neither does; timm's few architectures without a tag keep their only one.
    """
    import timm

    tags = [] if "." in name else timm.list_models(f"{name}.*", pretrained=True)
    if not tags or name.startswith("hf-hub:"):
        return None
    if _architecture(file.parent) == name:
        return file.parent
    some = ", ".join(t.partition(".")[2] for t in tags[:4]) + (", ..." if len(tags) > 4 else "")
    raise ModelError(
        f"timm:{name}/@{file} does not say with which preprocessing the file was trained; write "
        f"timm:{name}.TAG/@{file} (tags: {some}), or put its config.json beside it"
    )


def open_folder(model: ModelName, folder: Path, options: Options) -> FrozenEncoder:
    """Open a folder in timm's own layout: `config.json` with "architecture", and weights."""
    text = str(model)
    if (architecture := _architecture(folder)) is None:
        raise ModelError(f"{text}: {folder / 'config.json'} names no timm architecture with its mean and std")
    check_name(architecture)
    files = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if not files:
        raise ModelError(f"{text}: {folder} holds no weights; put model.safetensors beside config.json")
    return _of_folder(model, folder, files[0], options)


def _of_folder(model: ModelName, folder: Path, file: Path, options: Options) -> FrozenEncoder:
    name, allow = f"local-dir:{folder}", options.allow_mismatch
    net, found = _fitted(name, read_state(file), text=str(model), allow=allow)
    return encoder_of(net, model, options, files=(file, folder / "config.json", folder), found=found)


def _architecture(folder: Path) -> str | None:
    """The architecture that timm's `config.json` names, if it also says what images are normalised with."""
    try:
        cfg = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        declared = cfg.get("pretrained_cfg", cfg)
        return str(cfg["architecture"]) if {"mean", "std"} <= declared.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check_name(name: str) -> None:
    """A `ModelError` with the nearest names unless timm knows the architecture, and its tag if there is one."""
    import timm

    base, dot, tag = name.partition(".")
    if not timm.is_model(base):
        raise ModelError(f"timm has no model {base!r}{nearest(base, timm.list_models())}")
    tagged = timm.list_models(f"{base}.*", pretrained=True)
    if dot and name not in tagged:
        raise ModelError(f"timm has no weights {tag!r} for {base}{nearest(name, tagged)}")


def build(name: str, *, text: str, pretrained: bool, seed: str | int, **arguments: Any) -> Any:
    """`timm.create_model` without a trace in the global generator; a fetch that fails is a `ModelError`."""
    import timm

    base = name.partition(".")[0]
    if pretrained and not name.startswith("hf-hub:") and not timm.list_models(f"{base}.*", pretrained=True):
        raise ModelError(f"timm has no weights for {name}; write {text}/@FILE, or give --random-weights")
    fix = f"write timm:{name}/@/path/to/weights.safetensors, or give --random-weights"
    fix = "download its folder elsewhere and write local:/path/to/folder" if name.startswith("hf-hub:") else fix
    try:
        if pretrained or name.startswith("hf-hub:"):
            with fetching(text, fix=fix), seeded(seed):
                return timm.create_model(name, pretrained=pretrained, **arguments)
        with quiet(), seeded(seed):
            return timm.create_model(name, pretrained=False, **arguments)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{text}: timm cannot build it ({str(error).strip().splitlines()[0][:200]})") from None


def encoder_of(
    net: Any,
    model: ModelName,
    options: Options,
    *,
    files: tuple[Path, ...] = (),
    found: list[str] | None = None,
    weights: str = "loaded",
    preprocess: dict[str, Any] | None = None,
    **fields: Any,
) -> FrozenEncoder:
    """The encoder of a built timm module: pooled pre-logits by default, `#logits`, or a named part by its path."""
    from timm.data.config import resolve_data_config

    text = str(model)
    net = net.eval().to(options.device)
    preprocess = preprocess or of_timm(resolve_data_config({}, model=net))
    size: tuple[int, int, int] = tuple(preprocess["input_size"])
    classified = int(getattr(net, "num_classes", 0) or 0) > 0
    if model.tap is None:
        forward = partial(_pre_logits, net, classified)
        dim = int(getattr(net, "head_hidden_size", None) or net.num_features)
    elif model.tap == LOGITS:
        if not classified:
            raise ModelError(f"{text} has no classifier, so no logits to tap")
        forward, dim = partial(_logits, net), int(net.num_classes)
    else:
        prefix, last = int(getattr(net, "num_prefix_tokens", 0)), getattr(net, "output_fmt", "NCHW") == "NHWC"
        watch = Watch(net, model.tap, model=text, prefix=prefix, channels_last=last)
        forward, dim = partial(_tapped, watch, classified), watch.width(size)
    config: dict[str, Any] = {
        "library": "timm",
        "architecture": str(net.pretrained_cfg.get("architecture") or model.name),
        "num_classes": int(getattr(net, "num_classes", 0) or 0),
        "input_size": list(size),
        "tap": model.tap or "pre_logits",
        "weights": weights,
    }
    config |= {"mismatch": found} if found else {}
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


def _pre_logits(net: Any, classified: bool, x: Tensor) -> tuple[Tensor, Tensor | None]:
    maps = net.forward_features(x)
    features = net.forward_head(maps, pre_logits=True)
    return features.flatten(1), net.forward_head(maps) if classified else None


def _logits(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    z = net(x)
    return z, z


def _tapped(watch: Watch, classified: bool, x: Tensor) -> tuple[Tensor, Tensor | None]:
    z, features = watch.run(x)
    return features, z if classified else None


def _fitted(name: str, state: dict[str, Tensor], *, text: str, allow: bool) -> tuple[Any, list[str]]:
    """The architecture with as many classes as the state dict's classifier has (none, without one), and its weights."""
    net = build(name, text=text, pretrained=False, seed=text)
    state = unprefixed(state, own=net.state_dict())
    head = next((path for path, part in net.named_modules() if part is net.get_classifier()), None)
    if head is not None:
        weight = state.get(f"{head}.weight")
        classes = 0 if weight is None else int(weight.shape[0])
        if classes != net.num_classes:
            net = build(name, text=text, pretrained=False, seed=text, num_classes=classes)
    return net, load_strictly(net, state, model=text, allow=allow)


def _cached_files(cfg: dict[str, Any]) -> tuple[Path, ...]:
    """Where the hub's client or torch.hub put the weights that were just loaded; () if neither has them."""
    import huggingface_hub
    import torch

    repo = cfg.get("hf_hub_id")
    if repo:
        repo, _, revision = str(repo).partition("@")
        for name in filter(None, (cfg.get("hf_hub_filename"), *_WEIGHTS)):
            found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None)
            if isinstance(found, str):
                file = Path(found)
                return (file, *(p for p in (file.parent / "config.json", revision_of(file)) if p and p.is_file()))
    file = Path(torch.hub.get_dir()) / "checkpoints" / str(cfg.get("url") or "").rpartition("/")[2]
    return (file,) if file.is_file() else ()


def student(
    name: ModelName, num_classes: int, *, seed: int, pretrained: bool
) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    """A network with a new head, drawn from `seed` like all else unless `pretrained`; see `students.new_module`."""
    from timm.data.config import resolve_data_config

    if name.tag is not None:
        raise ModelError(f"{name}: timm writes tags with a dot, as in timm:{name.name}.{name.tag}")
    if not name.name.startswith("hf-hub:"):
        check_name(name.name)
    fetch = pretrained and name.file is None
    if pretrained and name.file is not None and with_preprocessing(name.name, name.file) is not None:
        raise ModelError(f"{name}: name the tag that its file was trained like: timm:{name.name}.TAG/@{name.file}")
    module = build(name.name, text=str(name), pretrained=fetch, seed=seed, num_classes=num_classes)
    if pretrained and name.file is not None:
        head = module.pretrained_cfg.get("classifier")
        load_body(module, name, tuple(f"{h}." for h in ([head] if isinstance(head, str) else head or ())))
    described = of_timm(resolve_data_config({}, model=module))
    return module, described, Transform(described)


def _names(pattern: str) -> Iterator[tuple[str, str]]:
    import timm

    for name in timm.list_models(pretrained=True):
        if pattern.lower() in name.lower():
            yield name, "timm"


LIBRARY = Library(
    open=open_named, text=lambda model: False, names=_names, files=True, student=student, trained=encoder_of
)
