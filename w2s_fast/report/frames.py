"""A table, or result rows, as a data frame (pandas, polars) or a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import UsageError
from w2s_fast.core.rows import clean
from w2s_fast.results.summary import Table

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


def to_pandas(source: Table | Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """A data frame with a line per line of a table (`Table.records`) or per result row; nested values are JSON."""
    try:
        import pandas
    except ImportError:
        raise UsageError("a pandas frame needs pandas: pip install pandas") from None
    return pandas.DataFrame(_records(source))


def to_polars(source: Table | Iterable[Mapping[str, Any]]) -> polars.DataFrame:
    """The same as a polars data frame."""
    try:
        import polars
    except ImportError:
        raise UsageError("a polars frame needs polars: pip install polars") from None
    return polars.DataFrame(_records(source), infer_schema_length=None)


def to_parquet(source: Table | Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write the same as a Parquet file, whole or not at all; missing numbers are null."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'w2s_fast[report]'") from None
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        pyarrow.parquet.write_table(_arrow(source), part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _arrow(source: Table | Iterable[Mapping[str, Any]]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.Table.from_pylist(_records(source))


def _records(source: Table | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Flat records that share their keys, whole numbers of a real column as reals."""
    given = source.records() if isinstance(source, Table) else [dict(row) for row in source]
    flat = [{k: _flat(v) for k, v in clean(record).items()} for record in given]
    names = dict.fromkeys(name for record in flat for name in record)
    real = {n for n in names if any(isinstance(r.get(n), float) for r in flat)}
    return [
        {n: float(r[n]) if n in real and isinstance(r.get(n), int | float) else r.get(n) for n in names} for r in flat
    ]


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict | list) else value
