"""Which weak supervisors there are for a data set, and whether one may teach it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from w2s_fast.backbones import libraries, library, open_encoder, parse_model
from w2s_fast.backbones.embedded import shipped_card, shipped_seeds
from w2s_fast.backbones.weak import d_train_ids, list_supervisors, read_card, supervisor_dir
from w2s_fast.core.classes import columns, numbered, shown
from w2s_fast.core.errors import DataError, ModelError, UsageError, nearest
from w2s_fast.core.hashing import digest_ids
from w2s_fast.core.paths import cache_root
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import halves
from w2s_fast.extract.plan import kept_supervisors

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions

SHIPPED = "drawn:cnn"


def is_supervisor(model: str) -> bool:
    """Whether the name stands for a supervisor of the data set: `weak:NAME`, `drawn:cnn`, with or without its seed.

    `drawn:cnn/DOMAIN-SEED` is an encoder like any other, whatever the data set.
    """
    parsed = parse_model(model)
    return library(parsed.library).supervises(parsed)


def paired(model: str, data: str) -> bool:
    """Whether run seed s is taught by supervisor s, as on the drawn domains, where supervisors cost seconds."""
    return data.startswith("drawn:") and is_supervisor(model) and parse_model(model).pretrained is None


def seeds_of(model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None) -> list[int]:
    """The weak seeds that exist for a supervisor on a data set; `ModelError` with the training command if none.

    A supervisor that was trained on the same D_train before the data set was moved or renamed counts.
    """
    parsed = parse_model(model)
    if parsed.library == "drawn":
        found = list(shipped_seeds(data))
        hint = f"w2s-fast weak --data {quote(data)} --model drawn:cnn --name NAME"
    else:
        found = list(kept_supervisors(parsed.name, manifest, data=data, cache=cache))
        hint = f"w2s-fast weak --data {quote(data)} --model timm:resnet18.a1_in1k --name {parsed.name}"
    if not found:
        others = sorted({s.name for s in list_supervisors(cache_root(cache), data=data)})
        close = nearest(parsed.name, others) if others else ""
        raise ModelError(f"there is no supervisor {model} for {data}{close}; train one: {hint}")
    return found


def expand(model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None) -> list[str]:
    """The models that a name stands for: a supervisor without a seed is all of its seeds; others are themselves."""
    if not is_supervisor(model) or parse_model(model).pretrained is not None:
        return [model]
    return [f"{model}/{seed}" for seed in seeds_of(model, manifest, data=data, cache=cache)]


def of(
    model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None, count: int | None = None
) -> dict[int, str]:
    """weak seed -> model name, each checked against the manifest.

    On the drawn domains a supervisor comes with all its seeds, elsewhere with its lowest, or its first `count`.
    A library model that is not a trained supervisor is weak seed 0. Raises `DataError` for a supervisor whose D_train
    meets the pool, or whose classes are not the manifest's; `ModelError` if there is none.
    """
    chosen = unchecked(model, manifest, data=data, cache=cache, count=count)
    if is_supervisor(model):
        for name in chosen.values():
            check(name, manifest, data=data, cache=cache)
    return chosen


def more_teachers(
    teachers: Sequence[str],
    manifest: Manifest,
    *,
    data: str,
    cache: str | Path | None = None,
    known: Sequence[str] = (),
) -> tuple[str, ...]:
    """The models that `teachers` name, checked as `of` does; without those that are `known` already."""
    found: dict[str, None] = {}
    for model in teachers:
        for one in expand(model, manifest, data=data, cache=cache):
            if is_supervisor(one):
                check(one, manifest, data=data, cache=cache)
            found[one] = None
    return tuple(one for one in found if one not in known)


def unchecked(
    model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None, count: int | None = None
) -> dict[int, str]:
    """weak seed -> model name, as `of` chooses them, whatever they were trained on."""
    if not is_supervisor(model):
        return {0: model}
    parsed = parse_model(model)
    if parsed.pretrained is not None:
        return {_seed(parsed.pretrained, model): model}
    found = seeds_of(model, manifest, data=data, cache=cache)
    number = count if count is not None else (len(found) if paired(model, data) else 1)
    if isinstance(number, bool) or number < 1:
        raise UsageError(f"--weak-seeds {number}: at least one supervisor has to teach; give 1 or more")
    if number > len(found):
        raise UsageError(
            f"--weak-seeds {number}: {model} has {len(found)} on {data}; train more: "
            f"w2s-fast weak --data {quote(data)} --name {parsed.name} --seeds {number}"
        )
    return {seed: f"{model}/{seed}" for seed in found[:number]}


def check(model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None) -> None:
    """Refuse a supervisor that was trained on images of the pool, or for other classes."""
    card, directory = _card(model, manifest, data=data, cache=cache)
    if len(card["classes"]) != len(manifest.classes):
        raise other_classes(model, manifest, len(card["classes"]), data=data)
    columns_of(model, manifest, data=data, cache=cache)
    d_train, pool, _ = halves(manifest)
    if card["d_train_digest"] == digest_ids(sorted(manifest.ids[r] for r in d_train)):
        return
    if directory is None:
        raise DataError(
            f"{model} was trained on another D_train than {data} has now, and does not keep its ids, so it cannot be "
            f"shown to be disjoint from the pool; train your own: w2s-fast weak --data {quote(data)} --name NAME"
        )
    seen = set(d_train_ids(directory))
    if seen.isdisjoint(manifest.ids):
        raise DataError(
            f"{model} keeps ids of other images than {data} has now (replaced, or under another --identity), so it "
            f"cannot be shown to be disjoint from the pool; train it under the same --identity: "
            f"w2s-fast weak --data {quote(data)} --name NAME"
        )
    for row in pool:
        if manifest.ids[row] in seen:
            raise DataError(
                f"{model} was trained on an image of the pool of {data} ({manifest.uris[row]}), so its labels there "
                f"are not weak; train one on D_train: w2s-fast weak --data {quote(data)} --name NAME"
            )


def _card(
    model: str, manifest: Manifest, *, data: str, cache: str | Path | None
) -> tuple[Mapping[str, Any], Path | None]:
    """The card of a supervisor and the folder that it lies in, None for those that ship."""
    parsed = parse_model(model)
    seed = _seed(parsed.pretrained or "0", model)
    if parsed.library == "drawn":
        return shipped_card(data, seed), None
    there = kept_supervisors(parsed.name, manifest, data=data, cache=cache)
    kept = there[seed].directory if seed in there else supervisor_dir(parsed.name, data, seed, cache_root(cache))
    return read_card(kept), kept


def columns_of(model: str, manifest: Manifest, *, data: str, cache: str | Path | None = None) -> list[int]:
    """Where the manifest's classes stand among the outputs of a weak model: joined by name.

    A library's classifier has no names; its outputs are in sorted order, as libraries number class folders. A
    `DataError` shows both orders where that cannot be.
    """
    if is_supervisor(model):
        card, _ = _card(model, manifest, data=data, cache=cache)
        return columns(
            [str(c) for c in card["classes"]],
            manifest.classes,
            what=model,
            other=data,
            known_as=manifest.known_as,
        )
    own = manifest.known_as or manifest.classes
    if not numbered(own) and list(own) != sorted(own):
        raise DataError(
            f"{model} does not name its {len(own)} classes, which libraries number in sorted order, and {data} has "
            f"{shown(own)}: they cannot be joined; train one on its D_train: w2s-fast weak --data {quote(data)} "
            f"--model {model} --name NAME"
        )
    return list(range(len(own)))


def check_outputs(
    model: str,
    manifest: Manifest,
    *,
    data: str,
    cache: str | Path | None = None,
    options: ExtractOptions | None = None,
) -> None:
    """Refuse a library model as a weak model whose logits are not the manifest's classes, before any extraction."""
    from PIL import Image

    flags = {} if options is None else {k: getattr(options, k) for k in ("random_weights", "allow_mismatch")}
    encoder = open_encoder(model, data=data, cache=cache_root(cache), **flags)
    _, logits = encoder.encode(encoder.prepare(Image.new("RGB", (64, 64)))[None])
    if logits is None or logits.shape[1] != len(manifest.classes):
        raise other_classes(model, manifest, None if logits is None else logits.shape[1], data=data)
    columns_of(model, manifest, data=data, cache=cache)


def other_classes(model: str, manifest: Manifest, has: int | None, *, data: str) -> DataError:
    """The error for a weak model whose number of classes is not the data set's."""
    of_model = library(parse_model(model).library)
    arch = model if of_model.files and of_model.student is not None else SHIPPED
    return DataError(
        f"the weak model {model} has {'no classifier' if has is None else f'{has} classes'}, {data} has "
        f"{len(manifest.classes)} classes; train one on its D_train: "
        f"w2s-fast weak --data {quote(data)} --model {arch} --name NAME"
    )


def known_models(pattern: str | None = None, *, cache: str | Path | None = None) -> Iterator[dict[str, Any]]:
    """The embedded models, the supervisors in the cache, and library models whose name holds `pattern`."""
    for one in list_supervisors(cache_root(cache)):
        name = f"weak:{one.name}/{one.seed}"
        if (pattern or "").lower() in name.lower():
            yield {"model": name, "what": f"supervisor trained on {one.data}"}
    asked, _, rest = (pattern or "").partition(":")
    for prefix in libraries():
        if pattern is None and library(prefix).files:
            yield {"model": f"{prefix}:...", "what": "library"}
        elif not (rest and asked in libraries() and asked != prefix):
            for name, what in library(prefix).names(rest if asked == prefix else pattern or ""):
                yield {"model": f"{prefix}:{name}", "what": what}


def _seed(text: str, model: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{model}: after the slash comes the weak seed, a number, not {text!r}") from None
