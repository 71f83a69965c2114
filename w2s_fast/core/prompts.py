"""Prompts of class names: where context, name and end of text stand, and which positions all classes share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from w2s_fast.core.errors import MissingText, UsageError, nearest
from w2s_fast.core.protocols import TextTower

if TYPE_CHECKING:
    from torch import Tensor, dtype

POSITIONS = ("end", "middle", "front")
RANDOM_LENGTH = 16
"""CoOp's context length where it starts at random."""
_WORDNET = re.compile(r"n\d{8}")
_PLACEHOLDER = "a"


def spoken(names: Sequence[str]) -> list[str]:
    """Class names as prompts have them: no underscores, lower-case; `MissingText` for WordNet ids and numbers."""
    if ids := [n for n in names if _WORDNET.fullmatch(n)]:
        raise MissingText(f"{ids[0]!r} is a WordNet id, not a name; give the names with --class-names FILE")
    if numbers := [n for n in names if n.strip().isdecimal()]:
        raise MissingText(f"{numbers[0]!r} is a number, not a name; give the names with --class-names FILE")
    return [" ".join(n.replace("_", " ").lower().split()) for n in names]


def tokenized(tower: TextTower, names: Sequence[str], texts: Sequence[str]) -> Tensor:
    """Token ids i[k, L] of one text per class name; `MissingText` names the class whose text the tower cannot read."""
    try:
        return tower.tokenize(texts)
    except MissingText:
        for name, text in zip(names, texts, strict=True):
            try:
                tower.tokenize([text])
            except MissingText as error:
                raise MissingText(
                    f"class name {name!r}: {error}; give other names with --class-names FILE, a shorter prompt, or a "
                    "head without text, such as prototype(init='weak_mean')"
                ) from None
        raise


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPrompts:
    """One prompt per class name through a text tower, as a function of the learned context.

    base: frozen token embeddings f[k, L, w] in prompt order; positions of the context hold those of `words`.
    place: i[k, L], the context vector that a position takes, or -1. eot: i[k], the position that is read out.
    shared: how many leading positions are the same for all classes, so that the tower computes them once.
    """

    tower: TextTower
    base: Tensor
    place: np.ndarray
    eot: Tensor
    shared: int
    lead: int
    m: int
    csc: bool
    _moved: dict[Any, Tensor] = field(default_factory=dict[Any, "Tensor"], repr=False)

    @property
    def start(self) -> Tensor:
        """The embeddings of the context's words: f[M, w], or f[k, M, w] where each class has its own context."""
        k, _, width = self.base.shape
        found = self.base[np.nonzero(self.place >= 0)].reshape(k, self.m, width)
        return found if self.csc else found[0]

    def encode(self, context: Tensor, *, dtype: dtype | None = None, chunk: int | None = None) -> Tensor:
        """f[*r, M, w] (f[*r, k, M, w] if `csc`) -> text features f[*r, k, d], not normalised, differentiable.

        dtype: that of the products in the tower's blocks (None: the context's). chunk: classes at a time, recomputed
        for the gradient (None: all of them while their activations fit).
        """
        base = self._on(context)
        lead = context.shape[:-3] if self.csc else context.shape[:-2]
        prefix = self._prefix(base, context, lead) if self.shared else None
        rest, place = base[:, self.shared :], self.place[:, self.shared :]
        rows, columns = np.nonzero(place >= 0)
        if len(rows):
            rest = rest.expand(*lead, *rest.shape).clone()
            which = place[rows, columns]
            rest[..., rows, columns, :] = context[..., rows, which, :] if self.csc else context[..., which, :]
        # given only where set, so that towers of others need not know them
        given: dict[str, Any] = {
            name: value for name, value in {"dtype": dtype, "chunk": chunk}.items() if value is not None
        }
        return self.tower.encode(rest, self.eot - self.shared, prefix, **given)

    def _prefix(self, base: Tensor, context: Tensor, lead: Sequence[int]) -> Tensor:
        prefix = base[0, : self.shared]
        learned = self.shared - self.lead
        if not learned:
            return prefix
        prefix = prefix.expand(*lead, *prefix.shape).clone()
        prefix[..., self.lead :, :] = context[..., :learned, :]
        return prefix

    def _on(self, context: Tensor) -> Tensor:
        key = (context.device, context.dtype)
        if key not in self._moved:
            self._moved[key] = self.base.to(device=context.device, dtype=context.dtype)
        return self._moved[key]


def class_prompts(
    tower: TextTower,
    names: Sequence[str],
    *,
    words: str = "a photo of a",
    m: int = 0,
    position: str = "end",
    end: str = "",
    csc: bool = False,
) -> ClassPrompts:
    """The prompts `words name end` with the words' M embeddings to be replaced by learned ones.

    m > 0 takes m placeholders instead of words. position: of the class name: `end` [V1..VM][name], `middle`
    [V1..VM/2][name][..VM], `front` [name][V1..VM]. csc: every class has its own context. end: text after the name
    (CoOp's is "."). Errors: `UsageError` for no names, no words or a context that the tower cannot hold; `MissingText`
    for a name that it cannot read or that is too long beside the context.
    """
    if position not in POSITIONS:
        raise UsageError(f"class position {position!r} is none of end, middle, front{nearest(position, POSITIONS)}")
    said = spoken(names)
    if not said or not all(said):
        empty = (
            "a prompt needs class names and none were given" if not said else f"class name {said.index('')} is empty"
        )
        raise UsageError(f"{empty}; give one name per class")
    words = " ".join([_PLACEHOLDER] * m) if m else " ".join(words.split())
    lead, length = _measured(tower, words)
    texts = [f"{words} {word}{end}" for word in said]
    tokens = tokenized(tower, names, texts)
    order = np.tile(np.arange(tokens.shape[1]), (len(said), 1))
    if position != "end":
        short = _lengths(tower, said, lead)
        first = length // 2 if position == "middle" else 0
        for row, count in zip(order, short, strict=True):
            row[lead : lead + length + count] = np.concatenate(
                [
                    lead + np.arange(first),
                    lead + length + np.arange(count),
                    lead + np.arange(first, length),
                ]
            )
    shared = lead if csc or position == "front" else lead + (length // 2 if position == "middle" else length)
    inside = (order >= lead) & (order < lead + length)
    embedded = tower.embed(tokens).detach()
    return ClassPrompts(
        tower=tower,
        base=embedded[np.arange(len(said))[:, None], order],
        place=np.where(inside, order - lead, -1),
        eot=tower.eot(tokens).cpu(),
        shared=shared,
        lead=lead,
        m=length,
        csc=csc,
    )


def _measured(tower: TextTower, words: str) -> tuple[int, int]:
    """How many tokens stand before any text, and how many `words` has."""
    if not words:
        raise UsageError("the context has no words; give words='a photo of a', or a length m")
    first = words.split()[0]
    if len(words.split()) + 2 > tower.context_length:
        raise _too_long(tower, len(words.split()))
    try:
        once, twice, thrice = tower.tokenize([" ".join([first] * n) for n in (1, 2, 3)]).tolist()
        lead = 2 * _common(once, twice) - _common(twice, thrice)
        alone, more = tower.tokenize([words, f"{words} {first}"]).tolist()
    except MissingText as error:
        if "tokens, and" in str(error):
            raise _too_long(tower, len(words.split())) from None
        raise MissingText(f"the context {words!r}: {error}; give other words") from None
    return lead, _common(alone, more) - lead


def _lengths(tower: TextTower, said: Sequence[str], lead: int) -> list[int]:
    alone = tower.tokenize(list(said)).tolist()
    more = tower.tokenize([f"{word} {_PLACEHOLDER}" for word in said]).tolist()
    return [_common(one, other) - lead for one, other in zip(alone, more, strict=True)]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _too_long(tower: TextTower, count: int) -> UsageError:
    return UsageError(
        f"a context of {count} words or vectors leaves no room for class names: the text tower takes "
        f"{tower.context_length} tokens, start and end of text among them; give a shorter one (m, words)"
    )
