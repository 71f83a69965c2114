"""The cache on disk: content-addressed banks of features and logits that are verified whenever they are read.

README.md in this folder is the written format and what it promises.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2s_fast.store.bank import Bank, open_bank, open_key, rows_of, verify_bank
    from w2s_fast.store.garbage import Garbage, collect_garbage
    from w2s_fast.store.keys import bank_key
    from w2s_fast.store.listing import BankInfo, differences, find_key, list_banks, why
    from w2s_fast.store.refs import Ref, extract_command, list_refs, read_ref, stale_weights, write_ref
    from w2s_fast.store.repair import Dropped, repair_bank
    from w2s_fast.store.write import begin_bank, complete_bank, missing_parts, write_part

__all__ = [
    "Bank",
    "BankInfo",
    "Dropped",
    "Garbage",
    "Ref",
    "bank_key",
    "begin_bank",
    "collect_garbage",
    "complete_bank",
    "differences",
    "extract_command",
    "find_key",
    "list_banks",
    "list_refs",
    "missing_parts",
    "open_bank",
    "open_key",
    "read_ref",
    "repair_bank",
    "rows_of",
    "stale_weights",
    "verify_bank",
    "why",
    "write_part",
    "write_ref",
]

_HOME = {
    "bank": ("Bank", "open_bank", "open_key", "rows_of", "verify_bank"),
    "garbage": ("Garbage", "collect_garbage"),
    "keys": ("bank_key",),
    "listing": ("BankInfo", "differences", "find_key", "list_banks", "why"),
    "refs": ("Ref", "extract_command", "list_refs", "read_ref", "stale_weights", "write_ref"),
    "repair": ("Dropped", "repair_bank"),
    "write": ("begin_bank", "complete_bank", "missing_parts", "write_part"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
