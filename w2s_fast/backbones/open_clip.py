"""`open_clip:ARCH/TAG`, `open_clip:ARCH/TAG@FILE`, `open_clip:hf-hub:org/name`; folders of open_clip."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import fetching, load_strictly, mismatch, quiet, read_state, revision_of, seeded
from w2s_fast.backbones.open_clip_weights import CONFIG, Declared, converted, of_folder, of_tag, resized
from w2s_fast.backbones.preprocess import of_open_clip
from w2s_fast.backbones.taps import Watch
from w2s_fast.backbones.text import OpenClipText
from w2s_fast.backbones.tokens import Tokens, read_vocabulary
from w2s_fast.core.errors import MissingText, ModelError, nearest

HUB = "hf-hub:"
_BESIDE = {".json", ".txt", ".model"}
"""Endings of configurations and tokenizers' files."""
_POSITIONS = ("visual.positional_embedding", "positional_embedding", "text.positional_embedding")
_NOT_ARCHITECTURE = ("timm_model_pretrained", "hf_model_pretrained")


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open an architecture with a pretrained tag, a local file, or random weights; or a model of the hub.

    A tag's own declaration decides activation and preprocessing, also of a file that is named behind it; a file without
    a tag takes those of the `open_clip_config.json` in its folder.
    """
    import open_clip

    text, name, tag = str(model), model.name, model.tag
    file = model.file
    if name.startswith(HUB):
        from open_clip.pretrained import download_pretrained_from_hf

        fix = "download its folder elsewhere and write local:/path/to/folder"
        with fetching(text, fix=fix):
            weights = download_pretrained_from_hf(name.removeprefix(HUB))
            cfg = open_clip.get_model_config(name)
        return _assemble(model, options, source=name, cfg=cfg or {}, weights=Path(weights))
    known = open_clip.list_models()
    if name not in known:
        raise ModelError(f"open_clip has no architecture {name!r}{nearest(name, known)}")
    cfg = open_clip.get_model_config(name) or {}
    tags: list[str] = open_clip.list_pretrained_tags_by_model(name)
    some = f"tags: {', '.join(tags[:4]) or 'none'}{', ...' if len(tags) > 4 else ''}"
    if tag is not None and tag not in tags:
        raise ModelError(
            f"open_clip has no weights {tag!r} for {name}{nearest(tag, tags)}; a file is open_clip:{name}/TAG@FILE "
            f"with the tag whose activation and preprocessing it was trained with ({some})"
        )
    if file is not None:
        if not file.is_file():
            raise ModelError(f"the weight file {file} does not exist")
        declared = of_tag(name, tag) if tag is not None else of_folder(file.parent)
        if declared is None:
            raise ModelError(
                f"{text} does not say with which activation and preprocessing {file.name} was trained; write "
                f"open_clip:{name}/TAG@{file} ({some}), or put its {CONFIG} beside it"
            )
    elif tag is not None:
        declared = of_tag(name, tag)
        if not options.random_weights:
            with fetching(text, fix=f"write {text}@/path/to/weights.safetensors, or give --random-weights"):
                file = Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag)))
    elif options.random_weights:
        declared = None
    else:
        raise ModelError(f"{text} names no weights; write {text}/TAG ({some}) or {text}/TAG@FILE, or --random-weights")
    return _assemble(model, options, source=name, cfg=cfg, weights=file, declared=declared)


def open_folder(model: ModelName, folder: Path, options: Options) -> FrozenEncoder:
    """Open a folder with `open_clip_config.json`, weights, and perhaps a compacted vocabulary's `vocabulary.json`."""
    path = folder / CONFIG
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{model}: {path} holds no open_clip configuration with a model_cfg") from None
    found = sorted((p for s in ("safetensors", "pt", "bin", "pth") for p in folder.glob(f"*.{s}")), key=_preference)
    if not found:
        raise ModelError(f"{model}: {folder} holds no weights; put open_clip_model.safetensors beside {CONFIG}")
    if of_folder(folder) is None:
        raise ModelError(
            f"{model}: {path} declares no preprocessing; add the preprocess_cfg that its weights were trained with "
            "(mean, std, interpolation, resize_mode)"
        )
    return _assemble(model, options, source=f"local-dir:{folder}", cfg=cfg, weights=found[0], folder=folder)


def _preference(path: Path) -> tuple[bool, bool, str]:
    return path.suffix != ".safetensors", not path.stem.startswith("open_clip"), path.name


def _assemble(
    model: ModelName,
    options: Options,
    *,
    source: str,
    cfg: dict[str, Any],
    weights: Path | None,
    folder: Path | None = None,
    declared: Declared | None = None,
) -> FrozenEncoder:
    import open_clip

    text, more = str(model), {}
    if declared is not None:
        cfg, more = declared.applied(cfg, text=text)
    # Only then is the network asked: the weights are here, a Hugging Face text encoder's configuration may not be.
    remote = source.startswith(HUB) or "hf_model_name" in (cfg.get("text_cfg") or {})
    access = fetching(text, fix="open a folder that holds everything as local:/path/to/folder") if remote else quiet()
    with access, seeded(text), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            net: Any = open_clip.create_model(
                source, load_weights=False, pretrained_text=False, device=options.device, **more
            )
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise ModelError(f"{text}: open_clip cannot build this configuration ({error})") from None
    found = [str(w.message) for w in told if "mismatch" in str(w.message).lower()]
    if weights is not None:
        found += _load(net, weights, text=text, allow=options.allow_mismatch)
    if found and not options.allow_mismatch:
        raise mismatch(text, found)
    config: dict[str, Any] = {
        "library": "open_clip",
        "architecture": _architecture(cfg),
        "activation": "quick_gelu" if cfg.get("quick_gelu") else "gelu",
        "tap": model.tap or "embedding",
        "weights": "loaded" if weights is not None else f"random: {text}",
    }
    config |= {"mismatch": found} if found else {}
    preprocess = of_open_clip(dict(net.visual.preprocess_cfg))
    side = preprocess["size"]
    if model.tap is None:
        dim = int(cfg["embed_dim"])
        forward = partial(_embedding, net)
    else:
        watch = Watch(net.visual, model.tap.removeprefix("visual."), model=text, prefix=1)
        dim = watch.width((3, side, side) if isinstance(side, int) else (3, *side))
        forward = partial(_tapped, watch)
    return FrozenEncoder(
        name=text,
        module=net,
        forward=forward,
        dim=dim,
        config=config,
        preprocess=preprocess,
        weight_files=_files(weights, folder),
        tower=None if model.tap else partial(_tower, net, source, cfg, folder, text),
    )


def _files(weights: Path | None, folder: Path | None) -> tuple[Path, ...]:
    """All files that decide what the encoder gives: of a folder each that may, and the folder, where more may come."""
    if weights is None:
        return ()
    if folder is None:
        return (weights, *(p for p in (weights.parent / CONFIG, revision_of(weights)) if p is not None and p.is_file()))
    beside = sorted(p for p in folder.iterdir() if p.suffix in _BESIDE and p.is_file() and not p.name.startswith("."))
    return (weights, *(p for p in beside if p != weights), folder)


def _embedding(net: Any, x: Tensor) -> tuple[Tensor, None]:
    return net.encode_image(x, normalize=False), None


def _tapped(watch: Watch, x: Tensor) -> tuple[Tensor, None]:
    return watch.run(x)[1], None


def _load(net: Any, weights: Path, *, text: str, allow: bool) -> list[str]:
    if weights.suffix in {".npz", ".npy"}:
        from open_clip.convert import load_big_vision_weights

        try:
            load_big_vision_weights(net, str(weights))
        except Exception as error:
            raise mismatch(text, [str(error).strip().split("\n")[0]]) from None
        return []
    own = net.state_dict()
    try:
        state = converted(net, read_state(weights, own=own))
    except (KeyError, AttributeError, RuntimeError) as error:
        raise mismatch(text, [f"its names cannot be translated ({error})"]) from None
    # open_clip resizes position embeddings in silence: weights of another resolution or context would pass.
    found = [
        f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in _POSITIONS
        if k in state and k in own and state[k].shape != own[k].shape
    ]
    if found and not allow:
        raise mismatch(text, found)
    return found + load_strictly(net, resized(net, state) if found else state, model=text, allow=allow)


def _architecture(cfg: dict[str, Any]) -> dict[str, Any]:
    plain = json.loads(json.dumps(deepcopy(cfg)))
    for part in ("vision_cfg", "text_cfg"):
        plain[part] = {k: v for k, v in (plain.get(part) or {}).items() if k not in _NOT_ARCHITECTURE}
    return plain


def _tower(net: Any, source: str, cfg: dict[str, Any], folder: Path | None, text: str) -> OpenClipText:
    import open_clip

    if cfg.get("text_cfg", {}).get("hf_model_name"):
        raise MissingText(f"{text} has a Hugging Face text encoder, which cannot be used; take another CLIP model")
    context = int(cfg.get("text_cfg", {}).get("context_length", 77))
    remote = source.startswith(HUB) or "hf_tokenizer_name" in cfg["text_cfg"] or "siglip" in source.lower()
    fix = "put its tokenizer files into a folder and write local:/path/to/folder"
    access = fetching(text, fix=fix) if remote else quiet()
    try:
        with access:
            tokenizer: Any = open_clip.get_tokenizer(source, context_length=context)
    except ImportError as error:
        raise MissingText(f"{text}: its tokenizer needs a package that is missing ({error.name}); install it") from None
    kept = None
    if folder is not None and (folder / "vocabulary.json").is_file():
        rows = net.vocab_size if hasattr(net, "vocab_size") else net.text.vocab_size
        kept = read_vocabulary(folder, rows=int(rows), end=int(tokenizer.eot_token_id))
    return OpenClipText(net, Tokens(tokenizer, context_length=context, model=text, kept=kept), name=text)


def _names(pattern: str) -> Iterator[tuple[str, str]]:
    import open_clip

    for arch, tag in open_clip.list_pretrained():
        if pattern.lower() in f"{arch}/{tag}".lower():
            yield f"{arch}/{tag}", "open_clip"


LIBRARY = Library(open=open_named, names=_names, files=True)
