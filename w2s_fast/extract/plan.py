"""From a model and a manifest to a bank's key: every ingredient that changes numbers, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2s_fast.backbones import canonical, open_encoder, parse_model
from w2s_fast.backbones.weak import Supervisor, usable_supervisors
from w2s_fast.core.hashing import digest_ids
from w2s_fast.core.paths import cache_root
from w2s_fast.core.protocols import Encoder
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.repeats import repeats, without_repeats
from w2s_fast.data.splits import halves
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.store.keys import bank_key


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model over one manifest: the loaded encoder, the bank's ingredients and its key."""

    model: str
    data: str
    encoder: Encoder
    ingredients: dict[str, Any]
    key: str


def image_ingredients(encoder: Encoder, manifest: Manifest, options: ExtractOptions) -> dict[str, Any]:
    """The key's ingredients of an image bank (store/README.md); never labels, class names, paths or batch size."""
    return {
        "kind": "images",
        "weights": encoder.weights_digest,
        "model": encoder.config,
        "preprocess": encoder.preprocess,
        "decode": manifest.decode,
        "rows": manifest.rows_digest,
        "options": options.in_key(),
    }


def plan(
    manifest: Manifest, models: list[str], *, data: str, options: ExtractOptions, cache: Path, device: str
) -> list[Job]:
    """Load each model once and name its bank; a model named twice is one job."""
    jobs: list[Job] = []
    for model in dict.fromkeys(map(canonical, models)):
        encoder = open_encoder(
            model,
            data=_trained_on(model, manifest, data=data, cache=cache),
            cache=cache_root(cache),
            device=device,
            random_weights=options.random_weights,
            allow_mismatch=options.allow_mismatch,
        )
        ingredients = image_ingredients(encoder, manifest, options)
        jobs.append(Job(model=model, data=data, encoder=encoder, ingredients=ingredients, key=bank_key(ingredients)))
    return jobs


def kept_supervisors(
    name: str, manifest: Manifest, *, data: str, cache: str | Path | None = None
) -> dict[int, Supervisor]:
    """weak seed -> the supervisor `weak:NAME/SEED` of a data set, wherever the data set lay when it was trained."""
    # where copies have to be left out, it was trained without them
    clean = without_repeats(manifest)[0] if repeats(manifest).across else manifest
    d_train = digest_ids(sorted(clean.ids[r] for r in halves(clean)[0]))
    return usable_supervisors(name, data, classes=manifest.classes, d_train=d_train, cache=cache_root(cache))


def _trained_on(model: str, manifest: Manifest, *, data: str, cache: Path) -> str:
    """The name of the data set under which a supervisor is kept; of other models, the data set's own."""
    parsed = parse_model(model)
    if parsed.library != "weak":
        return data
    there = kept_supervisors(parsed.name, manifest, data=data, cache=cache)
    seed = next(iter(there), -1) if parsed.pretrained is None else parsed.pretrained
    return there[int(seed)].data if str(seed).isdecimal() and int(seed) in there else data
