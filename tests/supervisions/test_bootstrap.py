"""A ladder of encoders: links against a loop of plain fits; a jump that copies errors, a chain that cannot see them."""

from __future__ import annotations

import numpy as np
import pytest
from cases import accuracy, flipped, student, taught_p, weak_p
from supervision_worlds import student_world
from test_self_training import plain

from w2s_fast import supervisions
from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.tasks.task import Task


def ladder_task(*, n: int = 500, seed: int = 0) -> Task:
    """The strong encoder sees the weak model's answer, so that it can copy errors; encoders below see less of all."""
    rng, k, d = np.random.default_rng(seed), 4, 16
    means, y = rng.normal(size=(k, d)), np.arange(n) % k
    said = flipped(y, k, 0.5, rng)
    x = np.hstack([means[y] + 0.5 * rng.normal(size=(n, d)), 6 * np.eye(k)[said]])
    middle, low = means[y] + 1.3 * rng.normal(size=(n, d)), means[y] + 2 * rng.normal(size=(n, d))
    return Task.from_arrays(
        features=x, weak_logits=4.0 * np.eye(k)[said], labels=y, encoders={"low": low, "middle": middle, "weak/0": low}
    )


@pytest.mark.parametrize("hard", [False, True])
def test_links_are_plain_fits_one_after_another(hard: bool) -> None:
    task = ladder_task()
    train, table = task.splits(seed=0).train, weak_p(task)
    right: list[float] = []
    assert task.open_features is not None
    for name in ("low", "middle"):
        space = Task.from_arrays(
            features=task.open_features(name), weak_logits=task.weak_logits[0], labels=task.labels, ids=task.ids
        )
        table = plain(space, table, train, 3)
        right.append(float((table.argmax(1) == task.manifest.labels)[task.splits(seed=0).test].mean()))
        table = np.eye(4)[table.argmax(1)] if hard else table
    found = student(task, f"bootstrap(ladder='low, middle', hard={hard})", loss="kd", epochs=3)
    np.testing.assert_allclose(taught_p(found), table, atol=2e-5)
    stages = found.stages
    assert [(s["link"], s["encoder"]) for s in stages] == [(1, "low"), (2, "middle")]
    assert [s["acc_test"] for s in stages] == pytest.approx(right) and supervisions.make(found.supervision).stages == 3
    assert found.fitted.features is None, "the student sees the task's own features"


def test_a_chain_wins_where_the_jump_copies_errors() -> None:
    task = ladder_task(n=800)
    naive = accuracy(task, "weak")
    for ladder in ("middle", "low, middle"):
        assert accuracy(task, f"bootstrap(ladder='{ladder}')") > naive + 0.3
    assert accuracy(task, "self_train") < naive + 0.1, "as many students without the ladder"


def test_an_empty_ladder_is_the_weak_models_own_encoder() -> None:
    task = ladder_task()
    own, named = student(task, "bootstrap"), student(task, "bootstrap(ladder='low')")
    np.testing.assert_allclose(taught_p(own), taught_p(named), atol=1e-7)
    assert own.stages[0]["encoder"] == "weak/0" and supervisions.make(own.supervision).stages == 2


def test_another_head_on_the_ladder() -> None:
    found = student(ladder_task(), "bootstrap(ladder='middle', head=\"prototype(init='weak_mean')\")")
    assert found.status == "ok" and str(found.head) == "linear"


@pytest.mark.parametrize(("spec", "match"), [
    ("bootstrap(head=\"linear(init='class_mean')\")", "ground truth"),
    ("bootstrap(head='prototype')", "text features"), ("bootstrap(head='prompt')", "text features"),
    ("bootstrap(head='linaer')", "linear"), ("bootstrap(steps=2)", "no parameter"),
])  # fmt: skip
def test_specs_that_do_not_fit(spec: str, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        supervisions.make(spec)


def test_an_unknown_encoder_and_a_task_without_any() -> None:
    with pytest.raises(UsageError, match="middle"):
        student(ladder_task(), "bootstrap(ladder='midle')")
    task = student_world(n=100)
    bare = Task.from_arrays(features=task.features, weak_logits=task.weak_logits[0], labels=task.labels)
    with pytest.raises(UsageError, match="encoders"):
        student(bare, "bootstrap")
