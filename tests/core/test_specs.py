"""Spec strings: round trips, grids, and what is refused."""

from __future__ import annotations

import itertools
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2s_fast.core.errors import SpecError
from w2s_fast.core.specs import Spec, checked, parse, split_list

names = st.builds(str.__add__, st.sampled_from(string.ascii_letters + "_"), st.text("abcXYZ019_.+-", max_size=8))
keys = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6).filter(
    lambda k: (
        k not in {"as", "if", "in", "is", "or", "and", "def", "del", "for", "not", "try", "from", "with", "else"}
        and k not in {"pass", "elif", "raise", "break", "async", "await", "class", "yield", "while", "lambda", "assert"}
        and k not in {"except", "global", "import", "return"}
    )
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
specs = st.builds(
    lambda name, args: Spec(name=name, args=args),
    names,
    st.dictionaries(keys, st.one_of(scalars, st.lists(scalars, min_size=1, max_size=3)), max_size=4),
)


@settings(deadline=None)
@given(specs)
def test_the_canonical_text_parses_back(spec: Spec) -> None:
    again = parse(str(spec))
    assert again == spec
    assert str(again) == str(spec)
    assert hash(again) == hash(spec)


@settings(deadline=None)
@given(st.lists(specs, min_size=1, max_size=4))
def test_a_list_splits_where_it_was_joined(several: list[Spec]) -> None:
    assert [parse(part) for part in split_list(", ".join(str(s) for s in several))] == several


@settings(deadline=None)
@given(specs)
def test_the_grid_has_every_point_once(spec: Spec) -> None:
    points = spec.expand()
    axes = [v if isinstance(v, list) else [v] for v in spec.args.values()]
    assert [list(p.args.values()) for p in points] == [list(point) for point in itertools.product(*axes)]
    assert all(p.name == spec.name and list(p.args) == list(spec.args) for p in points)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_an_error_of_ours(text: str) -> None:
    try:
        spec = parse(text)
    except SpecError:
        return
    assert parse(str(spec)) == spec


@settings(deadline=None)
@given(st.text("kd(a=1,[]{}'\"\\.-+: )eN", max_size=30))
def test_text_that_looks_like_a_spec_is_one_or_an_error_of_ours(text: str) -> None:
    try:
        spec = parse("kd(" + text + ")")
    except SpecError:
        return
    assert parse(str(spec)) == spec


def test_what_is_written_by_hand() -> None:
    assert parse(" kd ( tau_s = .05, tau_w=1 ) ") == Spec(name="kd", args={"tau_w": 1, "tau_s": 0.05})
    assert str(parse("kd(tau_w=1, harden='balanced', tau_s=.05)")) == "kd(harden='balanced', tau_s=0.05, tau_w=1)"
    assert parse("kd()") == parse("kd")
    assert parse("a(x=-1)").args == {"x": -1}
    assert [str(p) for p in parse("kd(tau_s=[.05, .1], tau_w=[1, 2])").expand()] == [
        "kd(tau_s=0.05, tau_w=1)",
        "kd(tau_s=0.05, tau_w=2)",
        "kd(tau_s=0.1, tau_w=1)",
        "kd(tau_s=0.1, tau_w=2)",
    ]
    assert split_list("kd, gce(q=.5), f(a='x, y', b=[1, 2]),, ce,") == [
        "kd",
        "gce(q=.5)",
        "f(a='x, y', b=[1, 2])",
        "ce",
    ]
    spec = parse("kd")
    assert parse(spec) is spec


def test_equal_specs_are_equal_in_text() -> None:
    one, real, truth = (Spec(name="kd", args={"t": v}) for v in (1, 1.0, True))
    assert len({one, real, truth}) == 3
    assert Spec(name="kd", args={"a": 1, "b": 2}) == Spec(name="kd", args={"b": 2, "a": 1})
    assert one != "kd(t=1)"


def test_given_arguments_win() -> None:
    assert parse("kd(a=1, b=2)").with_args({"b": 3, "c": 4}).args == {"a": 1, "b": 3, "c": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a spec"),
        ("1kd", "is not a spec"),
        ("kd(", "closing bracket"),
        ("kd(a=1", "closing bracket"),
        ("kd(a=1))", "is not a spec"),
        ("kd(1)", "by name"),
        ("kd(a=1)(b=2)", "by name"),
        ("kd(**{'a': 1})", "named once"),
        ("kd(a=1, a=2)", "named once|repeated"),
        ("kd(a=b)", "literal"),
        ("kd(a=__import__('os'))", "literal"),
        ("kd(a=[])", "literal"),
        ("kd(a=[[1]])", "literal"),
        ("kd(a={'x': 1})", "literal"),
        ("kd(a={[]: 1})", "literal"),
        ("kd(a={[1]})", "literal"),
        ("kd(a=1j)", "literal"),
        ("kd(a=b'x')", "literal"),
        ("kd(a=1e999)", "not finite"),
        ("kd(a=[1, -1e999])", "not finite"),
        ("kd(a='\0')", "is not a spec"),
        ("kd(a=" + "9" * 5000 + ")", "is not a spec"),
        ("kd(a=" + "[" * 500 + "]" * 500 + ")", "is not a spec|literal"),
        ("kd(a=" + "-" * 5000 + "1)", "is not a spec|literal"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse(text)


def test_an_unknown_parameter_names_the_nearest() -> None:
    assert checked(parse("kd(tau_w=1)"), {"tau_w": 1, "tau_s": 1}, what="loss") == {"tau_w": 1}
    with pytest.raises(SpecError, match=r"loss 'kd' has no parameter 'tauw'; did you mean 'tau_w'"):
        checked(parse("kd(tauw=1)"), {"tau_w": 1, "alpha": 1}, what="loss")
