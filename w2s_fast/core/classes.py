"""Class names as identities: one spelling, no two alike, and joins by name instead of by position."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from w2s_fast.core.errors import DataError

ClassNames = Sequence[str] | Mapping[str, str] | None
"""What a class-names file gives: names by position, old names to new ones, or nothing."""
SHOWN = 4
"""Names of each side that an error shows."""


def class_name(text: str) -> str:
    """A class name in the one spelling that is compared: Unicode's composed form, without blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def lookalikes(names: Sequence[str]) -> tuple[str, str] | None:
    """The first two names that differ in case, blanks, underscores or Unicode's forms only, or None."""
    seen: dict[str, str] = {}
    for name in names:
        plain = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not c.isspace() and c != "_")
        if seen.setdefault(plain, name) is not name:
            return seen[plain], name
    return None


def in_order(names: Sequence[str]) -> list[str]:
    """Names sorted as text, or by value where all are numbers: 2 before 10."""
    kept = sorted(names)
    return sorted(kept, key=int) if kept and all(n.isdecimal() for n in kept) else kept


def numbered(names: Sequence[str]) -> bool:
    """Whether the names are numbers in numeric order, so that a position says what it means."""
    return bool(names) and all(n.isdecimal() for n in names) and [int(n) for n in names] == sorted({*map(int, names)})


def columns(
    of: Sequence[str], wanted: Sequence[str], *, what: str, other: str, known_as: Sequence[str] = ()
) -> list[int]:
    """Where each of the classes `wanted` stands among those `of` a model: the only join of classes.

    `known_as` are names that the wanted classes had before they were given others. `what` and `other` call the sides in
    the `DataError` that shows both orders where names cannot decide.
    """
    have = {class_name(name): at for at, name in enumerate(of)}
    for names in (wanted, known_as):
        if len(names) == len(of) and have.keys() == set(names):
            return [have[name] for name in names]
    raise DataError(
        f"{what} knows the classes {shown(of)}, and {other} has {shown(wanted)}; they are joined by name, never by "
        f"position: {_differing(of, wanted)}give the names that it was trained with (--class-names FILE with lines "
        "`now<TAB>then`), or train one on this data set: w2s-fast weak"
    )


def renamed(own: Sequence[str], given: ClassNames, *, where: str, by_number: bool = False) -> tuple[str, ...]:
    """The class names of a data set, or those that a class-names file gives in their place.

    A mapping (`old<TAB>new` lines) is by name. A plain list is by position, only where `own` are numbers in numeric
    order or the source itself numbers its classes (`by_number`); elsewhere it must hold the same names. `DataError`
    shows both orders.
    """
    if given is None:
        return tuple(own)
    if isinstance(given, Mapping):
        if lacking := [name for name in own if name not in given]:
            raise DataError(
                f"the class-names file has no line for {shown(lacking)} of {where}; its lines are `old<TAB>new`"
            )
        return tuple(given[name] for name in own)
    if len(given) != len(own):
        raise DataError(
            f"the class-names file has {len(given)} names, but {where} has {len(own)} classes; give one a line"
        )
    if set(given) == set(own):
        if by_number and list(given) != list(own) and not numbered(own):
            raise DataError(
                f"{where}: its labels number the classes {shown(own)} by their folders, and the class-names file "
                f"{shown(given)}; {_differing(own, given)}leave the file out, or correct its order"
            )
        return tuple(own)
    if not numbered(own):
        moved = [name for at, name in enumerate(given) if name in own and own[at] != name]
        if moved or not by_number:
            raise DataError(
                f"the class-names file cannot be joined with the classes of {where} by position: {shown(given)} and "
                f"{shown(own)}; write its lines as `old<TAB>new`, such as {own[0]}<TAB>NAME"
            )
    return tuple(given)


def shown(names: Sequence[str]) -> str:
    """The first few names and how many follow."""
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(repr(n) for n in names[:SHOWN]) + more


def _differing(a: Sequence[str], b: Sequence[str]) -> str:
    only = [n for n in b if n not in {class_name(x) for x in a}]
    if only:
        return f"{len(only)} of the names are on one side only, such as {only[0]!r}; "
    odd = sum(x != y for x, y in zip(a, b, strict=False))
    return f"the orders differ at {odd} of {len(b)} positions; "
