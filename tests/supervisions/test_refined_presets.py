"""Presets that refine weak labels, and those of Burns et al.: each fits under its name, and says who teaches."""

from __future__ import annotations

import pytest
from supervision_worlds import student_world

from w2s_fast import fit, supervisions
from w2s_fast.methods.method import WEAK
from w2s_fast.methods.presets import METHODS
from w2s_fast.methods.resolve import describe, find, resolve

ROOMS = (
    "graph",
    "two_stage",
    "noisy_channel",
    "fusion",
    "self_training",
    "bootstrap",
    "salience",
    "adapted",
    "simulation",
)
MINE = [
    "openai+lp",
    "openai+lp_periodic",
    *(n for n, m in METHODS.items() if supervisions.find(m.supervision.name).__module__.rpartition(".")[2] in ROOMS),
]


@pytest.mark.parametrize("name", MINE)
def test_each_fits_under_its_name(name: str) -> None:
    method = find(name)
    [listed] = [one for one in describe() if one["method"] == name]
    assert method.name == name and listed["source"] and "|" not in listed["source"]
    results = fit(student_world(n=200), method=name, seeds=1, references=False, epochs=8, batch_size=16)
    [row] = [r for r in results.rows if r["selection"] == "last"]
    assert (row["status"], row["method"], row["supervision"]) == ("ok", name, str(method.supervision))
    assert row["acc_w2s"] > 0.4, "chance is a quarter"
    assert row["reads_truth"] == name.startswith("gt")


def test_unverified_supervisions_make_unverified_methods() -> None:
    listed = {record["method"]: record["verified"] for record in describe()}
    for name in MINE:
        assert listed[name] == supervisions.find(find(name).supervision.name).verified
    assert not listed["retrain_confident_like+lp"] and listed["self_train+lp"]


def test_openais_settings_are_theirs() -> None:
    method = find("openai+lp")
    assert method.supervision == WEAK and str(method.head) == "linear(unit_x=False, x_scale=1.0)"
    theirs = {"lr": 1e-3, "epochs": 10, "batch_size": 100}
    assert method.settings == {**theirs, "schedule": "cosine(warmup=0.0)"}
    assert find("openai+lp_periodic").settings == {**theirs, "schedule": "cosine(period=10, warmup=0.0)"}
    assert str(resolve(method="openai+lp")[0].loss) == "kd"
