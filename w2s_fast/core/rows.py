"""Result rows: one JSON line per run and selection, appended with a single write, read back whole or reported."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from w2s_fast.core.errors import DataError, UsageError

SCHEMA = 1


class Row(TypedDict, total=False):
    """A result. Accuracies and PGR are fractions; null means not applicable, never NaN (methods/README.md)."""

    schema: int
    run_id: str
    question: str
    asked: dict[str, Any]
    role: str
    measured_by: dict[str, str | None]
    status: str
    data: str
    domain: str
    weak: str
    weak_seed: int | None
    strong: str
    method: str
    head: str
    loss: str
    loss_resolved: str
    init: str
    init_norm: float | None
    feat_scale: float | None
    template: str | None
    supervision: str
    reads_truth: bool
    verified: bool
    transductive: bool
    stages: list[dict[str, Any]] | None
    seed: int
    split_seed: int
    selection: str
    selected_epoch: int | None
    agree_val: float | None
    acc_val: float | None
    rise_val: float | None
    acc_weak: float | None
    acc_zero_shot: float | None
    acc_fusion: float | None
    acc_w2s: float | None
    acc_w2s_pool: float | None
    acc_ceiling: float | None
    acc_ceiling_best: float | None
    pgr: float | None
    pgr_best: float | None
    pgr_zs: float | None
    pgr_flag: str | None
    agreement: float | None
    agree_right: float | None
    agree_wrong: float | None
    n_train: int
    n_test: int
    optimizer: str
    schedule: str | None
    lr: float | None
    warmup: float | None
    weight_decay: float | None
    epochs: int
    batch_size: int | None
    order: str | None
    tau_s: float | None
    tau_w: float | None
    precision: str
    device: str
    seconds: float
    seconds_load: float
    seconds_compile: float
    seconds_fit: float
    seconds_evaluate: float
    stack: int
    split: str
    split_hash: str
    truth_digest: str
    feature_key: str | None
    weak_key: str | None
    text_key: str | None
    preds: str | None
    code: str
    note: str | None
    experiment: str


MADE_BY_TRUTH: dict[str, bool] = {
    "schema": False, "run_id": False, "question": False, "asked": False, "role": False, "measured_by": True,
    "status": False, "data": False, "domain": False, "weak": False, "weak_seed": False, "strong": False,
    "method": False, "head": False, "loss": False, "loss_resolved": False, "init": False, "init_norm": False,
    "feat_scale": False, "template": False, "supervision": False, "reads_truth": False, "verified": False,
    "transductive": False, "stages": False, "seed": False, "split_seed": False, "selection": False,
    "selected_epoch": False, "agree_val": False, "acc_val": True, "rise_val": True, "acc_weak": True,
    "acc_zero_shot": True,
    "acc_fusion": True, "acc_w2s": True, "acc_w2s_pool": True, "acc_ceiling": True, "acc_ceiling_best": True,
    "pgr": True, "pgr_best": True, "pgr_zs": True, "pgr_flag": True, "agreement": False, "agree_right": True,
    "agree_wrong": True, "n_train": False, "n_test": False, "optimizer": False, "schedule": False, "lr": False,
    "warmup": False, "weight_decay": False, "epochs": False, "batch_size": False, "order": False, "tau_s": False,
    "tau_w": False, "precision": False, "device": False, "seconds": False, "seconds_load": False,
    "seconds_compile": False, "seconds_fit": False, "seconds_evaluate": False, "stack": False, "split": False,
    "split_hash": False, "truth_digest": False, "feature_key": False, "weak_key": False, "text_key": False,
    "preds": False, "code": False, "note": False, "experiment": False,
}  # fmt: skip
"""Per key of a row, whether ground truth of the pool made its value (ids and digests over labels tell nothing)."""
STAGE_MADE_BY_TRUTH: dict[str, bool] = {
    "stage": False, "level": False, "member": False, "encoder": False, "teachers": False, "weights": False,
    "learned": False, "link": False, "n_hard": False, "confidence_from": False, "overlap_from": False,
    "n_kept": False, "keep_rate": False, "epochs": False, "diagonal": False, "weight": True,
    "acc_assign": True, "acc_discarded": True, "acc_labels": True, "acc_member": True, "acc_mixture": True,
    "acc_refined": True, "acc_relabelled": True, "acc_student": True, "acc_teacher": True, "acc_teachers": True,
    "acc_test": True, "acc_train": True, "acc_vote": True, "acc_weak": True, "acc_weighted_d_train": True,
    "precision_kept": True, "recall_kept": True, "recall_weak_labels": True,
}  # fmt: skip
"""The same for the records of `stages`."""
TRUTH_SELECTIONS = ("oracle", "test_best")
"""Selections that ground truth makes: of their rows nothing may be seen where it is hidden."""


def without_truth(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as they may be seen where ground truth is hidden: keys that are declared free of it, and no unknown one.

    Rows of ceilings, of students that were shown ground truth, and of selections that it makes are left out whole.
    """
    return [
        {
            key: [_free(stage, STAGE_MADE_BY_TRUTH) for stage in value] if key == "stages" and value else value
            for key, value in _free(row, MADE_BY_TRUTH).items()
        }
        for row in rows
        if not reads_truth(row) and row.get("selection") not in TRUTH_SELECTIONS
    ]


def reads_truth(row: Row) -> bool:
    """Whether the fit of a row was shown ground truth."""
    return bool(row.get("reads_truth", row.get("supervision") == "gt"))


def _free(record: Mapping[str, Any], made_by_truth: Mapping[str, bool]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if made_by_truth.get(key) is False}


def clean(value: Any) -> Any:
    """A JSON-ready copy in which NaN and infinities are null."""
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return clean(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dump(row: Row | dict[str, Any]) -> str:
    """One line of JSON, keys in the order of the row, no NaN."""
    return json.dumps(clean(dict(row)), ensure_ascii=False, allow_nan=False)


def append(path: str | Path, rows: Iterable[Row]) -> None:
    """Append rows to a JSONL file, one `write` per line, so that concurrent writers never interleave within a line.

    A torn last line is closed off first, so that it costs itself alone. Errors: `DataError` where the file cannot be
    made or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            for row in rows:
                # a path in a row may hold bytes that are not UTF-8; json.loads reads them back
                line = ("\n" * torn + dump(row) + "\n").encode(errors="surrogatepass")
                torn = False
                if os.write(fd, line) != len(line):
                    raise OSError("the disk took only part of a row")
        finally:
            os.close(fd)
    except OSError as error:
        raise DataError(
            f"cannot write results to {target} ({error.strerror or error}); free space or change --out"
        ) from error


def check_results(path: str | Path) -> None:
    """Refuse to append to a file that is there and holds no results: `UsageError`. A torn line is no reason."""
    target = Path(path)
    if not target.is_file():
        return
    try:
        with target.open("rb") as file:
            start = file.read(1 << 20)
    except OSError as error:
        raise DataError(f"cannot read {target} ({error.strerror or error}); change --out") from error
    first = next((line for line in start.split(b"\n") if line.strip()), b"")
    try:
        row = json.loads(first) if first else {"schema": SCHEMA}
    except (ValueError, RecursionError):
        row = None
    if (isinstance(row, dict) and "schema" in row) or (row is None and first.startswith(b'{"schema": ')):
        return
    raise UsageError(f"{target} is there and holds no results, so nothing is appended to it; give another --out FILE")


def read(path: str | Path, *, torn: list[str] | None = None) -> Iterator[Row]:
    """Rows of a JSONL file; a torn last line is skipped and told to `torn`, a bad line elsewhere is a `DataError`.

    Of a folder, those of all its `*.jsonl`, by name.
    """
    if Path(path).is_dir():
        inside = sorted(Path(path).glob("*.jsonl"))
        if not inside:
            raise DataError(f"there is no results file (*.jsonl) in {path}; make some with: w2s-fast train --units 0/1")
        for file in inside:
            yield from read(file, torn=torn)
        return
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        raise DataError(f"no results file {path}; make one with: w2s-fast train --out {path}") from None
    except OSError as error:
        raise DataError(f"cannot read results from {path} ({error.strerror}); give a JSONL file") from error
    last = max((i for i, line in enumerate(lines) if line.strip()), default=-1)
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            if number != last:
                raise DataError(f"{path}, line {number + 1}: not a JSON row; remove or repair that line")
            if torn is not None:
                torn.append(f"{path}, line {number + 1}: a torn last line was skipped")
            continue
        schema = row.get("schema", SCHEMA)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise DataError(f"{path}, line {number + 1}: schema {schema!r} is newer than {SCHEMA}; update w2s-fast")
        yield cast(Row, row)
