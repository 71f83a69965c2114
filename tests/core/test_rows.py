"""Result rows: what is written is read, torn and foreign lines are told, and writers do not interleave."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.errors import DataError
from w2s_fast.core.rows import MADE_BY_TRUTH, Row, append, clean, dump, read, without_truth

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_a_dumped_row_is_one_line_without_nan(row: dict[str, object]) -> None:
    line = dump(row)
    assert "\n" not in line
    assert json.loads(line, parse_constant=lambda _: pytest.fail("NaN in JSON")) == clean(row)


def test_numbers_of_numpy_become_plain() -> None:
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.array([1.0, math.nan]), "e": (1, 2)}
    assert clean(row) == {"a": 0.5, "b": 3, "c": True, "d": [1.0, None], "e": [1, 2]}
    assert clean({"x": math.inf, "y": np.float64("nan"), 3: -math.inf}) == {"x": None, "y": None, "3": None}


def test_rows_are_appended_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "rows.jsonl"
    first = Row(run_id="a", acc_w2s=0.5, domain="clipart")
    append(path, [first])
    append(path, [Row(run_id="b", acc_w2s=math.nan, data=b"caf\xe9".decode(errors="surrogateescape"))])
    got = list(read(path))
    assert got[0] == first
    assert got[1] == {"run_id": "b", "acc_w2s": None, "data": "caf\udce9"}


def test_a_torn_last_line_is_skipped_and_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [Row(run_id="a"), Row(run_id="b")])
    whole = path.read_bytes()
    for cut in range(len(whole) - 2, len(whole) - 10, -1):
        path.write_bytes(whole[:cut])
        torn: list[str] = []
        assert [row["run_id"] for row in read(path, torn=torn)] == ["a"]
        assert torn == [f"{path}, line 2: a torn last line was skipped"]


def test_a_torn_line_does_not_take_the_next_row_with_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [Row(run_id="a"), Row(run_id="b")])
    path.write_bytes(path.read_bytes()[:-5])
    append(path, [Row(run_id="c"), Row(run_id="d")])
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in (lines[0], lines[2], lines[3])] == [{"run_id": i} for i in "acd"]
    with pytest.raises(DataError, match="line 2: not a JSON row"):
        list(read(path))


def test_a_last_line_without_newline_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"run_id": "a"}\r\n\n{"run_id": "b"}')
    assert [row["run_id"] for row in read(path)] == ["a", "b"]
    append(path, [Row(run_id="c")])
    assert [row["run_id"] for row in read(path)] == ["a", "b", "c"]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"3", b"null", b"\xff", b"[" * 100_000])
def test_a_bad_line_elsewhere_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"run_id": "a"}\n' + line + b'\n{"run_id": "b"}\n')
    with pytest.raises(DataError, match="line 2: not a JSON row"):
        list(read(path))


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"schema": 1}\n{"schema": 2}\n')
    with pytest.raises(DataError, match="line 2: schema 2 is newer"):
        list(read(path))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="w2s-fast train --out"):
        list(read(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="there is no results file"):
        list(read(tmp_path))
    with pytest.raises(DataError, match="cannot write results"):
        append(tmp_path, [Row(run_id="a")])
    (tmp_path / "empty.jsonl").touch()
    assert list(read(tmp_path / "empty.jsonl")) == []


def test_a_full_disk_is_an_error_of_ours() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(DataError, match="free space"):
        append(full, [Row(run_id="a")])


def test_writers_do_not_interleave(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    note = "x" * 20_000

    def write(name: str) -> None:
        append(path, [Row(run_id=f"{name}{n}", note=note) for n in range(25)])

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(row["run_id"] for row in read(path)) == sorted(f"{name}{n}" for name in "abcd" for n in range(25))


def test_every_key_says_whether_ground_truth_made_it_and_unknown_ones_are_hidden() -> None:
    assert set(MADE_BY_TRUTH) == set(Row.__annotations__)
    row: dict[str, object] = dict.fromkeys(Row.__annotations__, 1) | {"reads_truth": False, "selection": "last"}
    row |= {"stages": [{"stage": "A", "acc_weak": 0.5, "f1": 0.5, "keep_rate": 1.0}]}
    row |= dict.fromkeys(("balanced_acc", "ece", "f1", "nll", "top5"), 0.5)
    [shown] = without_truth([row])  # type: ignore[list-item]
    assert set(shown) == {key for key, made in MADE_BY_TRUTH.items() if not made}
    assert shown["stages"] == [{"stage": "A", "keep_rate": 1.0}]
    for selection in ("oracle", "test_best"):
        assert without_truth([{**row, "selection": selection}]) == []  # type: ignore[list-item]
