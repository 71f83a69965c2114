"""The one error tree: every message says what is wrong, where, and the command that fixes it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class W2SError(Exception):
    """Root of every error that this package raises on purpose; `exit_status` is what the CLI returns for it."""

    exit_status = 1


class UsageError(W2SError):
    """A wrong name, argument or combination of arguments: the caller can fix it by calling differently."""

    exit_status = 2


class SpecError(UsageError):
    """A spec string such as `kd(tau_w=1)` that does not parse, or names an unknown part or parameter."""


class DataError(W2SError):
    """A data set, manifest, image or split that cannot be used as it is."""


class Unreadable(DataError):
    """Bytes that are not an image this package decodes: a property of content, unlike a file that is gone or locked."""


class ModelError(W2SError):
    """A model that is unknown, cannot be loaded, or does not match its weights."""


class CacheError(W2SError):
    """A cache directory that cannot be read or written."""


class BankMissing(CacheError):
    """No complete bank for this model and data set; the message gives the `extract` command."""


class BankStale(CacheError):
    """The bank was made from other weights or other rows than those present now."""


class Damaged(CacheError):
    """Bytes of the cache are not those that were committed; the message names file, rows and the fixing command."""


class NewerFormat(CacheError):
    """The cache was written in a later format than this version reads."""


class IdMismatch(W2SError):
    """Two banks or tables were to be joined and an id of one is absent in the other."""


class MissingText(W2SError):
    """The encoder has no usable text tower, or a class name has no token in its vocabulary."""


class TrainError(W2SError):
    """A fit that cannot be run as asked."""


def nearest(name: str, options: Iterable[str], *, count: int = 3) -> str:
    """A clause such as `; did you mean 'kd', 'ce'?` naming the options closest to `name`, or the short full list.

    `options` are the known names; the clause is empty when there are none.
    """
    known = sorted({str(o) for o in options})
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if close:
        return "; did you mean " + ", ".join(repr(c) for c in close) + "?"
    if not known:
        return ""
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"; known are: {shown}"
