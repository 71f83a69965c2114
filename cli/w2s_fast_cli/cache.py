"""w2s-fast cache: look at banks and check them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help="Look at the cache and check its bytes.")
Key = Annotated[str, typer.Argument(help="Key of a bank, or its first digits (see: w2s-fast cache ls).")]


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
    from w2s_fast.store.bank import open_key
    from w2s_fast.store.listing import find_key

    bank = open_key(find_key(key, cache=cache), cache=cache)
    producers = [{"rows": [a, b], **producer} for a, b, producer in bank.producers]
    mixed = len({str(p) for _, _, p in bank.producers}) > 1
    Output(json=json).document(
        {
            "key": bank.key,
            "rows": bank.rows,
            "dim": bank.dim,
            "digest": bank.digest,
            "mixed_parts": mixed,
            "parts": producers,
            "failures": [dict(f) for f in bank.failures],
            "ingredients": bank.ingredients,
        }
    )


@app.command("why")
def why(first: Key, second: Key, cache: o.Cache = None, json: o.Json = False) -> None:
    """Say which ingredients of two banks' keys differ.

    Example: w2s-fast cache why 3fa9 77c0
    """
    from w2s_fast.store.bank import open_key
    from w2s_fast.store.listing import differences, find_key

    a, b = (open_key(find_key(k, cache=cache), cache=cache) for k in (first, second))
    out = Output(json=json)
    found = differences(a, b)
    if json:
        out.lines({"ingredient": path, "first": x, "second": y} for path, x, y in found)
        return
    out.grid("", ["ingredient", first, second], found)


@app.command("verify")
def verify(
    key: Annotated[str | None, typer.Argument(help="Key or its first digits (default: every complete bank).")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare every file's sha256 with its commit.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read banks whole and check every chunk; damage is named on stderr with its file, rows and mending command.

    Example: w2s-fast cache verify --deep
    """
    from w2s_fast.core.errors import CacheError
    from w2s_fast.store.bank import verify_bank
    from w2s_fast.store.listing import find_key, list_banks

    out = Output(json=json, quiet=quiet)
    keys = [find_key(key, cache=cache)] if key else [b.key for b in list_banks(cache) if b.complete or b.problem]
    damaged = 0
    for one in keys:
        read, problem = None, None
        try:
            read = verify_bank(one, deep=deep, cache=cache)
            out.say(f"{one[:12]}: {read:,} bytes verified")
        except CacheError as error:
            damaged += 1
            problem = str(error)
            print(f"error: {problem}", file=sys.stderr, flush=True)
        if json:
            out.lines([{"key": one, "bytes": read, "problem": problem}])
    if damaged:
        raise typer.Exit(1)
    if not keys:
        out.say("the cache holds no complete bank; fill it with: w2s-fast extract")
