"""w2s-fast data: what a data set holds and how it is split."""

from __future__ import annotations

from collections import Counter
from os import environ
from pathlib import Path
from typing import Annotated, Any

import typer

from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import READING, asks, data_options
from w2s_fast_cli.clean import clean
from w2s_fast_cli.data_catalogue import fetch, published, verify
from w2s_fast_cli.output import Output

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help="Look at data sets and their splits.")
app.command("clean")(clean)
app.command("fetch")(fetch)
app.command("verify")(verify)


def _manifest(data: str, asked: dict[str, Any], cache: Path | None) -> Any:
    from w2s_fast.core.paths import cache_root
    from w2s_fast.data import open_manifest

    return open_manifest(data, cache=cache_root(cache), **data_options(asked))


@app.command("ls")
def ls(json: o.Json = False) -> None:
    """List the sources of data, the embedded data sets and those of the catalogue.

    Example: w2s-fast data ls
    """
    from w2s_fast.data import catalogue, expand_data, sources

    out = Output(json=json)
    embedded = expand_data(("drawn:*",))
    known = sources()
    entries = [catalogue.entry(name) for name in catalogue.names()]
    if json:
        named = [{"data": e.name, "title": e.title, "parts": [p for p in e.parts if p]} for e in entries]
        out.document({"sources": list(known), "embedded": list(embedded), "catalogue": named})
        return
    out.grid("sources", ["source"], ([f"{name}:"] for name in known))
    out.grid("embedded", ["data"], ([name] for name in embedded))
    rows = ([e.name, e.title, sum(p.expected for p in e.parts.values()), _parts(e)] for e in entries)
    out.grid("catalogue (--root DIR)", ["data", "title", "images", "parts"], rows)


def _parts(entry: Any) -> str:
    return " ".join(p for p in entry.parts if p)


@app.command("info")
@asks(DataOptions, only=READING)
def info(
    asked: dict[str, Any],
    data: Annotated[str, typer.Argument(help="Data set, e.g. drawn:sketch or imagefolder:DIR.")],
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Count images and classes, and name the digests that banks and results carry.

    Of a data set of the catalogue without --root: what is published of it.

    Example: w2s-fast data info drawn:sketch
    """
    from w2s_fast.data import catalogued
    from w2s_fast.data.repeats import repeats

    if catalogued(data) and ":" not in data and asked.get("root") is None and "W2S_FAST_DATA" not in environ:
        published(data, Output(json=json))
        return
    manifest = _manifest(data, asked, cache)
    out = Output(json=json)
    counts = Counter(manifest.labels.tolist())
    record = {
        "data": data,
        "images": len(manifest.ids),
        "classes": len(manifest.classes),
        "fewest_per_class": min(counts.values()),
        "most_per_class": max(counts.values()),
        **repeats(manifest).counts(),
        "left_out": list(manifest.notes),
        "splits": dict(Counter(s or "none" for s in manifest.splits)),
        "defaults": manifest.defaults,
        "rows_digest": manifest.rows_digest,
        "truth_digest": manifest.truth_digest,
        "class_names": list(manifest.classes),
    }
    if json:
        out.document(record)
        return
    out.grid("", ["", ""], ([key, _short(value)] for key, value in record.items()))


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value[:12]) + (f", ... ({len(value)})" if len(value) > 12 else "")
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


@app.command("split")
@asks(DataOptions, only=READING)
def split(
    asked: dict[str, Any],
    data: Annotated[str, typer.Argument(help="Data set.")],
    seed: Annotated[int, typer.Option(help="Run seed.")] = 0,
    mode: Annotated[str, typer.Option(help="rotate, fixed or paper.")] = "rotate",
    export: Annotated[Path | None, typer.Option(help="Write the ids of each part to this JSON file.")] = None,
    given: Annotated[
        Path | None, typer.Option("--import", help="Read such a file, and check it against this copy of the data.")
    ] = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Show which rows a seed trains, validates and tests on; they never depend on the order of files.

    Example: w2s-fast data split drawn:sketch --seed 3 --export split.json
    """
    from w2s_fast.data import splits

    manifest = _manifest(data, asked, cache)
    found = splits.split(manifest, mode=mode, seed=seed) if given is None else splits.import_split(given, manifest)
    out = Output(json=json)
    record = {
        "data": data,
        "mode": found.mode,
        "seed": found.seed,
        "D_train": len(found.weak_train),
        "hold_train": len(found.train),
        "hold_val": len(found.val),
        "test": len(found.test),
        "official": found.official,
        "digest": found.digest,
    }
    if export is not None:
        with o.writing(export, "--export"):
            splits.export_split(found, manifest, export)
    if json:
        out.document(record)
        return
    out.grid("", ["", ""], ([key, value] for key, value in record.items()))
