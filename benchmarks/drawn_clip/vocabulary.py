"""The rows of open_clip's 49,408 BPE tokens that the embedded CLIP keeps."""

from __future__ import annotations

import string
from collections.abc import Iterable

import numpy as np
import open_clip
import torch

from benchmarks.drawn_clip.captions import COMPOUNDS, GENERAL, MEDIA
from w2s_fast.data import drawn
from w2s_fast.data.drawn.paint import COLOURS
from w2s_fast.data.drawn.things import THINGS

CONTEXT = 12
"""Tokens per text, start and end included; longer texts are cut, as everywhere in open_clip."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def always_known() -> list[str]:
    """Texts whose tokens are kept even where no caption has them, so that usual prompts never fail."""
    names = [*THINGS, *(other for thing in THINGS.values() for other in thing.also)]
    kinds, media = [thing.kind for thing in THINGS.values()], [m for words in MEDIA.values() for m in words]
    templates = [t("") for t in open_clip.OPENAI_IMAGENET_TEMPLATES] + [t.format("") for t in GENERAL]
    characters = [*string.ascii_lowercase, *string.digits, *".,!?-'"]
    compounds = [compound for compound, _ in COMPOUNDS.values()]
    plurals = [f"{name}s" for name in drawn.CLASSES]
    return [
        *names,
        *compounds,
        *plurals,
        *kinds,
        *media,
        *templates,
        *characters,
        *DIGITS,
        *COLOURS,
        *drawn.DOMAINS,
        "unknown",
    ]


def kept_ids(texts: Iterable[str]) -> list[int]:
    """The sorted BPE ids of `texts` and of `always_known`, with padding (0), start and end.

    Sorted, so that the end token keeps the highest row: open_clip finds it by argmax.
    """
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    ids = {0, tokenizer.sot_token_id, tokenizer.eot_token_id}
    for text in {*texts, *always_known()}:
        ids.update(tokenizer.encode(text))
    return sorted(ids)


def compact(texts: list[str], ids: list[int]) -> torch.Tensor:
    """Tokenize to rows of the kept vocabulary: int64 [n, CONTEXT]. Raises KeyError for a token that is not kept."""
    tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(texts).numpy()
    rows = np.searchsorted(ids, tokens)
    known = np.array(ids)[np.minimum(rows, len(ids) - 1)] == tokens
    if not known.all():
        raise KeyError(f"no row for a token of {texts[int(np.argmin(known.all(1)))]!r}")
    return torch.from_numpy(rows)
