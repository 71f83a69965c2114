"""Open a task from the cache, making first what is missing and saying so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache as cached
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from w2s_fast.backbones import DEFAULT_STRONG, DEFAULT_WEAK, may_have_text, open_encoder
from w2s_fast.backbones import canonical as canonical_model
from w2s_fast.core.errors import BankMissing, DataError, MissingText
from w2s_fast.core.paths import cache_root
from w2s_fast.core.protocols import TextTower
from w2s_fast.core.settings import LEAST_STEPS, Settings
from w2s_fast.core.templates import DEFAULT_TEMPLATE
from w2s_fast.data import canonical, open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.repeats import without_repeats
from w2s_fast.data.splits import halves, hold_train_rows
from w2s_fast.store.bank import Bank, open_bank, open_key, rows_of
from w2s_fast.store.layout import bank_dir
from w2s_fast.store.refs import read_ref
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.features import Streaming, open_features, weak_logits
from w2s_fast.tasks.task import Say, Task, log
from w2s_fast.train.stream import Stream

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.extract.worker import OnProgress


def open_task(
    data: str,
    *,
    strong: str = DEFAULT_STRONG,
    weak: str = DEFAULT_WEAK,
    weak_seeds: int | None = None,
    teachers: Sequence[str] = (),
    root: str | Path | None = None,
    identity: str = "content",
    class_names: str | Path | None = None,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    drop_failed: bool = False,
    drop_repeats: bool = False,
    cache: str | Path | None = None,
    options: ExtractOptions | None = None,
    stream: Streaming = None,
    manifest: Manifest | None = None,
    say: Say | None = None,
    on_progress: OnProgress | None = None,
) -> Task:
    """The task of one data set, one strong encoder and one weak model, read from the cache.

    `teachers` are weak models beside `weak`, for supervisions that read several; one without its seed is all of its
    seeds. Banks that are missing are extracted first (`say` is told). Features, logits and labels are joined by id.
    `drop_failed` leaves out images that were not read, `drop_repeats` copies of others: without it, a data set whose
    pool holds copies of D_train is refused.
    stream: True streams the features from the bank in every epoch (a number: with so many rows shuffled together),
    False reads them into memory; None streams what would take more than half of the free memory, and says so.
    manifest: that of `data`, where it is open already; then `root`, `identity` and `class_names` are not read.
    Raises `DataError`, `ModelError`, `BankStale`, `IdMismatch`; a supervisor whose D_train meets the pool is refused.
    """
    data, strong, weak = canonical(data), canonical_model(strong), canonical_model(weak)
    teachers = [canonical_model(one) for one in teachers]
    whole = manifest
    if whole is None:
        whole = open_manifest(data, root=root, identity=identity, class_names=class_names, cache=cache_root(cache))
    tell = say or log
    manifest, dropped = without_repeats(whole) if drop_repeats else (whole, None)
    for note in whole.notes if dropped is None else (*whole.notes, dropped):
        tell(f"{data}: {note}")
    if not halves(manifest)[2]:
        tell(f"{data}: no official split; D_train and the pool are stratified halves by id (split seed 0)")
    of_seed = supervisors.of(weak, manifest, data=data, cache=cache, count=weak_seeds)
    more = supervisors.more_teachers(teachers, manifest, data=data, cache=cache, known=tuple(of_seed.values()))
    if manifest.defaults:
        tell(f"{data}: training defaults {', '.join(f'{k}={v}' for k, v in manifest.defaults.items())}")
    else:
        open_ended = Settings().resolved({}, rows=hold_train_rows(manifest))
        tell(
            f"{data}: no recipe: heads train {open_ended.epochs} epochs of {open_ended.batch_size} rows a step "
            f"(at least {LEAST_STEPS} steps) unless --epochs and --batch-size say otherwise"
        )
    for model in (weak, *more):
        if not supervisors.is_supervisor(model) and not _there(model, data, cache, options):
            supervisors.check_outputs(model, manifest, data=data, cache=cache, options=options)
    banks = prepare(
        whole,
        [strong, *of_seed.values(), *more],
        data=data,
        cache=cache,
        options=options,
        say=tell,
        on_progress=on_progress,
    )
    features = banks[strong]
    clock = time.perf_counter()
    manifest = readable(manifest, list(banks.values()), drop_failed=drop_failed, cache=cache)
    table = open_features(features, rows_of(features, manifest.ids), stream=stream, name=data, say=tell)
    low = isinstance(table, Stream)
    logits = {
        model: _weak_logits(banks[model], manifest, model=model, data=data, cache=cache, as_stored=low)
        for model in (*of_seed.values(), *more)
    }
    took = time.perf_counter() - clock
    text, note, scale, text_key = _text(strong, manifest, tuple(templates), cache=cache, options=options, say=tell)
    return Task(
        manifest=manifest,
        features=table,
        weak_logits={seed: logits[model] for seed, model in of_seed.items()},
        text=text,
        text_note=note,
        logit_scale=scale,
        data=data,
        paired=weak_seeds is None and supervisors.paired(weak, data),
        tower=None if text is None else cached(partial(_tower, strong, data=data, cache=cache, options=options)),
        load_seconds=took,
        weak=weak,
        strong=strong,
        template=" | ".join(templates),
        keys={
            "features": features.key,
            "weak": {seed: banks[model].key for seed, model in of_seed.items()},
            "text": text_key,
            "teachers": {model: banks[model].key for model in more},
        },
        weak_models=of_seed,
        more_teachers={model: logits[model] for model in more},
        open_features=partial(
            _features_of,
            whole=whole,
            manifest=manifest,
            data=data,
            cache=cache,
            options=options,
            say=tell,
            on_progress=on_progress,
        ),
    )


def _features_of(
    model: str,
    *,
    whole: Manifest,
    manifest: Manifest,
    data: str,
    cache: str | Path | None,
    options: ExtractOptions | None,
    say: Say,
    on_progress: OnProgress | None,
) -> torch.Tensor:
    """Raw features f[N, e] of any encoder over the rows of a task, extracted over the whole set if they are missing."""
    bank = prepare(whole, [model], data=data, cache=cache, options=options, say=say, on_progress=on_progress)[model]
    readable(manifest, [bank], drop_failed=False, cache=cache)
    rows = rows_of(bank, manifest.ids)
    features = bank.features()
    return features if np.array_equal(rows, np.arange(bank.rows)) else features[torch.from_numpy(rows)]


def prepare(
    manifest: Manifest,
    models: Sequence[str],
    *,
    data: str,
    cache: str | Path | None = None,
    options: ExtractOptions | None = None,
    say: Say | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Bank]:
    """The complete bank of each model over the manifest; those that are missing are extracted, in one go."""
    root = cache_root(cache)
    banks: dict[str, Bank] = {}
    names = {model: canonical_model(model) for model in models}
    for model, name in names.items():
        try:
            banks[model] = open_bank(name, data, cache=root, options=_in_key(options), rows_digest=manifest.rows_digest)
        except BankMissing:
            continue
    missing = [m for m in names if m not in banks]
    if missing:
        from w2s_fast.extract.worker import extract

        if say is not None:
            say(f"{data}: extracting {', '.join(missing)} ({len(manifest.ids)} images)")
        asked = [names[m] for m in missing]
        made = extract(manifest, asked, data=data, options=options, cache=root, on_progress=on_progress)
        # by key: a cache that cannot be written has no reference to a bank that it holds
        banks |= {model: open_key(done.key, cache=root) for model, done in zip(missing, made, strict=True)}
    return banks


def _there(model: str, data: str, cache: str | Path | None, options: ExtractOptions | None) -> bool:
    return read_ref(cache_root(cache), model=model, data=data, options=_in_key(options)) is not None


def _in_key(options: ExtractOptions | None) -> dict[str, Any]:
    from w2s_fast.extract.options import ExtractOptions

    return (options or ExtractOptions()).in_key()


def readable(manifest: Manifest, banks: Sequence[Bank], *, drop_failed: bool, cache: str | Path | None) -> Manifest:
    """The manifest without rows that some model could not read, if that was asked for; else an error names one."""
    ok = np.ones(len(manifest.ids), bool)
    for bank in banks:
        ok &= bank.ok[rows_of(bank, manifest.ids)]
    if ok.all():
        return manifest
    first = manifest.uris[int(np.argmin(ok))]
    if not drop_failed:
        from w2s_fast.extract.worker import how_to_fix

        broken = [bank_dir(cache, bank.key) for bank in banks if not bank.ok.all()]
        raise DataError(
            f"{manifest.name}: {int((~ok).sum())} of {len(ok)} images could not be read, {first} first; "
            f"{how_to_fix(manifest, broken)}, or leave them out with --drop-failed"
        )
    return kept(manifest, np.flatnonzero(ok))


def kept(manifest: Manifest, rows: np.ndarray) -> Manifest:
    """The manifest of these rows only; a class that loses its last image is a `DataError`."""
    parts = {part: tuple(getattr(manifest, part)[r] for r in rows) for part in ("ids", "uris", "splits", "groups")}
    return replace(manifest, labels=manifest.labels[rows], **parts)


def _weak_logits(
    bank: Bank, manifest: Manifest, *, model: str, data: str, cache: str | Path | None, as_stored: bool
) -> torch.Tensor:
    logits = weak_logits(bank, rows_of(bank, manifest.ids), as_stored=as_stored)
    if logits is None or logits.shape[1] != len(manifest.classes):
        raise supervisors.other_classes(model, manifest, None if logits is None else logits.shape[1], data=data)
    order = supervisors.columns_of(model, manifest, data=data, cache=cache)
    return logits if order == list(range(len(order))) else logits[:, order].contiguous()


def _text(
    strong: str,
    manifest: Manifest,
    templates: tuple[str, ...],
    *,
    cache: str | Path | None,
    options: ExtractOptions | None,
    say: Say,
) -> tuple[torch.Tensor | None, str | None, float, str | None]:
    from w2s_fast.extract.text import Prompts, extract_text, known_textless

    if not may_have_text(strong):
        return None, f"n/a: {strong} has no text tower", 100.0, None
    prompts = Prompts(classes=manifest.classes, templates=templates)
    root = cache_root(cache)
    try:
        try:
            bank = open_bank(strong, prompts.name, cache=root, options=_in_key(options))
        except BankMissing:
            reason = known_textless(strong, prompts, options=options, cache=root)
            if reason is not None:
                return None, f"n/a: {reason}", 100.0, None
            say(f"{strong}: encoding {len(manifest.classes)} class names")
            bank = open_key(extract_text(strong, prompts, options=options, cache=root).key, cache=root)
    except MissingText as error:
        return None, f"n/a: {error}", 100.0, None
    return bank.features(), None, float(bank.ingredients["logit_scale"]), bank.key


def _tower(strong: str, *, data: str, cache: str | Path | None, options: ExtractOptions | None) -> TextTower:
    from w2s_fast.backbones.text import text_tower

    encoder = open_encoder(
        strong,
        data=data,
        cache=cache,
        random_weights=options is not None and options.random_weights,
        allow_mismatch=options is not None and options.allow_mismatch,
    )
    return text_tower(encoder, strong)
