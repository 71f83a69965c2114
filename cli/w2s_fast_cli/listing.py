"""How a family of named things is listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from w2s_fast_cli.output import Output


def show(title: str, records: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    """Records with equal keys, as a table or as one JSON document; mappings are written `key=value`."""
    out = Output(json=json)
    if json:
        out.document([dict(r) for r in records])
        return
    columns = list(dict.fromkeys(key for record in records for key in record))
    out.grid(title, columns, ([_cell(record.get(c)) for c in columns] for record in records))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v!r}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value)
    return "" if value is None else str(value)


def show_one(name: str, record: Mapping[str, Any], *, json: bool) -> None:
    """One record in full: a line per key, and one per parameter with its default and what it means."""
    out = Output(json=json)
    if json:
        out.document(dict(record))
        return
    meaning: Mapping[str, str] = record.get("meaning", {})
    print(f"{name}: {record['about']}" if "about" in record else name)
    for parameter, default in record.get("parameters", {}).items():
        print(f"  {parameter}={default!r}: {meaning.get(parameter, '')}".rstrip(": "))
    for key, value in list(record.items())[1:]:
        if key not in ("about", "parameters", "meaning"):
            print(f"{key}: {_cell(value)}")
