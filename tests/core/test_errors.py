"""The error tree, its exit statuses, and the did-you-mean clause."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core import errors
from w2s_fast.core.errors import SpecError, UsageError, W2SError, nearest


def test_everything_is_one_tree_with_exit_status_1_or_2() -> None:
    tree = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert all(issubclass(c, W2SError) for c in tree)
    assert {c.__name__ for c in tree if c.exit_status == 2} == {c.__name__ for c in tree if issubclass(c, UsageError)}
    assert all(c.exit_status in (1, 2) and c.__doc__ for c in tree)
    assert issubclass(SpecError, UsageError)


@pytest.mark.parametrize(
    ("name", "options", "clause"),
    [
        ("kdd", ["kd", "ce", "cpl"], "; did you mean 'kd'?"),
        ("zzz", ["kd", "ce"], "; known are: ce, kd"),
        ("zzz", [], ""),
        (
            "zzz",
            [f"m{n:02d}" for n in range(20)],
            "; known are: " + ", ".join(f"m{n:02d}" for n in range(12)) + ", ...",
        ),
    ],
)
def test_the_clause(name: str, options: list[str], clause: str) -> None:
    assert nearest(name, options) == clause


@settings(deadline=None)
@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8))
def test_a_known_name_is_suggested_first(name: str, options: list[str]) -> None:
    assert nearest(name, options).startswith("; ")
    assert nearest(options[0], options).startswith(f"; did you mean {options[0]!r}")
