"""The head benchmark: its baselines are what they say, its gates can fail, its floors and tables are arithmetic."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks import heads
    from benchmarks.heads_parts import encoder, engine, floors, loops, measure, parity, probes, scaling, tables, timing
    from benchmarks.heads_parts import recipe as recipes
    from benchmarks.heads_parts.worlds import CLIPART, CLIPART_768, Shape, make_world
finally:
    sys.path.remove(str(ROOT))

from w2s_fast.losses.balance import harden_balanced  # noqa: E402
from w2s_fast.train import order  # noqa: E402

TINY = Shape(case="tiny", n_train=300, n_val=90, n_test=120, k=12, d=24)
CONTINUOUS = [r for r in recipes.LOSSES.values() if r.loss not in parity.DISCONTINUOUS]


@pytest.fixture(scope="module")
def world():
    return make_world(TINY, noise=0.5, weak_noise=4.0)


def short(recipe):
    return replace(recipe, epochs=3, batch_size=64)


def engine_order(epoch):
    return torch.from_numpy(order(0, epoch, TINY.n_train))


@pytest.mark.parametrize("recipe", CONTINUOUS, ids=lambda r: f"{r.loss}-{r.head}")
def test_both_loops_train_what_the_engine_trains(world, recipe):
    recipe = short(recipe)
    (start,) = engine.fit(world, engine.runs_of(recipe, [0], epochs=0))
    (ours,) = engine.fit(world, engine.runs_of(recipe, [0]))
    init = start.theta["last"]
    found = {
        variant.name: loops.fit_resident(world, recipe, seed=0, variant=variant, init=init, order=engine_order)
        for variant in loops.VARIANTS
    }
    found["loader"] = loops.fit_loader(world, recipe, seed=0, init=init, order=engine_order)
    for name, one in found.items():
        assert parity.gap(one.theta, ours.theta["last"]) < 1e-5, name
        assert one.acc == pytest.approx(list(ours.curves["acc_val"]), abs=1e-6), name
        assert one.agree == pytest.approx(list(ours.curves["agree_val"]), abs=1e-6), name
    assert found["loader"].loss == pytest.approx(list(ours.curves["loss"][1:]), rel=1e-4)


def test_gate_passes_and_fails(world, monkeypatch):
    recipe = short(recipes.LOSSES["KD"])
    assert parity.gate_fp32(world, recipe)["passed"]
    share = recipes.Recipe.share
    monkeypatch.setattr(recipes.Recipe, "share", lambda self, step, steps: share(self, step + 1, steps))
    late = parity.gate_fp32(world, recipe)
    assert not late["passed"] and late["w_gap"] > 1e-3
    assert "FAIL" in parity.told(late)


def test_a_run_that_does_not_move_passes_no_gate(world):
    assert not parity.gate_fp32(world, replace(short(recipes.LOSSES["KD"]), lr=0.0))["passed"]


def test_balanced_loss_reaches_the_engines_accuracy(world):
    recipe = replace(recipes.LOSSES["AuxConf, balanced"], head="prototype", batch_size=64)
    ours = engine.fit(world, engine.runs_of(recipe, range(4)))
    theirs = [loops.fit_resident(world, recipe, seed=seed) for seed in range(4)]
    difference = np.array([o.curves["acc_val"][-1] - t.acc[-1] for o, t in zip(ours, theirs, strict=True)])
    assert abs(difference.mean()) < 0.03
    assert min(t.acc[-1] for t in theirs) > 0.8


@pytest.mark.parametrize("t", [0.05, 0.7])
def test_losses_by_hand(t):
    g = torch.Generator().manual_seed(1)
    z = (3 * torch.randn(7, 5, generator=g)).double()
    p = (2 * torch.randn(7, 5, generator=g)).double().softmax(dim=1)
    label = p.argmax(dim=1)
    want: dict[str, list[float]] = {name: [] for name in ("ce", "kd", "aux_conf_argmax", "adapt_conf")}
    for i in range(7):
        log_own = [float(v) - math.log(sum(math.exp(float(u)) for u in z[i])) for v in z[i]]
        weak = [float(v) for v in p[i]]
        own, hard = max(range(5), key=log_own.__getitem__), max(range(5), key=weak.__getitem__)
        cross = -sum(q * v for q, v in zip(weak, log_own, strict=True))
        divergence = cross + sum(q * math.log(q) for q in weak)
        alpha = 0.5 * min(1.0, t / 0.2)
        e_own, e_weak = math.exp(-log_own[own] / 0.5), math.exp(-log_own[hard] / 0.5)
        beta = e_own / (e_own + e_weak)
        want["ce"].append(-log_own[hard])
        want["kd"].append(divergence)
        want["aux_conf_argmax"].append((1 - alpha) * cross - alpha * log_own[own])
        want["adapt_conf"].append((1 - beta) * divergence - beta * log_own[own])
    for name, rows in want.items():
        assert float(recipes.value(name, z, p, label, t)) == pytest.approx(sum(rows) / 7, rel=1e-9), name


def test_cheaper_kd_has_the_same_gradient():
    g = torch.Generator().manual_seed(2)
    z, p = torch.randn(6, 4, generator=g).double(), torch.randn(6, 4, generator=g).double().softmax(dim=1)
    grads = []
    for entropy in (True, False):
        leaf = z.clone().requires_grad_(True)
        recipes.value("kd", leaf, p, None, 0.0, entropy=entropy).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-14)


def test_balanced_labels_are_the_engines():
    g = torch.Generator().manual_seed(3)
    z, weak = torch.randn(200, 6, generator=g).double(), torch.randn(200, 6, generator=g).double()
    z[:, 0] += 4
    p = weak.softmax(dim=1)
    found = recipes.balanced_label(z, p)
    assert (z.argmax(dim=1) == 0).double().mean() > 0.9 and (found == 0).double().mean() < 0.3
    assert torch.equal(found, harden_balanced(z.log_softmax(dim=1), p, None, {}, uniform=False))


def test_probes_learn(world):
    weak = float((world.weak.argmax(dim=1) == world.truth).float().mean())
    assert 0.3 < weak < 0.85
    accuracy, iterations = probes.sklearn_lbfgs(world)
    assert accuracy > weak + 0.05 and 1 < iterations <= 100
    assert probes.clip_benchmark_like(world, seed=0, batch_size=64) > weak + 0.05
    by_epoch = probes.openai_like(world, seed=0, batch_size=64, lr=1e-2)
    assert len(by_epoch) == 10 and by_epoch[-1] > weak + 0.05


def test_schedule_is_warm_up_and_linear_decay():
    recipe = recipes.LOSSES["KD"]
    assert recipe.steps(9346) == 190
    shares = [recipe.share(step, 190) for step in range(190)]
    assert shares[0] == 0 and shares[19] == 1 and shares[-1] == pytest.approx(1 / 171)
    assert np.allclose(np.diff(shares[:20]), 1 / 19) and np.allclose(np.diff(shares[19:]), -1 / 171)


def test_floors_are_those_of_the_arithmetic():
    h200 = floors.Rates(bytes=4.3e12, fp32=67e12, tf32=400e12, bf16=790e12)
    kd = recipes.LOSSES["KD"]
    assert floors.flops(CLIPART, kd) == pytest.approx(75e9, rel=0.01)
    narrow, wide = (
        {p: floors.cuda_floor(shape, kd, precision=p, rates=h200) for p in ("fp32", "tf32", "bf16")}
        for shape in (CLIPART, CLIPART_768)
    )
    assert narrow["bf16"]["products"] == pytest.approx(0.095e-3, rel=0.01)
    assert narrow["bf16"]["floor"] == narrow["tf32"]["floor"] == pytest.approx(0.219e-3, rel=0.01)
    assert narrow["fp32"]["floor"] == pytest.approx(1.12e-3, rel=0.01)
    assert 3600 / wide["bf16"]["floor"] == pytest.approx(11.0e6, rel=0.01)
    assert 3600 / wide["fp32"]["floor"] == pytest.approx(2.1e6, rel=0.03)
    for parts in narrow.values():
        assert parts["unfused"] > parts["products"] + parts["adam"]


def test_cpu_floor_counts_epochs():
    kd = short(recipes.LOSSES["KD"])
    once, library = floors.cpu_floor(TINY, kd, precision="fp32", tries=30)
    twice, _ = floors.cpu_floor(TINY, replace(kd, epochs=300), precision="fp32", tries=30)
    assert 20 < twice / once < 500
    assert "forward" in library


def test_uncached_counts_every_image_of_every_epoch():
    seconds = encoder.uncached_seconds(TINY, short(recipes.LOSSES["KD"]), speed=10.0, loop=2.0)
    assert seconds == pytest.approx((3 * 300 + 4 * 90) / 10 + 2)


def test_jobs_take_turns():
    calls: list[str] = []
    seconds = timing.interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=3)
    assert "".join(calls) == "abcbcacab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert timing.median([3.0, 1.0, 2.0]) == 2.0 and timing.spread([1.0, 2.0, 3.0]) == 0.5


def test_paired_interval_is_students():
    from scipy.stats import ttest_rel

    found, plain = [0.61, 0.64, 0.62, 0.66, 0.60], [0.60, 0.63, 0.63, 0.64, 0.60]
    mean, half = parity.paired_points(found, plain)
    interval = ttest_rel(found, plain).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((100 * interval.low, 100 * interval.high))


@pytest.mark.parametrize(
    ("points", "noise", "strict", "passed"),
    [
        (0.2, 0.0, True, True),
        (0.4, 0.0, True, False),
        (0.4, 0.0, False, False),
        (0.4, 1.0, False, True),
        (0.4, 1.0, True, False),
        (math.nan, 0.0, True, False),
        (math.nan, 0.0, False, False),
    ],
)
def test_accuracy_gate(world, monkeypatch, points, noise, strict, passed):
    found = [0.60 + (points + e) / 100 for e in (0, noise, -noise)]
    monkeypatch.setattr(parity, "accuracies", lambda *_, **__: found)
    result = parity.gate_accuracy(
        world, recipes.LOSSES["KD"], precision="bf16", seeds=range(3), strict=strict, fp32=[0.60, 0.60, 0.60]
    )
    assert result["passed"] is passed and result["points"] == pytest.approx(points, nan_ok=True)


def test_engine_seconds_are_per_run(world, monkeypatch):
    seconds = {"loader": [9.0, 20.0, 8.0], "resident": [6.0, 6.0, 1.0], "engine fp32": [4.0, 5.0, 6.0]}
    monkeypatch.setattr(measure, "interleaved", lambda jobs, **_: {name: seconds[name] for name in jobs})
    monkeypatch.setattr(measure, "fastest_variant", lambda *_, **__: loops.VARIANTS[1])
    plan = measure.Plan(runs=2, repeats=3, precisions=("fp32",))
    (row,) = measure.rows_of(world, "KD", short(recipes.LOSSES["KD"]), plan)
    assert (row["engine_s"], row["loader_s"], row["resident_s"]) == (2.5, 9.0, 6.0)
    assert (row["ratio_loader"], row["ratio_resident"]) == (3.6, 2.4)
    assert row["resident_variant"] == "fused Adam" and row["uncached_s"] is None


def test_accuracies_are_those_of_the_predictions(world):
    recipe = short(recipes.LOSSES["KD"])
    found = parity.accuracies(world, recipe, precision="fp32", seeds=[0])
    (fit,) = engine.fit(world, engine.runs_of(recipe, [0]))
    theta = fit.theta["last"]
    classes = (world.scaled[world.test] @ theta["weight"].T + theta["bias"]).argmax(dim=1)
    assert found == [pytest.approx(float((classes == world.truth[world.test]).float().mean()))]


def test_command(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heads, "CLIPART", TINY)
    monkeypatch.setattr(heads, "CASES", {"clipart-512": TINY})
    monkeypatch.setattr(heads, "LOSSES", {name: short(recipes.LOSSES[name]) for name in ("KD", "CPL", "AuxConf")})
    monkeypatch.setattr(heads, "use_cores", lambda threads: [0])
    monkeypatch.setattr(heads, "images_per_second", lambda **_: 10.0)
    file = tmp_path / "results" / "tiny.json"
    command = ["heads.py", "--quick", "--precisions", "fp32", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", command)
    assert heads.main() == 0
    shown = capsys.readouterr().out
    result = json.loads(file.read_text())
    assert [row["loss"] for row in result["rows"]] == ["KD", "CPL"]
    for row in result["rows"]:
        wanted = "case n d k loss precision device engine_s loader_s resident_s clip_benchmark_like_s sklearn_s"
        assert set(
            f"{wanted} ratio_loader ratio_resident floor_s runs uncached_s openai_like_s compile_s".split()
        ) <= set(row)
        assert row["ratio_loader"] == pytest.approx(row["loader_s"] / row["engine_s"])
        assert row["ratio_resident"] == pytest.approx(row["resident_s"] / row["engine_s"])
    assert {gate["loss"] for gate in result["parity"]} == {"kd", "aux_conf_argmax"}

    monkeypatch.setattr(sys, "argv", ["heads.py", "--readme", str(file)])
    assert heads.main() == 0
    told = capsys.readouterr().out
    ratios = [f"{row['ratio_loader']:.2f}x" for row in result["rows"]]
    assert all(ratio in told and ratio in shown for ratio in ratios)
    assert "vs DataLoader loop" in told and "vs resident loop" in told and result["machine"]["cpu"] in told

    monkeypatch.setattr(sys, "argv", [*command, "--no-table"])
    monkeypatch.setattr(parity, "MOST_GAP", 1e-12)
    assert heads.main() == 1


def test_what_is_not_a_number_is_null_in_the_file():
    assert heads.finite({"a": [math.nan, 1.5, {"b": math.inf}], "c": True}) == {
        "a": [None, 1.5, {"b": None}],
        "c": True,
    }


def test_table_leaves_out_what_was_not_measured():
    row = {"case": "clipart", "n": 9346, "k": 345, "d": 512, "loss": "KD", "precision": "bf16", "engine_s": 0.25}
    row |= {"loader_s": 1.25, "ratio_loader": 5.0, "floor_s": 0.1, "sklearn_s": None}
    shown = tables.table([row])
    assert "5.00x" in shown and "40 %" in shown and "scikit" not in shown and "1.25" in shown
    assert len({line.count("|") for line in shown.splitlines()}) == 1


def test_scaling_rows_are_per_run(world, monkeypatch):
    monkeypatch.setattr(scaling, "RUNS", (1, 2))
    monkeypatch.setattr(scaling, "interleaved", lambda jobs, **_: {name: [6.0, 8.0, 10.0] for name in jobs})
    rows = list(scaling.against_runs(world, precision="fp32", repeats=3))
    assert [(row["size"], row["engine_s"]) for row in rows] == [(1, 8.0), (2, 4.0)] * 2
    assert "4" in tables.scaling(rows)


def test_precisions_that_are_not_there_are_told(world, monkeypatch):
    monkeypatch.setattr(engine, "has_precision", lambda _, precision: None if precision == "fp32" else "not here")
    told: list[str] = []
    assert measure.available(world, ["fp32", "bf16"], told.append) == ("fp32",)
    assert told == ["bf16: left out: not here"]
