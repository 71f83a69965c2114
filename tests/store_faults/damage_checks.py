"""What every damage is asked: the error's words, the arrays that are whole, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from known_bank import DATA, MODEL, Known, known, reads, same, verifications

from w2s_fast.core.errors import BankMissing, CacheError, Damaged
from w2s_fast.store import layout, open_bank, open_key, repair_bank, verify_bank
from w2s_fast.store.reader import Bank

WHAT = known()


def array_of(path: Path) -> str | None:
    """The array whose numbers a chunk file holds, None for records and metadata."""
    return path.parts[path.parts.index("c") - 1] if "c" in path.parts[-3:] else None


def rows_of_file(bank_dir: Path, path: Path) -> str | None:
    """The words about rows that a message about this file must have."""
    inside = path.relative_to(bank_dir).parts
    if inside[0] not in ("parts", "commits"):
        return None
    start, stop = layout.row_range(int(inside[1][:6]), WHAT.rows)
    return f"(rows {start}-{stop - 1})"


def check_message(error: CacheError, bank_dir: Path, path: Path, *others: str) -> None:
    """The file (or one of the others that it leads to), its rows, and the commands that fix it."""
    message, rows = str(error), rows_of_file(bank_dir, path)
    if type(error) is BankMissing:  # complete.json deleted: a bank that was never finished looks the same
        assert path.name == "complete.json" and "is incomplete; finish it with: " in message, message
    else:
        named = [str(path), *others]
        assert type(error) is Damaged and any(p in message for p in named), f"{path}: {error!r}"
        assert f"w2s-fast cache repair {bank_dir.name}" in message, message
        assert rows is None or rows in message, message
    assert f"w2s-fast extract --data {DATA} --model {MODEL}" in message, message


def check(cache: Path, bank_dir: Path, path: Path, *others: str, thorough: bool = True) -> None:
    """Ask for everything of a bank one file of which is damaged; not `thorough`: only for what that file holds."""
    __tracebackhide__ = True
    if path.parent.name == "refs":
        check_reference(cache, bank_dir, path, thorough=thorough)
        return
    asked = ("verify", "verify --deep") if thorough else ()
    for name in asked:
        with pytest.raises(CacheError) as caught:
            verifications(bank_dir.name, cache)[name]()
            pytest.fail(f"{name} did not see {path}")
        check_message(caught.value, bank_dir, path, *others)
    try:
        bank = open_key(bank_dir.name, cache=cache)
    except CacheError as error:
        check_message(error, bank_dir, path, *others)
        if thorough:
            with pytest.raises(type(error)):
                open_bank(MODEL, DATA, cache=cache)
        return
    array = array_of(path)
    assert array is not None, f"{path}: opening did not see it"
    check_reads(bank, path, {array}, thorough=thorough)


def check_reads(bank: Bank, path: Path, hurt: set[str], *, thorough: bool = True) -> None:
    """Arrays that are hurt raise, whichever way they are read; the others are the truth."""
    __tracebackhide__ = True
    for name, (array, read, true) in reads(WHAT).items():
        if array in hurt:
            with pytest.raises(Damaged) as caught:
                read(bank)
                pytest.fail(f"{name} returned numbers from {path}")
            check_message(caught.value, bank.folder, path)
        elif thorough:
            assert same(read(bank), true), f"{name} after damage to {path}"


def check_reference(cache: Path, bank_dir: Path, path: Path, *, thorough: bool = True) -> None:
    """A damaged reference stops who asks by name; by its key the bank is what it was."""
    with pytest.raises(CacheError) as caught:
        open_bank(MODEL, DATA, cache=cache)
    message = str(caught.value)
    assert f"w2s-fast extract --data {DATA} --model {MODEL}" in message, message
    if type(caught.value) is not BankMissing:
        assert type(caught.value) is Damaged and str(path) in message, message
    bank = open_key(bank_dir.name, cache=cache)
    for name, (_, read, true) in reads(WHAT).items() if thorough else ():
        assert same(read(bank), true), name
    assert not thorough or verify_bank(bank, deep=True) > 0


def fix(cache: Path, bank_dir: Path, what: Known = WHAT) -> None:
    """What the messages say: repair, then extract again."""
    repair_bank(bank_dir.name, cache=cache)
    what.finish(cache)
    assert verify_bank(bank_dir.name, cache=cache, deep=True) > 0
    bank = open_bank(MODEL, DATA, cache=cache)
    for name, (_, read, true) in reads(what).items():
        assert same(read(bank), true), name
