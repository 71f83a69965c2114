"""Every family: names, finding, making, describing; what each parameter means is said, one a line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from w2s_fast import heads, losses, supervisions
from w2s_fast.core import schedule
from w2s_fast.core.errors import SpecError, W2SError
from w2s_fast.core.family import Family, meanings
from w2s_fast.core.fields import parameters
from w2s_fast.methods import resolve
from w2s_fast.train import solver

CLASSES: dict[str, Family[Any]] = {
    "losses": losses.FAMILY,
    "heads": heads.FAMILY,
    "supervisions": supervisions.FAMILY,
    "solvers": solver.FAMILY,
    "schedules": schedule.FAMILY,
}
DOCUMENTED = [(kind, name) for kind in ("losses", "heads", "supervisions") for name in CLASSES[kind].names()]


@pytest.mark.parametrize(("kind", "name"), DOCUMENTED)
def test_every_parameter_says_what_it_means(kind: str, name: str) -> None:
    cls = CLASSES[kind].find(name)
    assert list(meanings(cls)) == list(parameters(cls)), f"{cls.__name__}: add lines `name: meaning.` to its docstring"


@pytest.mark.parametrize("family", [*CLASSES.values(), resolve.FAMILY])
def test_unknown_names_are_told_with_the_nearest(family: Family[Any]) -> None:
    with pytest.raises(W2SError, match=f"no {family.what} '{family.names()[0]}x'.*did you mean"):
        family.find(family.names()[0] + "x")
    assert len(set(family.names())) == len(family.names())


@pytest.mark.parametrize("family", list(CLASSES.values()))
def test_making_is_strict_and_canonical_leaves_defaults_out(family: Family[Any]) -> None:
    name = family.names()[0]
    made = family.make(name)
    assert (type(made) is family.find(name) and family.make(made, kind=type(made)) == made) or not hasattr(
        made, "__eq__"
    )
    with pytest.raises(SpecError, match="has no parameter 'nothing'"):
        family.make(f"{name}(nothing=1)")


def test_meanings_are_of_the_nearest_class_and_only_of_parameters() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Base:
        """First line.

        a: of the base.
        b: of the base, on
        two lines.

        c: of nothing that is a field.
        """

        a: float = 1.0
        b: float = 2.0

    @dataclass(frozen=True, kw_only=True)
    class Own(Base):
        """Another.

        a: of its own.
        """

    assert meanings(Own) == {"a": "of its own.", "b": "of the base, on two lines."}


@pytest.mark.parametrize(
    ("command", "name", "line"),
    [
        ("losses", "kd", "  tau_w=1.0: temperature of the weak logits."),
        ("heads", "prototype", "  init_norm=10.0: length of the rows at the start; 0 keeps each row's own."),
        ("supervisions", "csl", "  levels='1-2-4-8': teachers per level, from 1 up."),
        ("methods", "openai+lp", "loss: kd"),
    ],
)
def test_one_of_a_family_is_shown_with_a_line_a_parameter(command: str, name: str, line: str) -> None:
    program = [sys.executable, "-m", "w2s_fast_cli", command, name]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0 and line in done.stdout.splitlines(), done.stdout + done.stderr


def test_an_unknown_one_is_told_and_json_is_one_record() -> None:
    program = [sys.executable, "-m", "w2s_fast_cli", "heads"]
    done = subprocess.run([*program, "prototpye"], capture_output=True, text=True)
    assert done.returncode == 2 and "none of the heads; did you mean 'prototype'" in done.stderr
    done = subprocess.run([*program, "linear", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["meaning"]["tau0"].startswith("temperature of the first cosines")
