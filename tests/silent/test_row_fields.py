"""Every derived field of a row, computed again from the kept predictions, the curves and the fitted heads alone.

The files are read here by numpy and json, and every formula is written out in plain Python.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import w2s_fast as w2s
from w2s_fast.core.rows import Row
from w2s_fast.results.results import Results
from w2s_fast.tasks.task import Task

ASKED = frozenset(
    {"schema", "run_id", "question", "asked", "experiment", "data", "domain", "weak", "weak_seed", "strong", "method",
     "head", "loss", "loss_resolved", "init", "init_norm", "feat_scale", "template", "supervision", "reads_truth",
     "verified", "transductive", "stages", "seed", "split_seed", "selection", "optimizer", "schedule", "lr", "warmup",
     "weight_decay", "epochs", "batch_size", "order", "tau_s", "tau_w", "precision", "device", "seconds",
     "seconds_load", "seconds_compile", "seconds_fit", "seconds_evaluate", "stack", "split", "split_hash",
     "truth_digest", "feature_key", "weak_key", "text_key", "preds", "code", "note", "role", "status"}
)  # fmt: skip
"""What was asked or measured by a clock, and is no function of predictions."""
DERIVED = frozenset(
    {"selected_epoch", "agree_val", "acc_val", "rise_val", "acc_weak", "acc_zero_shot", "acc_fusion", "acc_w2s",
     "acc_w2s_pool", "acc_ceiling", "acc_ceiling_best", "pgr", "pgr_best", "pgr_zs", "pgr_flag", "agreement",
     "agree_right", "agree_wrong", "n_train", "n_test", "measured_by"}
)  # fmt: skip
CEILING = {"last": "last", "weak_val": "oracle", "oracle": "oracle", "test_best": "test_best"}
CURVE = {"weak_val": "agree_val", "oracle": "acc_val", "test_best": "acc_test"}


def test_every_key_is_known_here() -> None:
    assert set(Row.__annotations__) == ASKED | DERIVED and not ASKED & DERIVED


Case = tuple[Task, Results, Path]


def world(seed: int, spread: float) -> Task:
    """Noisy classes, two weak models that err at random, text features `spread` away from the means."""
    rng, n, k, d = np.random.default_rng(seed), 400, 4, 12
    labels = np.arange(n) % k
    means = 2 * rng.normal(size=(k, d))
    weak = {s: np.where(rng.random(n) < 0.42, rng.integers(0, k, n), labels) for s in range(2)}
    return Task.from_arrays(
        features=means[labels] + 2.5 * rng.normal(size=(n, d)),
        weak_logits={s: 2.0 * np.eye(k)[w] + rng.normal(size=(n, k)) for s, w in weak.items()},
        labels=labels,
        text=means + spread * rng.normal(size=(k, d)),
    )


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """In `bases` weak and zero-shot change places from fold to fold; in `ceilings` hold-val and the test choose other
    ceilings."""
    made: dict[str, Case] = {}
    for name, split, seed, spread in (
        ("ceilings", "rotate", 0, 2.0),
        ("bases", "rotate", 41, 4.0),
        ("paper", "paper", 4, 4.0),
    ):
        task, path = world(seed, spread), tmp_path_factory.mktemp(name) / "r.jsonl"
        results = w2s.fit(task, method=["kd+lp", "cpl"], seeds=3, split=split, epochs=5, batch_size=32, lr=0.02)
        results.save(path)
        made[name] = task, results, path
    return made


@pytest.fixture(params=["ceilings", "bases", "paper"])
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


class Files:
    """What lies on the disk: rows, and labels i[n_test] by run id and selection."""

    def __init__(self, path: Path) -> None:
        self.rows = [json.loads(line) for line in path.read_text().splitlines()]
        self.labels: dict[tuple[str, str], np.ndarray] = {}
        self.role: dict[str, str] = {}
        self.truth: dict[int, np.ndarray] = {}
        for name in {row["preds"].split("#")[0] for row in self.rows}:
            table, tests = np.load(path.parent / name), np.load((path.parent / name).with_suffix(".tests.npy"))
            index = json.loads((path.parent / name).with_suffix(".json").read_text())
            for i, seed in enumerate(index["seeds"]):
                self.truth[seed["seed"]] = tests[i, 1, : seed["n_test"]]
            for i, system in enumerate(index["systems"]):
                n = len(self.truth[system["seed"]])
                self.role[system["run_id"]] = system["role"]
                for j, selection in enumerate(index["selections"]):
                    if (table[i, j, :n] >= 0).all():
                        self.labels[system["run_id"], selection] = table[i, j, :n]

    def right(self, run_id: str | None, selection: str, seed: int) -> np.ndarray | None:
        if run_id is None:
            return None
        return self.labels[run_id, selection] == self.truth[seed]


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def guarded(base: np.ndarray, own: np.ndarray, ceiling: np.ndarray | None) -> tuple[float | None, str | None]:
    """PGR and its flag, by hand: undefined where the gap is not above two standard errors of the paired difference."""
    if ceiling is None:
        return None, "not measured"
    n = len(base)
    d = [float(c) - float(b) for c, b in zip(ceiling, base, strict=True)]
    gap = sum(d) / n
    se = math.sqrt(sum((x - gap) ** 2 for x in d) / (n - 1) / n)
    if gap <= 0 or gap <= 2 * se:
        return None, "flagged"
    return (share(list(own)) - share(list(base))) / gap, None


def test_accuracies_agreement_and_pgr_are_those_of_the_kept_predictions(case: Case) -> None:
    _, _, path = case
    files = Files(path)
    ceilings = [row for row in files.rows if row["role"] == "ceiling"]
    students = [row for row in files.rows if row["role"] == "student" and row["selection"] == "last"]
    mean = {key: sum(row[key] for row in students) / len(students) for key in ("acc_weak", "acc_zero_shot")}
    base_name = "zero_shot" if mean["acc_zero_shot"] > mean["acc_weak"] else "weak"
    measured = 0
    for row in files.rows:
        seed, selection, by = row["seed"], row["selection"], row["measured_by"]
        own = files.right(row["run_id"], selection, seed)
        assert own is not None and row["acc_w2s"] == pytest.approx(share(list(own)), abs=1e-12)
        assert row["n_test"] == len(own) and files.role[row["run_id"]] == row["role"]
        for key, name in (("acc_weak", "weak"), ("acc_zero_shot", "zero_shot"), ("acc_fusion", "fusion")):
            said = files.right(by[name], "last", seed)
            assert said is not None and row[key] == pytest.approx(share(list(said)), abs=1e-12)
            assert files.role[by[name]] == "reference"
        weak, mine = files.labels[by["weak"], "last"], files.labels[row["run_id"], selection]
        same, right = list(weak == mine), list(weak == files.truth[seed])
        assert row["agreement"] == pytest.approx(share(same), abs=1e-12)
        among = {True: [], False: []}
        for s, r in zip(same, right, strict=True):
            among[bool(r)].append(bool(s))
        assert row["agree_right"] == pytest.approx(share(among[True]), abs=1e-12)
        assert row["agree_wrong"] == pytest.approx(share(among[False]), abs=1e-12)
        if row["role"] == "ceiling":
            assert by["ceiling"] is by["ceiling_best"] is None
            assert all(row[key] is None for key in ("acc_ceiling", "acc_ceiling_best", "pgr", "pgr_best", "pgr_zs"))
            continue
        read = CEILING[selection]
        mine_too = [c for c in ceilings if c["seed"] == seed and c["selection"] == read]
        [same_head] = [c for c in mine_too if c["head"] == row["head"]]
        best = max(mine_too, key=lambda c: c["acc_val"])
        assert (by["ceiling"], by["ceiling_best"]) == (same_head["run_id"], best["run_id"])
        ceiling, top = (files.right(c["run_id"], read, seed) for c in (same_head, best))
        assert ceiling is not None and top is not None
        assert row["acc_ceiling"] == pytest.approx(share(list(ceiling)), abs=1e-12)
        assert row["acc_ceiling_best"] == pytest.approx(share(list(top)), abs=1e-12)
        weak_right = files.right(by["weak"], "last", seed)
        base = files.right(by[base_name], "last", seed)
        assert weak_right is not None and base is not None
        for key, start, end in (("pgr", weak_right, ceiling), ("pgr_best", weak_right, top), ("pgr_zs", base, ceiling)):
            value, flag = guarded(start, own, end)
            assert row[key] == (None if value is None else pytest.approx(value, rel=1e-9)), key
            measured += value is not None
            if key == "pgr":
                assert (row["pgr_flag"] is None) == (flag is None)
    assert measured > 10, "many of them are defined"


def test_the_worlds_can_tell(cases: dict[str, Case]) -> None:
    """What these tests compare differs in their worlds: the base of `pgr_zs` by run, the best ceiling by what chose."""
    students = [r for r in Files(cases["bases"][2]).rows if r["role"] == "student"]
    assert {row["acc_zero_shot"] > row["acc_weak"] for row in students} == {True, False}
    ceilings = [row for row in Files(cases["ceilings"][2]).rows if row["role"] == "ceiling"]
    differ = 0
    for seed in {row["seed"] for row in ceilings}:
        for selection in ("last", "oracle", "test_best"):
            mine = [c for c in ceilings if c["seed"] == seed and c["selection"] == selection]
            differ += max(mine, key=lambda c: c["acc_val"]) is not max(mine, key=lambda c: c["acc_w2s"])
    assert differ


def test_selections_are_those_of_the_curves_and_predictions_those_of_the_heads(
    case: Case,
) -> None:
    task, results, path = case
    files = Files(path)
    rows = {(row["run_id"], row["selection"]): row for row in files.rows}
    x = task.features.double().numpy()  # type: ignore[union-attr]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.asarray(task.manifest.labels)
    pooled = 0
    for one in results.fits:
        split = task.splits(mode=files.rows[0]["split"], seed=one.seed)
        weak_seed = one.weak_seed if one.weak_seed is not None else task.pairs([one.seed])[0][1]
        said = task.weak_logits[weak_seed].numpy().argmax(1)
        for selection in ("last", "weak_val", "oracle", "test_best"):
            row = rows.get((one.run_id(), selection))
            if row is None:
                continue
            curve = None if selection == "last" else [float(v) for v in one.curves[CURVE[selection]]]
            epoch = len(one.curves["loss"]) - 1 if curve is None else 1 + int(np.argmax(curve[1:]))
            assert row["selected_epoch"] == epoch and row["n_train"] == len(split.train)
            assert row["rise_val"] == pytest.approx(float(one.curves["acc_val"][5] - one.curves["acc_val"][4]))
            theta = {name: p.double().numpy() for name, p in one.fitted.fit.theta[selection].items()}  # type: ignore[union-attr]
            w = theta["weight"] if "weight" in theta else next(iter(theta.values()))
            if row["head"] != "linear":
                w = w / np.linalg.norm(w, axis=1, keepdims=True)
            z = (10 * x if row["head"] == "linear" else x) @ w.T + theta.get("bias", 0.0)
            predicted = z.argmax(1)
            kept = files.labels[one.run_id(), selection]
            assert (predicted[split.test] == kept).mean() > 0.995, "the head's own labels, but for ties in fp32"
            val = split.val
            assert row["acc_val"] == pytest.approx(float((predicted[val] == labels[val]).mean()), abs=1 / len(val))
            target = labels if one.ceiling else said
            assert row["agree_val"] == pytest.approx(float((predicted[val] == target[val]).mean()), abs=1 / len(val))
            if row["split"] == "paper":
                pool = np.concatenate([split.train, split.val, split.test])
                right = float((predicted[pool] == labels[pool]).mean())
                assert row["acc_w2s_pool"] == pytest.approx(right, abs=2 / len(pool))
                pooled += 1
            else:
                assert row["acc_w2s_pool"] is None
    assert bool(pooled) == (files.rows[0]["split"] == "paper")
