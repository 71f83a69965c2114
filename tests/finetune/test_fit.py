"""The loop: interrupted fits end at the same bits, selections are named, what cannot be trained is one sentence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_worlds import SHORT, judge, pictures, small, views

from w2s_fast.core.errors import DataError, ModelError, TrainError, UsageError
from w2s_fast.finetune.fit import NetworkFit, fit_network
from w2s_fast.finetune.objective import part_of
from w2s_fast.finetune.teachers import LiveTeacher
from w2s_fast.losses import make

FULL = replace(
    SHORT,
    augment="crop(pad=1), flip, mixup(alpha=0.4)",
    loss="adapt_conf(ramp=0.5)",
    ema=0.9,
    optimizer="adam",
    lr=0.01,
)
HERE = Path(__file__).parent


def fitted(folder: Path | None = None, training=FULL, *, seed: int = 3, until=None, progress=None):
    pixels, labels = pictures()
    model = small(seed)
    fit = fit_network(
        model, views(pixels, training.augment), labels, training=training, seed=seed, k=3,
        teacher=LiveTeacher(module=small(9)), evaluate=judge(pixels, labels), keep=("oracle",),
        folder=folder, save_seconds=0, stopped=until or (lambda: False), progress=progress,
    )  # fmt: skip
    return model, fit


def same(one: NetworkFit, other: NetworkFit) -> None:
    assert one.curves.keys() == other.curves.keys() and one.epoch == other.epoch and one.steps == other.steps
    for name, values in one.curves.items():
        np.testing.assert_array_equal(values, other.curves[name], err_msg=name)
    for selection, parts in one.predicted.items():
        for part, found in parts.items():
            np.testing.assert_array_equal(found, other.predicted[selection][part])
    for selection, weights in one.weights.items():
        assert all(torch.equal(v, other.weights[selection][k]) for k, v in weights.items())


def test_twenty_kills_and_the_same_bits(tmp_path: Path) -> None:
    """Each child of one process goes on from the state and kills itself with SIGKILL at a random later step."""
    script = f"""
import os, random, signal, sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent / "worlds")!r}]
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_fit import fitted
folder = Path({str(tmp_path / "state")!r})
rng = random.Random(5)
fitted()  # what is imported late is imported once
killed = 0
for _ in range(20):
    left = rng.randint(1, 5)
    child = os.fork()
    if child == 0:
        done = [0]
        def tick(step, total, loss):
            done[0] += 1
            if done[0] == left: os.kill(os.getpid(), signal.SIGKILL)
        fitted(folder, progress=tick)
        os._exit(0)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
print(killed)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert int(told.stdout) >= 15
    model, fit = fitted(tmp_path / "state")
    again, whole = fitted()
    same(whole, fit)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_stopped_fit_goes_on(tmp_path: Path, step: int) -> None:
    steps: list[int] = []
    _, half = fitted(tmp_path, until=lambda: len(steps) == step, progress=lambda *a: steps.append(a[0]))
    assert (half.status, half.steps) == ("stopped", step)
    _, fit = fitted(tmp_path)
    same(fitted()[1], fit)
    model, done = fitted(tmp_path, progress=lambda *a: pytest.fail("nothing is left to do"))
    same(done, fit)
    assert not model.training


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fitted(tmp_path, replace(FULL, epochs=1))
    with pytest.raises(UsageError, match=r"lr = 0\.01, and 0\.02 is asked for"):
        fitted(tmp_path, replace(FULL, epochs=1, lr=0.02))
    with pytest.raises(UsageError, match="seed = 3, and 4"):
        fitted(tmp_path, replace(FULL, epochs=1), seed=4)
    pixels, labels = pictures()
    with pytest.raises(ModelError, match="another architecture"):
        fit_network(
            small(3, channels=4), views(pixels, FULL.augment), labels, training=replace(FULL, epochs=1), seed=3, k=3,
            teacher=LiveTeacher(module=small(9)), folder=tmp_path,
        )  # fmt: skip


def test_selections_name_their_epochs() -> None:
    _, fit = fitted(training=replace(SHORT, epochs=6))
    assert fit.epoch["last"] == 6 and len(fit.curves["acc_val"]) == 7
    for selection, curve in (("oracle", "acc_val"), ("weak_val", "agree_val"), ("test_best", "acc_test")):
        assert fit.epoch[selection] == int(np.argmax(fit.curves[curve]))
    assert np.isnan(fit.curves["loss"][0]) and np.isfinite(fit.curves["loss"][1:]).all()
    assert fit.curves["loss"][6] < fit.curves["loss"][1]
    pixels, labels = pictures()
    best = small()
    best.load_state_dict(fit.weights["oracle"])
    found = judge(pixels, labels)(best.eval()).scores["acc_val"]
    assert found == fit.curves["acc_val"].max()


def test_accumulation_is_the_whole_batch_without_batch_norm() -> None:
    pixels, labels = pictures()
    results = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
        training = replace(SHORT, accumulate=parts, augment="none", epochs=2)
        fit_network(model, views(pixels, "none"), labels, training=training, seed=0, k=3)
        results.append(model[1].weight.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_the_teacher_is_heard_until_it_is_reached() -> None:
    pixels, labels = pictures()
    calls: list[int] = []

    class Counted(LiveTeacher):
        def logits(self, view, rows, epoch):
            calls.append(epoch)
            return super().logits(view, rows, epoch)

    training = replace(SHORT, loss="kd", until="teacher", epochs=6)
    fit = fit_network(
        small(), views(pixels), labels, training=training, seed=0, k=3, teacher=Counted(module=small(9)),
        teacher_score=0.5, evaluate=judge(pixels, labels),
    )  # fmt: skip
    reached = int(np.argmax(fit.curves["acc_val"][1:] >= 0.5)) + 1
    assert fit.off_since == reached and set(calls) == set(range(reached))


def test_ramps_are_by_epoch_and_full_from_the_truncated_one() -> None:
    aux = make("aux_conf_argmax(alpha=0.5, warmup=0.3)")
    expected = {0: 0.0, 1: 0.00694444, 36: 0.25, 71: 0.49305556, 72: 0.5}
    for epoch, value in expected.items():
        assert 0.5 * min(1, part_of(epoch, 240, aux) / 0.3) == pytest.approx(value, abs=1e-7)
    quarter = make("aux_conf_argmax(warmup=0.25)")
    assert part_of(16, 71, quarter) / 0.25 == pytest.approx(16 / 17.75)
    assert part_of(17, 71, quarter) == 0.25


def test_what_cannot_be_trained_is_said() -> None:
    pixels, labels = pictures()
    data = views(pixels, "none")

    def run(training, given=labels, **more):
        return fit_network(small(), data, given, training=replace(training, augment="none"), seed=0, k=3, **more)

    teacher = LiveTeacher(module=small(9))
    with pytest.raises(UsageError, match="dkd needs ground truth, and gt=0"):
        run(replace(SHORT, loss="dkd", gt=0), teacher=teacher)
    with pytest.raises(UsageError, match="loss kd needs a teacher"):
        run(replace(SHORT, loss="kd"))
    with pytest.raises(UsageError, match="nothing to learn from"):
        run(replace(SHORT, loss="kd", gt=0, until="teacher"), teacher=teacher)
    with pytest.raises(UsageError, match="there must be a loss"):
        replace(SHORT, gt=0)
    with pytest.raises(UsageError, match="gt=1.0 needs ground-truth labels"):
        run(replace(SHORT, loss="kd"), given=None, teacher=teacher)
    with pytest.raises(DataError, match="label 2, but 2 outputs"):
        fit_network(small(), data, labels, training=SHORT, seed=0, k=2)
    with pytest.raises(TrainError, match="the loss is .* at step"):
        run(replace(SHORT, lr=1e30, schedule="constant"))
    with pytest.raises(UsageError, match="does not say which layer"):
        run(replace(SHORT, layer_decay=0.65))
    with pytest.raises(UsageError, match="Small has none; take a timm network"):
        run(replace(SHORT, checkpointing=True))


def test_label_free_training_reads_no_labels() -> None:
    pixels, labels = pictures()
    results = []
    for given in (None, labels):
        model = small()
        fit_network(
            model, views(pixels), given, training=replace(SHORT, gt=0, loss="kd"), seed=0, k=3,
            teacher=LiveTeacher(module=small(9)),
        )  # fmt: skip
        results.append(model.state_dict())
    assert all(torch.equal(v, results[1][k]) for k, v in results[0].items())
