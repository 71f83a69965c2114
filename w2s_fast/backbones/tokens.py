"""Texts to token ids: a library's tokenizer and, for a compacted vocabulary, a table of the rows that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2s_fast.core.errors import MissingText, ModelError
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.protocols import TextTower

_ROOM = 4
"""A context so many times as long shows what a tokenizer cut off."""
_PROBE = ("a photo of a cat.", "Hot-Dog's 12 naïve é_ünder score", "")


class Tokens:
    """A tokenizer that never cuts a text short in silence and never maps an unknown token to another.

    Arguments: `tokenizer(texts) -> i[c, context]`; `kept`, the original ids of a compacted vocabulary's rows, ascending
    with the end of text last (open_clip finds that by argmax); `model` names it in errors.
    """

    def __init__(
        self, tokenizer: Callable[..., Tensor], *, context_length: int, model: str, kept: Sequence[int] | None = None
    ) -> None:
        self.tokenizer: Any = tokenizer
        self.context_length, self.model = context_length, model
        self.kept = None if kept is None else torch.tensor(kept, dtype=torch.int64)

    @property
    def digest(self) -> str:
        """sha256 of what decides token ids: kind, context length, kept rows, and the ids of a few probing texts."""
        probe = self.tokenizer(list(_PROBE), context_length=self.context_length).tolist()
        kept = None if self.kept is None else self.kept.tolist()
        kind = type(self.tokenizer).__name__
        return digest_json({"kind": kind, "context": self.context_length, "kept": kept, "probe": probe})

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids i[c, context]; `MissingText` names the text that is too long, or the token that has no row."""
        texts = list(texts)
        own = type(self.tokenizer).__name__ == "SimpleTokenizer"
        for text in texts if own else ():
            self._check_length(text)
        ids = self.tokenizer(texts, context_length=self.context_length).to(torch.int64)
        if not own:
            self._check_cut(texts, ids)
        if self.kept is None:
            return ids
        rows = torch.searchsorted(self.kept, ids).clamp_max(len(self.kept) - 1)
        known = self.kept[rows] == ids
        if not bool(known.all()):
            row, column = (int(v) for v in (~known).nonzero()[0])
            word = self._word(int(ids[row, column]))
            raise MissingText(f"{texts[row]!r} has the token {word!r}, which the vocabulary of {self.model} lacks")
        return rows

    def _check_length(self, text: str) -> None:
        count = len(self.tokenizer.encode(text)) + 2
        if count > self.context_length:
            raise MissingText(f"{text!r} has {count} tokens, and {self.model} takes {self.context_length}")

    def _check_cut(self, texts: Sequence[str], ids: Tensor) -> None:
        """Whether `ids` are all that there is: in a longer context they are the same, and padding follows."""
        length = self.context_length
        more = self.tokenizer([*texts, ""], context_length=_ROOM * length).to(torch.int64)
        padding = more[-1, -1]
        whole = (more[:-1, :length] == ids).all(1) & (more[:-1, length:] == padding).all(1)
        if not bool(whole.all()):
            text = texts[int((~whole).nonzero()[0, 0])]
            raise MissingText(f"{text!r} has more than {length} tokens, and {self.model} takes {length}")

    def _word(self, token: int) -> str:
        decoder = getattr(self.tokenizer, "decoder", None)
        return decoder.get(token, str(token)).removesuffix("</w>") if isinstance(decoder, dict) else str(token)


def tokenizer_digest(tower: TextTower, texts: Sequence[str]) -> str:
    """sha256 of what decides a tower's token ids: its own account of it, else the ids of the texts that it reads."""
    told = getattr(tower, "tokenizer_digest", None)
    if told is not None:
        return str(told)
    ids = tower.tokenize(list(texts)).tolist()
    return digest_json({"kind": type(tower).__name__, "context": tower.context_length, "ids": ids})


def read_vocabulary(folder: Path, *, rows: int, end: int) -> list[int] | None:
    """The kept BPE ids in `vocabulary.json` beside a checkpoint, or None; `rows` and `end` are what they must fit."""
    path = folder / "vocabulary.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        ids = [int(i) for i in (found["ids"] if isinstance(found, dict) else found)]
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{path} is not a list of token ids; write the kept BPE ids in order") from None
    if len(ids) != rows:
        raise ModelError(
            f"{path} has {len(ids)} ids, but the text tower has {rows} rows; they must be of one checkpoint"
        )
    if ids != sorted(set(ids)) or ids[0] != 0 or ids[-1] != end:
        raise ModelError(f"{path} must ascend from the padding id 0 to the end of text {end}, each id once")
    return ids
