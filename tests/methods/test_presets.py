"""Named methods: each fits, brings its settings, and says what it is; what it needs and lacks is one sentence."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from worlds import gaussian_task

from w2s_fast import fit, load_head
from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.text import text_features
from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.heads import find as find_head
from w2s_fast.methods.method import WEAK
from w2s_fast.methods.presets import METHODS
from w2s_fast.methods.resolve import describe, find, resolve, unverified
from w2s_fast.studies.sweep import read_sweep, shipped
from w2s_fast.tasks.task import Task

SHORT = {"epochs": 2, "batch_size": 64}
NAMES = ("cat", "clock", "fish", "tree", "star")


@cache
def with_tower() -> Task:
    """Made-up images near the text features of five drawn classes, with the tower that those came from."""
    tower = open_encoder("drawn:clip").text_tower()
    text = text_features(tower, NAMES).numpy()
    rng = np.random.default_rng(3)
    labels = np.arange(200) % 5
    x = text[labels] / np.linalg.norm(text, axis=1, keepdims=True)[labels] + 0.2 * rng.normal(size=(200, text.shape[1]))
    said = np.where(rng.random(200) < 0.65, labels, rng.integers(0, 5, 200))
    return Task.from_arrays(
        features=x,
        weak_logits=rng.normal(size=(200, 5)) + 3.0 * np.eye(5)[said],
        labels=labels,
        text=text,
        classes=NAMES,
        tower=tower,
    )


def test_a_tower_serves_every_stage_on_the_features_that_it_belongs_to() -> None:
    task = with_tower()
    [row, *_] = fit(
        task, loss="kd", supervision="salience(via='prompt', reads='logits')", references=False, **SHORT
    ).rows
    assert row["status"] == "ok"
    with pytest.raises(UsageError, match="learns through the text tower of arrays, whose features adapted replaces"):
        fit(task, loss="kd", head="prompt", supervision="adapted", references=False, **SHORT)


@pytest.mark.parametrize("name", [name for name in METHODS if find(name).supervision == WEAK])
def test_every_method_of_one_weak_model_fits_under_its_name(name: str) -> None:
    method = find(name)
    assert method.name == name and method.source
    # others start from text; OpenAI's learning rate is small for so few rows
    epochs = 200 if name.startswith("openai+lp") else 12 if "+lp" in name else 2
    results = fit(with_tower(), method=name, seeds=1, references=False, epochs=epochs, batch_size=16)
    [row] = [r for r in results.rows if r["selection"] == "last"]
    assert (row["status"], row["method"], row["epochs"], row["batch_size"]) == ("ok", name, epochs, 16)
    assert row["head"].partition("(")[0] == method.head.name and row["loss"].partition("(")[0] == method.loss.name
    [outcome] = results.fits
    assert np.isfinite(outcome.curves["loss"][1:]).all()
    assert row["acc_w2s"] == (outcome.predicted["last"] == results.kept[0].truth[outcome.split.test]).mean()


def last(results, name):  # type: ignore[no-untyped-def]
    [row] = [r for r in results.rows if r["selection"] == "last" and r["method"] == name]
    return row


def test_a_method_brings_settings_and_the_user_wins() -> None:
    task = gaussian_task()
    results = fit(task, method=["tip_f", "kd+lp"], seeds=1)
    row, other = last(results, "tip_f"), last(results, "kd+lp")
    assert (row["optimizer"], row["schedule"]) == ("adamw(eps=0.0001)", "cosine(warmup=0.0)")
    assert (row["lr"], row["weight_decay"], row["epochs"], row["batch_size"]) == (1e-3, 0.01, 20, 256)
    assert (other["optimizer"], other["lr"], other["epochs"], other["batch_size"]) == ("adam", 1e-2, 19, 16)
    ceilings = {r["method"]: r for r in results.rows if r["supervision"] == "gt" and r["selection"] == "last"}
    assert set(ceilings) == {"ceiling+tip", "ceiling+lp", "ceiling+proto"}
    assert ceilings["ceiling+tip"]["epochs"] == 20 and ceilings["ceiling+proto"]["epochs"] == 19
    assert row["acc_ceiling"] == ceilings["ceiling+tip"]["acc_w2s"]
    mine = last(fit(task, method="tip_f", seeds=1, epochs=3, solver="adam", references=False), "tip_f")
    assert (mine["epochs"], mine["optimizer"], mine["lr"]) == (3, "adam", 1e-3)


def test_training_free_tip_learns_nothing() -> None:
    task = gaussian_task()
    results = fit(task, method="tip", seeds=1, references=False)
    row = last(results, "tip")
    assert row["epochs"] == 1
    assert len({r["acc_w2s"] for r in results.rows}) == 1
    curve = [c["acc_test"] for c in results.curves()]
    assert curve[0] == curve[1] == row["acc_w2s"]
    head, theta = results.fits[0].fitted.fit.head, results.fits[0].fitted.fit.theta["last"]
    x = torch.nn.functional.normalize(task.features[task.splits(seed=0).test], dim=-1)
    text = torch.nn.functional.normalize(task.text, dim=-1)  # type: ignore[arg-type]
    near = torch.exp(-head.beta * (1 - x @ theta["keys"].T))  # type: ignore[attr-defined]
    said = (100 * x @ text.T + near @ theta["values"]).argmax(1)
    assert row["acc_w2s"] == pytest.approx((said == task.labels[task.splits(seed=0).test]).double().mean().item())


def test_literal_presets_train_what_the_text_says() -> None:
    task = gaussian_task()
    results = fit(task, method=["cpl_literal", "kd+lp_literal"], seeds=1, references=False, **SHORT)
    cpl, linear = last(results, "cpl_literal"), last(results, "kd+lp_literal")
    assert (cpl["tau_s"], cpl["tau_w"], cpl["init"], cpl["init_norm"], cpl["lr"]) == (1, 1, "text", 0, 1e-2)
    assert (linear["tau_s"], linear["tau_w"], linear["init"], linear["feat_scale"]) == (1, 1, "random", None)
    theta = results.fits[1].fitted.fit.theta["last"]
    rows = task.splits(seed=0).test
    said = (task.features[rows] @ theta["weight"].T + theta["bias"]).argmax(1)
    assert linear["acc_w2s"] == pytest.approx((said == task.labels[rows]).double().mean().item()), "raw features"


@pytest.mark.parametrize(
    "head", ["adapter", "tip(shots=4)", "text_encoder(tune='projection')", "adapter(tune_classes=True)"]
)
def test_heads_are_taken_out_whole(head, tmp_path) -> None:  # type: ignore[no-untyped-def]
    task = with_tower()
    results = fit(task, loss="kd", head=head, seeds=1, references=False, **SHORT)
    best = results.best("last")
    rows = torch.from_numpy(best.split.test)
    module = best.to_torch()
    assert (module(task.features[rows]).argmax(1).numpy() == best.fit.predicted["last"]).all()
    again, theta, card = load_head(best.save(tmp_path / "h"))
    assert str(again.spec()) == str(best.head.spec()) and set(theta) == set(best.theta)
    assert all(torch.equal(theta[n], best.theta[n]) for n in theta) and card["classes"] == list(NAMES)
    if head.startswith("text_encoder"):
        best.export(tmp_path / "c")
    else:
        with pytest.raises(UsageError, match="changes the features"):
            best.export(tmp_path / "c")


def test_the_control_grid_is_whole_and_every_row_has_a_name_of_its_own() -> None:
    assert shipped() == ("control", "supervisions")
    asked = read_sweep("control").fits
    methods = resolve(loss=asked.loss, head=asked.head)
    heads = 2 * 3 + 1 + 2 + 4 * 2 * 4 + 2
    assert len(methods) == len({m.name for m in methods}) == 7 * heads
    assert asked.seeds == (0, 1, 2, 3, 4)
    with pytest.raises(UsageError, match="or a name: control, supervisions"):
        read_sweep("contrl")


def test_unverified_formulae_are_told_wherever_they_come_from() -> None:
    rows = [
        {"method": "a", "loss": "kd", "head": "linear"},
        {"method": "b", "loss": "kd(tau_w=2)", "head": "text_encoder(tune='projection')"},
        {"method": "c", "loss": "mine", "head": "linear"},
    ]
    assert unverified(rows) == ["b"]
    named = [{"method": "kd+text_encoder"}, {"method": "d", "loss": "kd", "head": "linear", "supervision": "smooth"}]
    assert unverified([*rows, *named]) == ["b", "d", "kd+text_encoder"]
    table = str(fit(with_tower(), method="kd+text_encoder", seeds=1, **SHORT).table())
    assert "code or text: kd+text_encoder" in table


def test_listings_say_what_a_method_is() -> None:
    found = {record["method"]: record for record in describe()}
    assert list(found) == list(METHODS)
    assert all(record["equation"] and record["source"] for record in found.values())
    assert found["tip_f"]["settings"]["epochs"] == 20 and not found["kd+text_encoder"]["verified"]
    assert found["cpl"]["equation"] == "sum_c w_c (log w_c - log p_c); z_i = <x_hat, C_i / |C_i|>"
    assert {m.partition("+")[2] or m for m in found} >= {"lp", "tp", "proto", "cpl"}
    assert {f"{loss}+{head}" for loss in ("ce", "kd", "aux", "adapt") for head in ("lp", "tp")} <= set(found)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"loss": "kd(tau_w=0)"}, SpecError, "tau_w=0.0 lies outside"),
        ({"loss": "gce(qq=0.7)"}, SpecError, "no parameter 'qq'"),
        ({"loss": "kd", "head": "adapter(scale=2)"}, SpecError, "scale=2.0 lies outside"),
        ({"loss": "kd", "head": "tip(alpah=1)"}, SpecError, "'alpha'"),
        ({"loss": "dkd"}, UsageError, "dkd(target='weak')"),
        ({"loss": "kd", "head": "prototype(init='class_mean')"}, UsageError, "init='weak_mean'"),
        ({"loss": "kd", "init": "class_mean"}, UsageError, "reads ground truth"),
        ({"loss": "kd", "head": "text_encoder"}, MissingText, "text tower"),
        ({"method": "kd+tp"}, MissingText, "text tower"),
        ({"loss": "kd", "head": "tip"}, MissingText, "init=weak_mean"),
        ({"loss": "kd", "head": "linear(init='zero_shot')"}, MissingText, "init=weak_mean"),
    ],
)
def test_what_is_wrong_or_missing_is_one_sentence(wrong: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        fit(gaussian_task(n=100, text=False), **wrong)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_ground_truth_may_be_asked_for() -> None:
    task = gaussian_task()
    row = last(
        fit(task, loss="ce", head="prototype(init='class_mean')", supervision="gt", seeds=1, **SHORT), "ce+proto"
    )
    assert row["init"] == "class_mean" and row["supervision"] == "gt"
    assert last(fit(task, loss="dkd(target='weak')", seeds=1, references=False, **SHORT), "dkd+lp")["status"] == "ok"
    mixed = fit(task, loss="dkd", w_gt=0.5, seeds=1, references=False, **SHORT)
    assert last(mixed, "dkd+lp")["status"] == "ok"


def test_without_text_heads_start_from_weak_means_and_their_ceilings_from_class_means() -> None:
    task = gaussian_task(text=False)
    results = fit(task, loss="kd", head=["adapter(init='weak_mean')", "tip(init='weak_mean')"], seeds=1, **SHORT)
    heads = {r["method"]: r["head"] for r in results.rows if r["supervision"] == "gt"}
    assert heads["ceiling+adapter"] == "adapter(init='class_mean')" and heads["ceiling+tip"] == "tip(init='class_mean')"
    assert replace(task, text=None).text is None and find_head("tip").max_stack == 1
