"""`extract` over several data sets and models, by name: images, supervisors' logits and class names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.backbones import DEFAULT_STRONG, DEFAULT_WEAK, may_have_text
from w2s_fast.backbones import canonical as canonical_model
from w2s_fast.core.errors import MissingText
from w2s_fast.core.paths import cache_root
from w2s_fast.core.shares import ALL, Share
from w2s_fast.core.templates import DEFAULT_TEMPLATE, check_templates
from w2s_fast.data import DEFAULT_DATA, canonical, expand_data, open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.task import Say, log

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.extract.worker import OnProgress


def extract_all(
    data: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    *,
    options: ExtractOptions | None = None,
    root: str | Path | None = None,
    identity: str = "content",
    class_names: str | Path | None = None,
    templates: Sequence[str] | None = None,
    cache: str | Path | None = None,
    share: Share = ALL,
    say: Say | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """Fill the cache for every data set x model and yield one record per bank: model, data, key, rows, failures, ...

    Every data set is read once for all models. A model with a text tower also gets the text bank of the class names;
    where there is none, or a name has no token, `say` is told. Defaults: the embedded world. share: only parts of these
    numbers are made here, and text banks by share 0.
    """
    from w2s_fast.extract.worker import extract

    tell = say or log
    prompts = check_templates(tuple(templates or (DEFAULT_TEMPLATE,)))
    names = [canonical(name) for name in expand_data(tuple(data or (DEFAULT_DATA,)))]
    read = partial(open_manifest, root=root, class_names=class_names, cache=cache_root(cache))
    for name in names[1:]:
        # a set that is not there is told before hours with the first; `content` would read every image here
        read(name, identity="path")
    for name in names:
        manifest = read(name, identity=identity)
        default = [DEFAULT_STRONG, DEFAULT_WEAK] if name.startswith("drawn:") else [DEFAULT_STRONG]
        chosen = [canonical_model(model) for model in models or default]
        encoders = [one for model in chosen for one in supervisors.expand(model, manifest, data=name, cache=cache)]
        for done in extract(
            manifest, encoders, data=name, options=options, cache=cache, share=share, on_progress=on_progress
        ):
            yield asdict(done)
        for model in chosen if share.index == 0 else ():
            if may_have_text(model) and not supervisors.is_supervisor(model):
                yield from _text_bank(model, manifest, prompts, options=options, cache=cache, say=tell)


def _text_bank(
    model: str,
    manifest: Manifest,
    templates: tuple[str, ...],
    *,
    options: ExtractOptions | None,
    cache: str | Path | None,
    say: Say,
) -> Iterator[dict[str, Any]]:
    from w2s_fast.extract.text import Prompts, extract_text

    try:
        done = extract_text(model, Prompts(classes=manifest.classes, templates=templates), options=options, cache=cache)
    except MissingText as error:
        say(f"{model}: no text features ({error})")
    else:
        yield {**asdict(done), "data": f"{manifest.name} (class names)"}
