"""Class names through a text tower, once, as a bank of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2s_fast.backbones import canonical, open_encoder
from w2s_fast.backbones.text import text_features, text_tower
from w2s_fast.backbones.tokens import tokenizer_digest
from w2s_fast.core.errors import MissingText
from w2s_fast.core.hashing import digest_ids, digest_json
from w2s_fast.core.paths import cache_root
from w2s_fast.core.prompts import spoken
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.textless import recall, remember
from w2s_fast.extract.worker import Extracted
from w2s_fast.store.keys import bank_key
from w2s_fast.store.layout import bank_dir
from w2s_fast.store.refs import write_ref
from w2s_fast.store.write import begin_bank, complete_bank, missing_parts, write_part


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What is asked of the text tower: class names in label order, templates with one `{}` each."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name under which a reference to the text bank is kept."""
        return f"text:{digest_json([list(self.classes), list(self.templates)])[:32]}"

    @property
    def texts(self) -> tuple[str, ...]:
        """What the tower reads: every class under every template."""
        return tuple(form.replace("{}", word) for form in self.templates for word in spoken(self.classes))

    @property
    def ids(self) -> tuple[str, ...]:
        """One row id per class, in label order."""
        texts = (digest_json([label, name, list(self.templates)]) for label, name in enumerate(self.classes))
        return tuple(text[:32] for text in texts)


def extract_text(
    model: str, prompts: Prompts, *, options: ExtractOptions | None = None, cache: str | Path | None = None
) -> Extracted:
    """Fill the text bank of `model` for these prompts and say what became of it; a complete bank is left as it is.

    Rows are classes in label order; one template gives raw features, several the mean of the unit ones.
    Raises `MissingText` when the model has no text tower or a name has no token; then no bank is begun.
    """
    options, model = (options or ExtractOptions()).checked(), canonical(model)
    root = cache_root(cache)
    encoder: Any = open_encoder(
        model, cache=root, random_weights=options.random_weights, allow_mismatch=options.allow_mismatch
    )
    try:
        return _filled(model, encoder, prompts, options=options, root=root)
    except MissingText as error:
        remember(root, _asked(model, prompts, options), str(error), encoder.weight_files)
        raise


def known_textless(
    model: str, prompts: Prompts, *, options: ExtractOptions | None = None, cache: str | Path | None = None
) -> str | None:
    """Why an earlier `extract_text` of the same weights found no text, or None if nothing is known; loads no model."""
    return recall(cache_root(cache), _asked(model, prompts, options or ExtractOptions()))


def _asked(model: str, prompts: Prompts, options: ExtractOptions) -> list[Any]:
    return [canonical(model), prompts.name, options.in_key()]


def _filled(model: str, encoder: Any, prompts: Prompts, *, options: ExtractOptions, root: Path) -> Extracted:
    tower = text_tower(encoder, model)
    ingredients: dict[str, Any] = {
        "kind": "text",
        "weights": encoder.weights_digest,
        "model": encoder.config,
        "tokenizer": tokenizer_digest(tower, prompts.texts),
        "logit_scale": float(tower.logit_scale),
        "classes": list(prompts.classes),
        "templates": list(prompts.templates),
        "options": {"random_weights": options.random_weights, "allow_mismatch": options.allow_mismatch},
    }
    key, count = bank_key(ingredients), len(prompts.classes)
    directory = bank_dir(root, key)
    lacking = missing_parts(directory, count)
    # encoded before the bank is begun, so that a name without tokens leaves nothing behind
    encoded = text_features(tower, prompts.classes, prompts.templates) if lacking else None
    begin_bank(root, ingredients)
    if encoded is not None:
        features = np.asarray(encoded, np.float32)
        write_part(
            directory,
            0,
            ids=prompts.ids,
            features=features,
            logits=None,
            norms=np.linalg.norm(features, axis=1).astype(np.float32),
            ok=np.ones(count, bool),
            failures=[],
            stored="f32",
            producer={"model": model},
        )
    rows_digest = digest_ids(prompts.ids)
    digest = complete_bank(directory, rows=count, rows_digest=rows_digest)
    write_ref(
        root,
        model=model,
        data=prompts.name,
        options=options.in_key(),
        key=key,
        rows_digest=rows_digest,
        weights=encoder.weight_files,
    )
    return Extracted(
        model=model,
        data="text",
        key=key,
        rows=count,
        made_parts=len(lacking),
        failures=0,
        digest=digest,
        images_per_second=None,
    )
