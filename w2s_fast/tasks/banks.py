"""Banks by the names that commands are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from w2s_fast.backbones import canonical as canonical_model
from w2s_fast.data import canonical
from w2s_fast.store import bank as store
from w2s_fast.store.bank import Bank

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions


def open_bank(model: str, data: str, *, cache: str | Path | None = None, options: ExtractOptions | None = None) -> Bank:
    """The bank that `w2s-fast extract --model MODEL --data DATA` made, or `w2s.extract_all`; no model is loaded.

    model: as on the command line; a trained supervisor with its seed (`weak:NAME/0`).
    data: one data set as on the command line; relative paths are from here.
    cache: the cache folder or bucket (default: $W2S_FAST_CACHE or ~/.cache/w2s_fast).
    options: those of the extraction, where they were not the default ones.
    Errors: `BankMissing` and `BankStale` with the command that makes the bank, `Damaged`.
    """
    from w2s_fast.extract.options import ExtractOptions

    asked = (options or ExtractOptions()).in_key()
    return store.open_bank(canonical_model(model), canonical(data), cache=cache, options=asked)
