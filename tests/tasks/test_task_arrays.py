"""What users pass by hand: arrays, settings and functions that are wrong in common ways, each told in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import gaussian_task

from w2s_fast.core.errors import DataError, TrainError, UsageError
from w2s_fast.core.specs import parse
from w2s_fast.methods.fit import fit
from w2s_fast.methods.grid import grid_of
from w2s_fast.tasks.task import Task

RNG = np.random.default_rng(0)
X, Z, Y = RNG.normal(size=(60, 4)), RNG.normal(size=(60, 3)), np.arange(60) % 3


def task(**change: Any) -> Task:
    return Task.from_arrays(**{"features": X, "weak_logits": Z, "labels": Y, **change})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"labels": [f"c{y}" for y in Y]}, "labels: its values are of type <U.*number the classes from 0"),
        ({"labels": np.array([f"c{y}" for y in Y], object)}, "labels: its values are of type object"),
        ({"labels": None}, "labels: its values are of type object"),
        ({"labels": Y + 0.5}, "labels: row 0 is 0.5, not a whole number"),
        ({"labels": np.where(Y == 2, np.nan, Y)}, "labels: row 2 is nan, not a whole number"),
        ({"labels": np.where(Y == 2, np.inf, Y)}, "labels go from 0.0 to inf"),
        ({"labels": np.where(Y == 2, 2**63, Y.astype(np.uint64))}, "labels go from 0 to 9223372036854775808"),
        ({"labels": [[1], [2, 3]]}, "labels: it is not an array"),
        ({"weak_logits": {}}, "weak_logits is empty"),
        ({"weak_logits": {"a": Z}}, "the weak seed 'a' is not an integer"),
        ({"weak_logits": {0.5: Z}}, r"the weak seed 0.5 is not an integer"),
        ({"weak_logits": {True: Z}}, "the weak seed True is not an integer"),
        ({"features": X + 1j}, "features: its values are of type complex128"),
        ({"features": torch.tensor(X + 1j).conj()}, "features: its values are of type complex128"),
        ({"features": "photos"}, "features: its values are of type <U6"),
        ({"features": X * 1e300}, "features: row 0 holds NaN or infinity"),
        ({"text": np.diag([1.0, 1, 0, 0])[:3]}, r"text: row 2 \('2'\) is all zero"),
    ],
)
def test_arrays_that_are_no_numbers_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        task(**change)


def test_arrays_of_any_layout_and_owner_just_work() -> None:
    expected = task()
    frozen = X.copy()
    frozen.flags.writeable = False
    with_grad = torch.tensor(X, requires_grad=True)
    backwards = X[::-1].copy()[::-1]
    assert backwards.strides[0] < 0
    swapped = X.astype(">f8")
    for features in (frozen, with_grad, backwards, swapped, X.tolist(), np.asfortranarray(X)):
        made = task(features=features)
        assert torch.equal(made.features, expected.features) and not made.features.requires_grad
        assert made.ids == expected.ids
    half = task(features=torch.tensor(X).bfloat16()).features
    assert torch.equal(half, torch.tensor(X).bfloat16().float())
    for labels in (Y[::-1].copy()[::-1], Y.astype(float), torch.tensor(Y), Y.astype(np.uint8), Y.tolist()):
        assert torch.equal(task(labels=labels).labels, expected.labels)
    seeds = task(weak_logits={np.int64(3): torch.tensor(Z, requires_grad=True)}).weak_logits
    assert list(seeds) == [3] and torch.equal(seeds[3], expected.weak_logits[0])


def test_a_task_does_not_hold_on_to_a_frozen_callers_array() -> None:
    mine = X.astype(np.float32)
    mine.flags.writeable = False
    made = task(features=mine)
    made.features[0] = 7
    assert (mine[0] != 7).all()


@pytest.mark.parametrize(
    "values, words",
    [
        ({"epochs": []}, "epochs is an empty list"),
        ({"init": ()}, "init is an empty list"),
        ({"solver": 3}, "solver must be a name such as 'adam', not 3"),
        ({"schedule": 3}, r"schedule must be a name such as 'linear\(warmup=0.1\)', not 3"),
        ({"weight_decay": "nan"}, "weight_decay must be a number, not 'nan'"),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number of at least 0, not nan"),
        ({"w_gt": -1}, "w_gt must be a finite number of at least 0"),
        ({"lr": float("inf")}, "lr must be a finite number above 0, not inf"),
        ({"lr": float("nan")}, "lr must be a finite number above 0, not nan"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"epochs": float("inf")}, "epochs must be a whole number, not inf"),
        ({"epochs": float("nan")}, "epochs must be a whole number, not nan"),
        ({"epochs": "2"}, "epochs must be a whole number, not '2'"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_settings_that_are_none_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid_of(values)


def test_numpy_numbers_arrays_ranges_and_specs_are_settings() -> None:
    [point] = grid_of({"epochs": np.int64(2), "lr": np.float32(0.5), "batch_size": 64.0, "solver": parse("sgd")})
    s = point.settings
    assert (s.epochs, s.lr, s.batch_size, s.solver) == (2, 0.5, 64, "sgd")
    assert type(s.epochs) is int and type(s.lr) is float and type(s.batch_size) is int
    assert [p.settings.epochs for p in grid_of({"epochs": range(1, 4)})] == [1, 2, 3]
    assert [p.label for p in grid_of({"lr": np.array([0.1, 0.2])})] == ["lr=0.1", "lr=0.2"]


def loss_of(tmp_path: Path, body: str) -> Any:
    path = tmp_path / "my.py"
    path.write_text(f"import torch\n\ndef mine(z, weak, ctx):\n    {body}\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    return space["mine"]


@pytest.mark.parametrize(
    "body, words",
    [
        ("return z.sum(-1) / (1 // 0)", r"your loss mine \(.*my\.py:4\) raised ZeroDivisionError: "),
        ("return ctx.nothing", r"your loss mine \(.*my\.py:4\) raised AttributeError: "),
        ("raise KeyError", r"your loss mine \(.*my\.py:4\) raised KeyError; fix"),
        ("return weak.probs.sum(-1)", r"your loss mine \(.*my\.py:3\) returned values that do not depend on z"),
        ("return (z.argmax(-1) == 0).float()", r"my\.py:3\) returned values that do not depend on z"),
        ("return z.mean()", r"my\.py:3\) returned \(\), not one value per sample"),
    ],
)
def test_a_function_that_fails_is_named(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        fit(gaussian_task(n=60), loss=loss_of(tmp_path, body), head="linear", seeds=2, epochs=1, references=False)


def test_a_callable_object_is_named_by_its_class(tmp_path: Path) -> None:
    class Mine:
        def __call__(self, z: Any, weak: Any, ctx: Any) -> Any:
            raise ValueError("no")

    with pytest.raises(TrainError, match=r"your loss Mine \(.*test_task_arrays\.py:\d+\) raised ValueError: no"):
        fit(gaussian_task(n=60), loss=Mine(), head="linear", epochs=1, references=False)
