"""A digest follows what code does, and neither its place nor its comments."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from w2s_fast.core.code_digest import code_digest
from w2s_fast.losses import make

BASE = """
POWER = 2
TABLE = [1, 2]
def helper(p, by=1.0):
    return p ** POWER * by
class Part:
    scale = 1.0
    def __call__(self, x):
        return self.scale * x
def mine(z, weak, batch, a=1, *, b=2):
    '''A loss.'''
    inner = lambda q: q + 1
    return inner(helper(z)) + Part()(z) + TABLE[0] * a * b
"""
SAME = ["\n\n# a comment\n" + BASE, BASE.replace("A loss.", "Another text."), BASE + "\nunused = 3\n"]
OTHER = {
    "a constant": ("POWER = 2", "POWER = 3"),
    "a list": ("TABLE = [1, 2]", "TABLE = [1, 3]"),
    "a helper": ("* by", "+ by"),
    "a helper's default": ("by=1.0", "by=2.0"),
    "a class's field": ("scale = 1.0", "scale = 2.0"),
    "a method": ("self.scale * x", "self.scale + x"),
    "an inner function": ("q + 1", "q + 2"),
    "a default": ("a=1", "a=2"),
    "a keyword's default": ("b=2", "b=3"),
    "the code": ("TABLE[0]", "TABLE[1]"),
}


def loaded(text: str) -> Any:
    space: dict[str, Any] = {"__name__": "theirs"}
    exec(compile(text, "theirs.py", "exec"), space)
    return space["mine"]


@pytest.mark.parametrize("text", SAME)
def test_what_does_the_same_has_one_digest(text: str) -> None:
    assert code_digest(loaded(text)) == code_digest(loaded(BASE))


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_an_edit_is_another(change: tuple[str, str]) -> None:
    before, after = change
    assert before in BASE and code_digest(loaded(BASE.replace(before, after))) != code_digest(loaded(BASE))


def closure(value: Any) -> Callable[[Any], Any]:
    return lambda z: z * value


@dataclass(frozen=True)
class Weighted:
    power: float = 1.0
    table: Any = None


class Net(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((3,), value))


PAIRS: list[tuple[Any, Any]] = [
    (closure(1.0), closure(2.0)),
    (closure(np.zeros(2000)), closure(np.eye(1, 2000)[0])),
    (closure(torch.zeros(2000)), closure(torch.ones(2000))),
    (closure(closure(1)), closure(closure(2))),
    (functools.partial(closure, 1), functools.partial(closure, 2)),
    (Weighted(1.0), Weighted(2.0)),
    (Weighted(1.0, np.zeros(3)), Weighted(1.0, np.ones(3))),
    (Net(1.0), Net(2.0)),
    (make("kd"), make("kd(tau_w=2)")),
    (make("kd"), make("ce")),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_closures_and_objects(pair: tuple[Any, Any]) -> None:
    assert code_digest(pair[0]) == code_digest(pair[0]) != code_digest(pair[1])


def test_a_circle_ends() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert code_digest(closure(value)) == code_digest(closure(value))


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Also from a compiled file, whose constants are shared otherwise."""
    (tmp_path / "theirs.py").write_text(BASE, encoding="utf-8")
    code = "from w2s_fast.core.code_digest import code_digest; import theirs; print(code_digest(theirs.mine))"
    run = functools.partial(subprocess.run, [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    found = {run(env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])}).stdout.strip() for _ in range(2)}
    assert found == {code_digest(loaded(BASE))}
