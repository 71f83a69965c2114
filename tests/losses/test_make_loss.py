"""Making losses from specs, objects and functions; supervision tables."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from w2s_fast import losses
from w2s_fast.core.errors import SpecError, TrainError, UsageError
from w2s_fast.losses import Batch, Loss, Supervision, ground_truth, make
from w2s_fast.losses.soft import Kd


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("kdd", ["no loss 'kdd'", "did you mean 'kd'"]),
        ("aux_con", ["aux_conf"]),
        ("kd(tau=1)", ["'kd'", "no parameter 'tau'", "tau_w", "tau_s"]),
        ("kd(tau_w=0)", ["tau_w=0.0", "(0, inf)"]),
        ("kd(tau_s=-.1)", ["tau_s=-0.1", "(0, inf)"]),
        ("aux_conf(alpha=1.5)", ["'aux_conf'", "alpha=1.5", "[0, 1]"]),
        ("aux_conf(warmup=-1)", ["warmup=-1.0"]),
        ("aux_conf(harden='soft')", ["'soft'", "'balanced'", "'argmax'"]),
        ("aux_conf_argmax(harden='balanced')", ["'balanced'", "'argmax'"]),
        ("aux_conf(buffer=1.5)", ["buffer=1.5", "whole number"]),
        ("aux_conf(buffer=-1)", ["buffer=-1", "[0, inf)"]),
        ("gce(q=0)", ["q=0.0", "(0, 1]"]),
        ("gce(q='a')", ["q='a'", "number"]),
        ("gce(q=True)", ["q=True", "number"]),
        ("adapt_conf(T=0)", ["T=0.0"]),
        ("adapt_conf(flip=1)", ["flip=1", "True or False"]),
        ("reverse_kl(eps=1)", ["eps=1.0", "(0, 1)"]),
        ("reverse_ce(eps=0)", ["eps=0.0", "(0, 1)"]),
        ("chi2(eps=2)", ["eps=2.0", "(0, 1)"]),
        ("js(pi=1)", ["pi=1.0", "(0, 1)"]),
        ("js(p=.5)", ["'js'", "no parameter 'p'", "pi"]),
        ("adapt_conf(beta=1.5)", ["beta=1.5", "[0, 1]"]),
        ("aux_conf(legacy_warmup=1)", ["legacy_warmup=1", "True or False"]),
        ("logconf_eleuther(harden='argmax')", ["'argmax'", "'balanced'"]),
        ("logconf_eleuther(balance_to='uniform')", ["'uniform'", "'weak_mean'"]),
        ("logconf_eleuther(buffer=-1)", ["buffer=-1"]),
        ("entropy_reg(lam='x')", ["lam='x'", "number"]),
        ("window(r=.6)", ["r=0.6", "[0, 0.5]"]),
        ("product(a=-1)", ["a=-1.0", "[0, inf)"]),
        ("product(warmup=2)", ["warmup=2.0", "[0, 1]"]),
        ("prior_product(b=-1)", ["b=-1.0"]),
        ("prior_anchor(lam=-1)", ["lam=-1.0"]),
        ("sce(a=-1)", ["a=-1.0"]),
        ("sce(eps=1)", ["eps=1.0"]),
        ("edl(gamma=2)", ["gamma=2.0", "[0, 1]"]),
        ("edl(lam=-1)", ["lam=-1.0"]),
        ("dkd(T=0)", ["T=0.0", "(0, inf)"]),
        ("dkd(target='strong')", ["'strong'", "'labels'", "'weak'"]),
        ("dkd(alpha=-1)", ["alpha=-1.0"]),
        ("dkd(beta=True)", ["beta=True", "number"]),
        ("ce(label_smoothing=2)", ["label_smoothing=2.0"]),
        ("kd(tau_w=1e999)", ["tau_w", "finite"]),
        ("kd(tau_w=[1, 2])", ["tau_w", "axis"]),
    ],
)
def test_errors_say_what_and_what_else(spec, words):
    with pytest.raises(SpecError) as caught:
        make(spec)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_objects_are_checked_too():
    with pytest.raises(SpecError, match="tau_w=-1"):
        make(Kd(tau_w=-1))
    kept = Kd(tau_w=2.0)
    assert make(kept) is kept
    assert make(Kd(tau_w=2)).tau_w == 2.0 and isinstance(make(Kd(tau_w=2)).tau_w, float)
    for wrong in (3, Kd, None):
        with pytest.raises(UsageError):
            make(wrong)


def test_a_function_is_a_loss():
    def mine(z, weak, ctx):
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    g = torch.Generator().manual_seed(0)
    z, weak = (torch.randn(3, 5, 4, generator=g) for _ in range(2))
    batch = Batch(weak=weak, t=torch.zeros(3, 1, 1))
    value, dz = make(mine).value_and_dz(z, batch)
    again, slope = make("ce_soft").value_and_dz(z, batch)
    assert torch.allclose(value, again, atol=1e-6) and torch.allclose(dz, slope, atol=1e-6)
    assert make(mine).value(z[0], batch.run(0)).shape == (5,)


def test_a_function_sees_scaled_logits_and_one_run():
    from dataclasses import replace

    seen = []

    def look(z, weak, ctx):
        seen.append((z.detach().clone(), weak.logits.clone(), ctx))
        return (z * weak.log_probs).sum(-1)

    weak = torch.randn(2, 3, 4)
    loss = replace(make(look), tau_s=0.5, tau_w=4.0)
    z = torch.randn(2, 3, 4)
    loss.value_and_dz(z, Batch(weak=weak, t=torch.zeros(2, 1, 1), labels=torch.ones(2, 3, dtype=torch.int64)))
    assert len(seen) == 2
    assert torch.allclose(seen[1][0], z[1] / 0.5) and torch.allclose(seen[1][1], weak[1] / 4)
    assert seen[1][2].t.shape == (1, 1) and seen[1][2].labels.shape == (3,)


def test_a_reduced_function_is_refused():
    def reduced(z, weak, ctx):
        return z.sum()

    batch = Batch(weak=torch.zeros(5, 4), t=torch.zeros(1, 1))
    with pytest.raises(TrainError, match=r"your loss reduced .*one value per sample"):
        make(reduced).value(torch.zeros(5, 4), batch)


def test_listing_imports_no_torch():
    code = (
        "import sys; from w2s_fast import losses, heads; n = losses.names() + heads.names();"
        "assert 'kd' in n and 'linear' in n; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_listings_are_json_and_complete():
    import json

    from w2s_fast import heads

    for family, some in ((losses, "aux_conf"), (heads, "prototype")):
        records = family.describe()
        assert [r["name"] for r in records] == list(family.names())
        assert json.loads(json.dumps(records)) == records
        assert all(r["about"] and r["source"] and "tau_s" in r["parameters"] for r in records)
        assert all(r.get("equation", "?") for r in records)
        for r in records:
            args = {k: v for k, v in r["parameters"].items() if v is not None}
            family.make(f"{r['name']}({', '.join(f'{k}={v!r}' for k, v in args.items())})")
        assert some in {r["name"] for r in records}


def test_the_table_of_losses_has_its_parameters_and_defaults():
    """Section 7 of the project's reference table, row by row."""
    defaults = {
        "ce_hard": {"label_smoothing": 0.0},
        "kd": {"tau_w": 1.0, "tau2": False},
        "aux_conf": {"alpha": 0.5, "warmup": 0.2, "harden": "balanced", "balance_to": "weak_mean", "buffer": 0},
        "adapt_conf": {"T": 0.5, "ramp": 0.0, "flip": False, "beta": None},
        "logconf_eleuther": {"alpha": 0.5, "warmup": 0.2, "buffer": 32},
        "entropy_reg": {"lam": 0.1},
        "window": {"r": 0.15},
        "product": {"a": 1.0, "b": 1.0, "warmup": 0.0},
        "prior_product": {"a": 1.0, "b": 0.5},
        "prior_anchor": {"lam": 0.1},
        "reverse_kl": {"eps": 1e-6},
        "reverse_ce": {"eps": 1e-4},
        "js": {"pi": 0.5},
        "chi2": {"eps": 1e-4},
        "gce": {"q": 0.7},
        "sce": {"a": None, "b": None, "eps": 1e-4},
        "edl": {"gamma": 0.5, "lam": 1.0},
        "raven": {"base": "kd", "lr_v": 1e-3, "agree": 0.1},
        "dkd": {"alpha": 1.0, "beta": 2.0, "T": 1.0, "target": "labels"},
    }
    records = {r["name"]: r for r in losses.describe()}
    for name, expected in defaults.items():
        assert {p: records[name]["parameters"][p] for p in expected} == expected, name
    needs = {name: r["needs"] for name, r in records.items() if r["needs"]}
    assert needs == {
        "prior_product": ["prior"],
        "prior_anchor": ["prior"],
        "edl": ["teachers"],
        "raven": ["teachers"],
        "dkd": ["labels"],
    }
    assert all(r["verified"] != name.endswith("_like") for name, r in records.items())


def test_third_party_losses_come_by_entry_point(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint(name="halved", value=f"{__name__}:Halved", group=losses.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == losses.GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Halved.__module__])
    assert losses.names()[-1] == "halved"
    assert make("halved(share=.25)").share == 0.25
    with pytest.raises(SpecError, match=r"share=2.0 lies outside \[0, 1\]"):
        make("halved(share=2)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Halved(Loss):
    share: float = 0.5
    limits = {**Loss.limits, "share": "[0, 1]"}  # noqa: RUF012

    def value(self, z, batch):
        return self.share * z.sum(-1)


def test_ground_truth():
    s = ground_truth(torch.tensor([2, 0, -1]), 3)
    assert s.label(torch.tensor([0, 1])).tolist() == [2, 0]
    assert s.weak.softmax(-1)[0].tolist() == pytest.approx([0, 0, 1], abs=1e-20)
    assert s.weak.isfinite().all() and s.weight.tolist() == [1, 1, 0]
    assert ground_truth(torch.tensor([0, 1]), 2).weight is None
    with pytest.raises(TrainError, match="label 3 of row 1"):
        ground_truth(torch.tensor([0, 3]), 3)
    with pytest.raises(TrainError, match="label -2 of row 0"):
        ground_truth(torch.tensor([-2, 1]), 3)


def test_weak_labels_of_several_teachers_are_of_the_mean_probability():
    weak = torch.tensor([[[9.0, 0, 0], [0, 1.0, 0.9], [0, 1.0, 0.9]]])
    assert Supervision(weak=weak).label(torch.tensor([0])).tolist() == [0]
    assert Supervision(weak=weak, pick=torch.tensor([1])).label(torch.tensor([0])).tolist() == [1]
    mean = weak.softmax(-1).mean(1)
    assert torch.allclose(Supervision(weak=weak).probs(torch.tensor([0])), mean)
    assert Supervision(weak=weak).teachers == 3 and Supervision(weak=weak, pick=torch.tensor([1])).teachers == 1


def test_probabilities_enter_floored():
    s = Supervision.from_probabilities(torch.tensor([[1.0, 0.0]]))
    assert s.weak.isfinite().all() and float(s.weak[0, 1]) == pytest.approx(-69.0776, abs=1e-3)
