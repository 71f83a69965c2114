"""w2s-fast cache: look at banks, check them, repair them and clear up."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from w2s_fast.extract.options import ExtractOptions
from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import asks
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help="Look at the cache, check and repair it.")
Key = Annotated[str, typer.Argument(help="Key of a bank, or its first digits (see: w2s-fast cache ls).")]

SAME = 0.99
"""The least cosine of a row with itself encoded again: other devices and dtypes stay above 0.999."""


@app.command("ls")
def ls(cache: o.Cache = None, json: o.Json = False) -> None:
    """List the banks: key, model, data, rows, whether complete, bytes.

    Example: w2s-fast cache ls
    """
    from w2s_fast.store.listing import list_banks

    out = Output(json=json)
    banks = list(list_banks(cache))
    if json:
        out.lines({"key": b.key, "model": b.model, "data": b.data, "rows": b.rows, "dim": b.dim,
                   "complete": b.complete, "bytes": b.bytes, "problem": b.problem} for b in banks)  # fmt: skip
        return
    rows = [
        [b.key[:12], b.model, b.data, b.rows, b.dim, "yes" if b.complete else "no", f"{b.bytes:,}", b.problem]
        for b in banks
    ]
    columns = ["key", "model", "data", "rows", "width", "complete", "bytes", "problem"]
    shown = len(columns) if any(b.problem for b in banks) else -1
    out.grid("", columns[:shown], (row[:shown] for row in rows))
    if not banks:
        out.say("the cache is empty; fill it with: w2s-fast extract")


@app.command("info")
def info(
    key: Key,
    cache: o.Cache = None,
    json: Annotated[bool, typer.Option("--json", help="JSON is what it prints in any case.")] = False,
) -> None:
    """Print every ingredient of a bank's key, its parts' producers and its unreadable images, as JSON.

    Example: w2s-fast cache info 3fa9
    """
    from w2s_fast.store.listing import describe, find_key

    Output(json=json).document(describe(find_key(key, cache=cache), cache=cache))


@app.command("why")
def why(first: Key, second: Key, cache: o.Cache = None, json: o.Json = False) -> None:
    """Say which ingredients of two banks' keys differ.

    Example: w2s-fast cache why 3fa9 77c0
    """
    from w2s_fast.store.listing import differences, find_key, ingredients_of

    a, b = (ingredients_of(find_key(k, cache=cache), cache=cache) for k in (first, second))
    out = Output(json=json)
    found = differences(a, b)
    if json:
        out.lines({"ingredient": path, "first": x, "second": y} for path, x, y in found)
        return
    out.grid("", ["ingredient", first, second], found)


@app.command("verify")
@asks(DataOptions, ExtractOptions, only=("root", "device"))
def verify(
    asked: dict[str, Any],
    key: Annotated[str | None, typer.Argument(help="Key or its first digits (default: every complete bank).")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare every file's sha256 with its commit.")] = False,
    recompute: Annotated[int, typer.Option(help="Encode so many rows of each bank again, and compare.")] = 0,
    data: Annotated[str | None, typer.Option(help="With --recompute: where the images are now, if elsewhere.")] = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read banks whole and check every chunk; damage is named on stderr with its file, rows and command that fixes it.

    With --recompute, rows whose cosine with what is encoded now is below 0.99 are a problem too.

    Example: w2s-fast cache verify --deep --recompute 8
    """
    from w2s_fast.core.errors import UsageError, W2SError
    from w2s_fast.store.bank import verify_bank
    from w2s_fast.store.listing import find_key, list_banks

    if recompute < 0 or (not recompute and (data or "root" in asked)):
        raise UsageError("--recompute takes a number of rows; --data and --root go with it")
    out = Output(json=json, quiet=quiet)
    keys = [find_key(key, cache=cache)] if key else [b.key for b in list_banks(cache) if b.complete or b.problem]
    damaged = 0
    for one in keys:
        record: dict[str, Any] = {"key": one, "bytes": None, "problem": None}
        try:
            record["bytes"] = verify_bank(one, deep=deep, cache=cache)
            out.say(f"{one[:12]}: {record['bytes']:,} bytes verified")
            if recompute:
                record["recomputed"] = _recomputed(
                    one, recompute, data, asked.get("root"), asked.get("device", "auto"), cache, out
                )
        except W2SError as error:
            damaged += 1
            record["problem"] = str(error)
            print(f"error: {error}", file=sys.stderr, flush=True)
        if json:
            out.lines([record])
    if damaged:
        raise typer.Exit(1)
    if not keys:
        out.say("the cache holds no complete bank; fill it with: w2s-fast extract")


def _recomputed(
    key: str, count: int, data: str | None, root: Path | None, device: str, cache: Path | None, out: Output
) -> dict[str, Any]:
    from w2s_fast.core.errors import CacheError
    from w2s_fast.extract.recompute import recompute
    from w2s_fast.store.bank import open_key

    found = recompute(open_key(key, cache=cache), count, data=data, root=root, device=device, cache=cache)
    logits = "" if found.logits_max_delta is None else f", of logits {found.logits_max_delta:.2g}"
    told = (
        f"{key[:12]}: {found.rows} rows encoded again: max |delta| of features {found.max_delta:.2g} "
        f"(their rms {found.scale:.2g}){logits}; cosine at least {found.min_cosine:.6f}, mean {found.mean_cosine:.6f}"
    )
    if not found.min_cosine >= SAME:
        raise CacheError(f"{told}; these are other features: remove the bank, and extract it again")
    out.say(told)
    return asdict(found)


@app.command("repair")
def repair(
    key: Key,
    failed: Annotated[bool, typer.Option("--failed", help="Take out parts with unreadable images too.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check every byte of a bank and take out the parts that are damaged; `extract` then makes those again.

    What is taken out is set aside inside the bank's folder, and removed by `cache gc` a day later.

    Example: w2s-fast cache repair 3fa9
    """
    from w2s_fast.store.layout import bank_dir
    from w2s_fast.store.listing import find_key
    from w2s_fast.store.reader import making_command
    from w2s_fast.store.repair import repair_bank

    out = Output(json=json, quiet=quiet)
    full = find_key(key, cache=cache)
    dropped = repair_bank(full, failed=failed, cache=cache)
    for one in dropped:
        rows = f"rows {one.rows[0]}-{one.rows[1] - 1}: " if one.rows else ""
        out.say(f"taken out: {rows}{one.why}")
        if json:
            out.lines([{"path": str(one.path), "rows": one.rows, "why": one.why}])
    if dropped:
        out.say(f"make them again with: {making_command(bank_dir(cache, full))}")
    else:
        out.say(f"{full[:12]}: nothing is damaged")


@app.command("gc")
def gc(
    older_than: Annotated[float, typer.Option(help="Hours for which nobody touched it.")] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Remove what nothing names: leftovers of stopped writers, what repairs took out, references to no bank.

    Example: w2s-fast cache gc --dry-run
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.store.garbage import collect_garbage

    if not older_than >= 0:
        raise UsageError(f"--older-than {older_than}: give hours, at least 0")
    out = Output(json=json, quiet=quiet)
    count, total = 0, 0
    for one in collect_garbage(older_than=older_than * 3600, dry_run=dry_run, cache=cache):
        count, total = count + 1, total + one.bytes
        out.say(f"{one.path}: {one.why} ({one.bytes:,} bytes)")
        if json:
            out.lines([{"path": str(one.path), "bytes": one.bytes, "why": one.why, "removed": not dry_run}])
    out.say(f"{count} {'would go' if dry_run else 'removed'}, {total:,} bytes")
