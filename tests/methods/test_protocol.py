"""The protocol on arrays: rows agree with a recomputation in numpy from the kept predictions and the raw inputs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import gaussian_task

from w2s_fast import fit
from w2s_fast.core.errors import DataError, MissingText, SpecError, UsageError
from w2s_fast.core.rows import Row
from w2s_fast.results.results import Results
from w2s_fast.tasks.task import Task

SHORT = {"epochs": 3, "batch_size": 64}
KEYS = [
    "schema",
    "run_id",
    "status",
    "data",
    "domain",
    "weak",
    "weak_seed",
    "strong",
    "method",
    "head",
    "loss",
    "init",
    "init_norm",
    "feat_scale",
    "template",
    "supervision",
    "seed",
    "split_seed",
    "selection",
    "selected_epoch",
    "acc_weak",
    "acc_zero_shot",
    "acc_fusion",
    "acc_w2s",
    "acc_ceiling",
    "acc_ceiling_best",
    "pgr",
    "pgr_best",
    "pgr_zs",
    "pgr_flag",
    "agreement",
    "agree_right",
    "agree_wrong",
    "n_train",
    "n_test",
    "optimizer",
    "schedule",
    "lr",
    "warmup",
    "weight_decay",
    "epochs",
    "batch_size",
    "tau_s",
    "tau_w",
    "precision",
    "device",
    "seconds",
    "split_hash",
    "feature_key",
    "weak_key",
    "text_key",
    "preds",
    "code",
]


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_rows_agree_with_numpy_from_the_raw_inputs() -> None:
    task = gaussian_task()
    results = fit(task, method=["cpl", "kd+lp"], seeds=2, **SHORT)
    x = task.features.numpy().astype(np.float64)
    t = task.text.numpy().astype(np.float64)  # type: ignore[union-attr]
    z = task.weak_logits[0].numpy().astype(np.float64)
    y = task.manifest.labels
    cos = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (t / np.linalg.norm(t, axis=1, keepdims=True)).T
    for row in results.rows:
        split = task.splits(seed=row["seed"])
        test = split.test
        weak, prior = z[test].argmax(1), cos[test].argmax(1)
        fused = (log_softmax(z[test]) + log_softmax(task.logit_scale * cos[test])).argmax(1)
        assert row["acc_weak"] == pytest.approx((weak == y[test]).mean())
        assert row["acc_zero_shot"] == pytest.approx((prior == y[test]).mean())
        assert row["acc_fusion"] == pytest.approx((fused == y[test]).mean())
        [system] = [s for s in results.kept[0].systems if s.run_id == row["run_id"]]
        said = system.labels[row["selection"]]
        assert row["acc_w2s"] == pytest.approx((said == y[test]).mean())
        assert row["agreement"] == pytest.approx((said == weak).mean())
        wrong = weak != y[test]
        assert row["agree_wrong"] == pytest.approx((said == weak)[wrong].mean())
        assert row["agree_right"] == pytest.approx((said == weak)[~wrong].mean())
        if row["supervision"] == "weak" and row["pgr"] is not None:
            expected = (row["acc_w2s"] - row["acc_weak"]) / (row["acc_ceiling"] - row["acc_weak"])
            assert row["pgr"] == pytest.approx(expected)


def test_every_row_has_the_keys_of_the_protocol_and_no_nan() -> None:
    results = fit(gaussian_task(), method="ce+lp", seeds=1, **SHORT)
    for row in results.rows:
        assert [k for k in KEYS if k not in row] == []
        assert not [k for k, v in row.items() if isinstance(v, float) and math.isnan(v)]
    assert {r["selection"] for r in results.rows} == {"last", "weak_val", "oracle", "test_best"}
    assert {r["method"] for r in results.rows} == {"ce+lp", "ceiling+lp", "ceiling+proto"}


def test_ceiling_is_read_under_the_selection_that_the_protocol_names() -> None:
    results = fit(gaussian_task(), method="kd+lp", seeds=1, **SHORT)
    ceiling = {r["selection"]: r["acc_w2s"] for r in results.rows if r["method"] == "ceiling+lp"}
    student = {r["selection"]: r["acc_ceiling"] for r in results.rows if r["method"] == "kd+lp"}
    assert student == {
        "last": ceiling["last"],
        "weak_val": ceiling["oracle"],
        "oracle": ceiling["oracle"],
        "test_best": ceiling["test_best"],
    }


def test_rotate_tests_every_pool_item_once_over_five_seeds() -> None:
    task = gaussian_task()
    results = fit(task, method="ce+lp", seeds=5, references=False, **SHORT)
    rows = np.concatenate([results.kept[0].rows[s] for s in range(5)])
    assert sorted(rows.tolist()) == list(range(len(task.ids)))


def test_pgr_is_null_with_a_flag_where_the_gap_carries_none() -> None:
    task = gaussian_task()
    perfect = Task.from_arrays(
        features=task.features, weak_logits=9 * np.eye(5)[task.manifest.labels], labels=task.manifest.labels
    )
    rows = fit(perfect, method="kd+lp", seeds=1, **SHORT).rows
    student = next(r for r in rows if r["method"] == "kd+lp")
    assert student["pgr"] is None and student["pgr_flag"]


def test_paper_split_also_scores_the_pool() -> None:
    task = gaussian_task()
    results = fit(task, method="kd+lp", seeds=1, split="paper", **SHORT)
    row = next(r for r in results.rows if r["method"] == "kd+lp" and r["selection"] == "last")
    one = next(s for s in results.fits if s.method == "kd+lp")
    theta = one.fitted.fit.theta["last"]
    x = task.features / task.features.norm(dim=1, keepdim=True)
    said = (10 * x @ theta["weight"].T + theta["bias"]).argmax(1)
    assert row["acc_w2s_pool"] == pytest.approx((said == task.labels).double().mean().item())


def test_a_callable_loss_is_a_method_of_its_own() -> None:
    def mine(z, weak, ctx):  # type: ignore[no-untyped-def]
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    task = gaussian_task()
    ours = fit(task, loss=mine, head="prototype", seeds=2, references=False, **SHORT)
    named = fit(task, loss="ce_soft", head="prototype", seeds=2, references=False, **SHORT)
    assert {r["method"] for r in ours.rows} == {"mine+proto"}
    for a, b in zip(ours.rows, named.rows, strict=True):
        assert a["acc_w2s"] == b["acc_w2s"]


def test_lists_are_axes_and_names_stay_distinct() -> None:
    results = fit(gaussian_task(), loss="kd(tau_w=[1, 2])", seeds=1, lr=[1e-2, 1e-3], references=False, **SHORT)
    rows = [r for r in results.rows if r["selection"] == "last"]
    assert len({r["run_id"] for r in rows}) == 4
    assert sorted((r["tau_w"], r["lr"]) for r in rows) == [(1, 1e-3), (1, 1e-2), (2, 1e-3), (2, 1e-2)]


def test_seed_changes_the_run_and_repeating_it_does_not() -> None:
    task = gaussian_task()
    a, b = (fit(task, method="kd+lp", seeds=2, references=False, **SHORT) for _ in range(2))
    assert [r["acc_w2s"] for r in a.rows] == [r["acc_w2s"] for r in b.rows]
    assert [r["run_id"] for r in a.rows] == [r["run_id"] for r in b.rows]
    first, second = (s.fitted.fit.theta["last"]["weight"] for s in a.fits)
    assert not torch.equal(first, second)


def test_results_round_trip_through_files(tmp_path: Path) -> None:
    results = fit(gaussian_task(), method=["cpl", "kd+lp"], seeds=2, **SHORT)
    written = results.save(tmp_path / "r.jsonl")
    read = Results.load(tmp_path / "r.jsonl")
    assert [json.dumps(r, sort_keys=True) for r in read.rows] == [json.dumps(r, sort_keys=True) for r in written]
    for row in written:
        file, _, index = str(row["preds"]).partition("#")
        table = np.load(tmp_path / file)
        assert table.dtype == np.int16 and table.ndim == 3
        assert (table[int(index)] >= 0).any()
    before, after = results.compare("cpl", "kd+lp"), read.compare("cpl", "kd+lp")
    assert before == after
    assert str(read.table()) == str(results.table())


def test_joining_results_keeps_one_row_per_run() -> None:
    task = gaussian_task()
    a = fit(task, method="cpl", seeds=2, **SHORT)
    b = fit(task, method="kd+lp", seeds=2, **SHORT)
    joined = a + b
    keys = [(r["run_id"], r["selection"]) for r in joined.rows]
    assert len(keys) == len(set(keys))
    assert {"cpl", "kd+lp"} <= set(joined.predictions[task.domain].names())
    assert "kd+lp" in str(joined.table())


def test_best_head_becomes_a_module_a_file_and_a_classifier(tmp_path: Path) -> None:
    from w2s_fast import load_head

    task = gaussian_task()
    results = fit(task, method=["cpl", "kd+lp"], seeds=1, **SHORT)
    for name in ("cpl", "kd+lp"):
        best = results.best("weak_val", method=name)
        module = best.to_torch()
        rows = torch.from_numpy(best.split.test)
        said = module(task.features[rows]).argmax(1).numpy()
        assert (said == best.fit.predicted["weak_val"]).all()
        path = best.save(tmp_path / name)
        _, theta, card = load_head(path)
        assert card["classes"] == list(task.classes) and set(theta) == set(best.theta)
        matrix = best.export(tmp_path / f"{name}-zs")
        from safetensors.torch import load_file

        tensors = load_file(matrix)
        x = task.features[rows] / task.features[rows].norm(dim=1, keepdim=True)
        z = x @ tensors["classifier"] + tensors.get("bias", torch.zeros(1))
        assert (z.argmax(1).numpy() == said).all()


def test_curves_have_every_epoch() -> None:
    results = fit(gaussian_task(), method="kd+lp", seeds=1, references=False, **SHORT)
    assert [c["epoch"] for c in results.curves()] == [0, 1, 2, 3]
    assert results.curves()[0]["acc_test"] is not None


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"method": "clp"}, UsageError, "'cpl'"),
        ({"loss": "kl"}, SpecError, "no loss 'kl'"),
        ({"loss": "kd(tau=1)"}, SpecError, "tau"),
        ({"loss": "kd", "head": "linaer"}, SpecError, "linear"),
        ({"loss": "cpl", "head": "linear"}, SpecError, "--loss kd --head linear"),
        ({"head": "linear"}, UsageError, "needs a loss"),
        ({}, UsageError, "nothing to fit"),
        ({"method": "cpl", "lrr": 1.0}, UsageError, "'lr'"),
        ({"method": "cpl", "epochs": 0}, UsageError, "epochs"),
        ({"method": "cpl", "split": "rotat"}, UsageError, "rotate"),
        ({"method": "cpl", "supervision": "gold"}, UsageError, "supervision"),
        ({"method": "cpl", "seeds": []}, UsageError, "at least one"),
        ({"method": "cpl", "seeds": "three"}, UsageError, "give a count"),
        ({"method": "cpl", "seeds": 1.5}, UsageError, "give a count"),
        ({"method": "cpl", "seeds": [0, -1]}, UsageError, "give a count"),
    ],
)
def test_wrong_names_are_one_sentence(wrong: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        fit(gaussian_task(n=100), **wrong)


def test_text_init_without_text_offers_the_way_out() -> None:
    task = gaussian_task(text=False)
    with pytest.raises(MissingText, match="init=weak_mean"):
        fit(task, method="cpl")
    rows: list[Row] = fit(task, method="cpl", init="weak_mean", seeds=1, **SHORT).rows
    assert rows[0]["acc_zero_shot"] is None and rows[0]["acc_fusion"] is None
    assert rows[0]["note"] is not None and rows[0]["note"].startswith("n/a")
    assert rows[0]["init"] == "weak_mean"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": np.full((100, 4), np.nan)}, "row 0 holds NaN"),
        ({"weak_logits": np.zeros((99, 5))}, "99 rows"),
        ({"labels": np.full(100, 7)}, "outside 0..4"),
        ({"labels": np.full(100, -1)}, "outside 0..4"),
        ({"text": np.zeros((3, 4))}, "text has shape"),
        ({"ids": ["a"] * 100}, "same id"),
        ({"ids": ["a"]}, "1 ids for 100 rows"),
        ({"features": np.zeros((0, 4))}, "neither empty"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, words: str) -> None:
    good = {
        "features": np.random.default_rng(0).normal(size=(100, 4)),
        "weak_logits": np.zeros((100, 5)),
        "labels": np.arange(100) % 5,
    }
    with pytest.raises(DataError, match=words):
        Task.from_arrays(**{**good, **change})


def scaled(factor: float):  # type: ignore[no-untyped-def]
    def mine(z, weak, ctx):  # type: ignore[no-untyped-def]
        return -factor * (weak.probs * z.log_softmax(-1)).sum(-1)

    return mine


def test_two_functions_of_one_name_are_two_runs() -> None:
    task = gaussian_task()
    one = fit(task, loss=scaled(1.0), head="linear", seeds=1, references=False, **SHORT)
    other = fit(task, loss=scaled(-1.0), head="linear", seeds=1, references=False, **SHORT)
    assert one.rows[0]["run_id"] != other.rows[0]["run_id"]
    both = fit(task, loss=[scaled(1.0), scaled(-1.0)], head="linear", seeds=1, references=False, **SHORT)
    accuracies = {r["method"]: r["acc_w2s"] for r in both.rows if r["selection"] == "last"}
    assert accuracies == {"mine+lp[mine @ linear]": one.rows[0]["acc_w2s"], **accuracies} and len(accuracies) == 2


def test_equal_heads_spelled_differently_are_one_method() -> None:
    both = ["prototype", "prototype(init='text')", "prototype(init_norm=10.0)"]
    rows = fit(gaussian_task(), loss="kd", head=both, seeds=1, **SHORT).rows
    assert {r["method"] for r in rows} == {"kd+proto", "ceiling+lp", "ceiling+proto"}


def test_rows_log_what_unset_parameters_resolved_to() -> None:
    [row] = [r for r in fit(gaussian_task(), method="aux+lp", seeds=1, **SHORT).rows if r["method"] == "aux+lp"][:1]
    assert row["loss"] == "aux_conf" and "alpha=0.5" in row["loss_resolved"] and "'balanced'" in row["loss_resolved"]


def test_strong_encoders_on_one_domain_are_neither_mixed_nor_averaged() -> None:
    from dataclasses import replace

    task = gaussian_task()
    weaker = replace(task, features=task.features[:, :8], text=task.text[:, :8], strong="other")  # type: ignore[index]
    joined = fit(task, method="kd+lp", seeds=2, **SHORT) + fit(weaker, method="kd+lp", seeds=2, **SHORT)
    table = joined.table()
    assert table.groups == ("arrays (arrays)", "arrays (other)")
    for group, part in zip(table.groups, (task, weaker), strict=True):
        alone = fit(part, method="kd+lp", seeds=2, **SHORT).table()
        assert table.cell(group, "kd+lp", "accuracy") == alone.cell("arrays", "kd+lp", "accuracy")
        assert table.cell(group, "kd+lp", "accuracy").half is not None


def test_split_modes_in_one_file_stay_apart(tmp_path: Path) -> None:
    task = gaussian_task()
    for mode in ("rotate", "paper"):
        fit(task, method="kd+lp", seeds=2, split=mode, **SHORT).save(tmp_path / "r.jsonl")
    groups = Results.load(tmp_path / "r.jsonl").table().groups
    assert groups == ("arrays (rotate)", "arrays (paper)")


def test_rows_of_an_older_supervisor_are_left_out_and_told() -> None:
    from dataclasses import replace

    task = replace(gaussian_task(), keys={"weak": {0: "old"}})
    newer = replace(task, weak_logits={0: task.weak_logits[0].flip(1)}, keys={"weak": {0: "new"}})
    joined = fit(task, method="kd+lp", seeds=3, **SHORT) + fit(newer, method="kd+lp", seeds=1, **SHORT)
    table = joined.table()
    alone = fit(newer, method="kd+lp", seeds=1, **SHORT).table()
    assert table.cell("arrays", "weak", "accuracy").value == alone.cell("arrays", "weak", "accuracy").value
    assert "older rows" in " ".join(table.notes)


def test_compare_is_over_shared_seeds_and_refuses_what_it_does_not_know() -> None:
    task = gaussian_task()
    results = fit(task, method="cpl", seeds=3, **SHORT) + fit(task, method="kd+lp", seeds=[0, 1], **SHORT)
    direct = fit(task, method=["cpl", "kd+lp"], seeds=[0, 1], **SHORT)
    assert results.compare("cpl", "kd+lp") == direct.compare("cpl", "kd+lp")
    with pytest.raises(UsageError, match="unknown selection 'best'"):
        results.compare("cpl", "kd+lp", selection="best")
    with pytest.raises(UsageError, match="'ce\\+lp' was not fitted"):
        results.compare("cpl", "ce+lp")


def test_each_run_is_fitted_on_the_split_and_supervision_of_its_seed() -> None:
    results = fit(gaussian_task(), method="kd+lp", seeds=3, **SHORT)
    for one in results.fits:
        curves, said = one.curves, one.predicted["last"]
        truth = one.fitted.task.manifest.labels[one.split.test]
        # the engine scored on its own split; the row scores the same predictions on the seed's
        assert curves["acc_test"][-1] == pytest.approx((said == truth).mean())
        same = np.allclose(curves["agree_val"], curves["acc_val"])
        assert same == one.ceiling, "a ceiling's label is the truth, a student's is not"


def test_a_gap_within_its_noise_carries_no_pgr() -> None:
    rng = np.random.default_rng(3)
    task = gaussian_task(n=150)
    labels = task.manifest.labels
    said = np.where(rng.random(150) < 0.86, labels, (labels + 1) % 5)
    strong_teacher = Task.from_arrays(features=task.features, weak_logits=5.0 * np.eye(5)[said], labels=labels)
    rows = [
        r for r in fit(strong_teacher, method="kd+lp", seeds=5, epochs=30, batch_size=64).rows if r["method"] == "kd+lp"
    ]
    noisy = [r for r in rows if r["method"] == "kd+lp" and r["pgr_flag"] == "gap within two standard errors"]
    assert noisy and all(r["pgr"] is None and r["acc_ceiling"] > r["acc_weak"] for r in noisy)


def test_seeds_meet_supervisors_paired_or_crossed() -> None:
    from dataclasses import replace

    task = gaussian_task()
    two = replace(task, weak_logits={0: task.weak_logits[0], 4: task.weak_logits[0].flip(1)})
    assert two.pairs([0, 1]) == [(0, 0), (1, 0), (0, 4), (1, 4)]
    assert replace(two, paired=True).pairs([0, 1, 4]) == [(0, 0), (1, 4), (4, 4)]
    rows = fit(two, method="kd+lp", seeds=2, **SHORT).rows
    weak = {(r["seed"], r["weak_seed"]): r["acc_weak"] for r in rows if r["method"] == "kd+lp"}
    assert len(weak) == 4 and weak[0, 0] != weak[0, 4]


def test_a_seed_named_twice_is_fitted_once() -> None:
    rows = fit(gaussian_task(), method="kd+lp", seeds=[1, 1], references=False, **SHORT).rows
    assert len(rows) == len({r["selection"] for r in rows}) == 4
