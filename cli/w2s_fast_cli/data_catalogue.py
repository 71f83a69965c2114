"""w2s-fast data fetch and verify: data sets of the catalogue, from their publishers to a folder that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import DONE_IN_PART, Output

Name = Annotated[str, typer.Argument(help="Data set of the catalogue, or a part of one: domainnet/clipart.")]
Folder = Annotated[Path, typer.Option(help="Folder that holds the data set.")]
SHOWN = 50
"""Faults that are shown on a terminal; --json gives them all."""


def published(data: str, out: Output) -> None:
    """Show what the catalogue knows of a data set."""
    entry, part = _entry(data)
    parts = {p: v for p, v in entry.parts.items() if not part or p == part}
    files = entry.of(part)
    known = sum(f.checksum is not None for f in files)
    record: dict[str, Any] = {
        "data": data,
        "title": entry.title,
        "licence": entry.licence,
        "citation": entry.citation,
        "homepage": entry.homepage,
        "images": sum(p.expected for p in parts.values()),
        "classes": len(entry.classes) or next(iter(parts.values())).classes,
        "checksums": f"{known} of {len(files)}",
        "slips": list(entry.slips),
    }
    if out.json:
        counts = {p: {"train": v.train, "test": v.test, "images": v.expected} for p, v in parts.items()}
        named = [
            {"name": f.name, "url": f.url, "bytes": f.bytes, "checksum": f.checksum, "published": f.published}
            for f in files
        ]
        out.document({**record, "parts": counts, "files": named, "class_names": list(entry.classes)})
        return
    told = ([key, "; ".join(value) if isinstance(value, list) else value] for key, value in record.items())
    out.grid("", ["", ""], told)
    rows = ([p or "(all)", v.train, v.test, v.expected, v.known_extras or None] for p, v in parts.items())
    out.grid("parts", ["part", "train", "test", "images", "known extras"], rows)
    names = ([f.name, f.bytes, f.checksum or "unverified", f.by_hand or f.url] for f in files)
    out.grid("files", ["file", "bytes", "checksum", "from"], names)


def fetch(
    data: Name,
    root: Folder,
    keep: Annotated[bool, typer.Option("--keep", help="Keep archives once they are unpacked.")] = False,
    mirror: Annotated[str | None, typer.Option(help="Address of a folder to fetch the same files from.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Download, check and unpack a data set; a download that was cut goes on where it ended.

    Example: w2s-fast data fetch domainnet/clipart --root ~/data/domainnet
    """
    from w2s_fast.data import fetch as fetching

    entry, part = _entry(data)
    out = Output(json=json, quiet=quiet)
    folder = root.expanduser()
    with out.stoppable("what was fetched is kept; the same command goes on"), out.progress("bytes") as progress:
        left = fetching.fetch(entry, part, folder, keep=keep, mirror=mirror, on_progress=progress, say=out.say)
    if json:
        out.document({"data": data, "root": str(folder), "by_hand": left})
    for line in left:
        out.say(f"to be placed by hand: {line}")
    if left:
        raise typer.Exit(DONE_IN_PART)
    out.say(f"{data} is in {folder}; use it as --data {data} --root {folder}")


def verify(
    data: Name,
    root: Folder,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes alone, not the images' bytes.")] = False,
    json: o.Json = False,
) -> None:
    """Hold a data set on disk against what is published: lists byte for byte, images missing, extra, cut or swapped.

    Example: w2s-fast data verify domainnet --root ~/data/domainnet
    """
    from w2s_fast.data import verify as verifying

    entry, part = _entry(data)
    out = Output(json=json)
    found = verifying.verify(entry, part, root.expanduser(), deep=not quick)
    faults = [{"kind": f.kind, "path": f.path, "why": f.why} for f in found.faults]
    summary = {
        "data": data,
        "checksums": found.checked,
        "unverified": found.unverified,
        "images": found.images,
        "known_extras": found.known_extras,
        "faults": len(faults),
    }
    if json:
        out.document({**summary, "faults": faults})
    else:
        out.grid("", ["", ""], summary.items())
        if faults:
            out.grid("faults", ["kind", "path", "why"], ([f["kind"], f["path"], f["why"]] for f in faults[:SHOWN]))
        if len(faults) > SHOWN:
            out.say(f"... and {len(faults) - SHOWN} more; --json gives them all")
    if faults:
        raise typer.Exit(1)


def _entry(data: str) -> Any:
    from w2s_fast.core.errors import UsageError, nearest
    from w2s_fast.data import catalogue

    found = catalogue.split_name(data)
    if found is None:
        raise UsageError(f"the catalogue has no data set {data!r}{nearest(data.partition('/')[0], catalogue.names())}")
    return found
