"""The spine of supervisions: rounds, requests of one key, other rows and features, what rows tell, what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from supervision_worlds import SHORT, student_world
from torch import nn

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import DataError, SpecError, UsageError
from w2s_fast.core.rows import without_truth
from w2s_fast.core.specs import Spec
from w2s_fast.losses import Supervision
from w2s_fast.methods import run
from w2s_fast.methods.options import FitOptions
from w2s_fast.methods.plan import Plan
from w2s_fast.methods.resolve import resolve
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.strategy import Strategy

SEEN: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Twice(Strategy):
    """A student of a student, on every other (third, ...) row, of moved features."""

    scale: float = 1.0
    every: int = 2
    shared: bool = False
    transductive: bool = False

    limits: ClassVar[Mapping[str, Any]] = {"scale": "(0, inf)"}

    @property
    def stages(self) -> int:
        return 2

    def requests(self, context: Context) -> FitRequests:
        first = FitRequest(
            supervision=context.weak,
            head=Spec(name="linear"),
            loss=Spec(name="kd"),
            settings={"epochs": 2},
            scored=False,
            key="first" if self.shared else None,
        )
        (fit,) = yield [first]
        SEEN.append((context.method, fit))
        rows = context.split.train[:: self.every]
        own = context.shared.supervision(context.shared.log_probs(fit))
        request = FitRequest(
            supervision=own,
            train=rows,
            features=context.shared.once(("moved", self.scale), lambda: _moved(context.shared.features(), self.scale)),
            move=_Move(self.scale),
            text=context.task.text,
        )
        (student,) = yield [request]
        return Student(fit=student, request=request, details=({"stage": 1, "keep_rate": 0.5, "acc_teacher": 0.25},))


def _moved(x: torch.Tensor, scale: float) -> torch.Tensor:
    return scale + x.flip(-1)


class _Move(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _moved(x, self.scale)


@dataclass(frozen=True, kw_only=True)
class Nothing(Strategy):
    """Asks for no fit, or keeps no row."""

    round: bool = False

    def requests(self, context: Context) -> FitRequests:
        none = np.empty(0, np.int64)
        request = FitRequest(supervision=context.weak, train=none)
        (fit,) = yield ([request] if self.round else [])
        return Student(fit=fit, request=request)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    for name, cls in (("twice", Twice), ("nothing", Nothing)):
        monkeypatch.setitem(supervisions.SUPERVISIONS, name, f"{__name__}:{cls.__name__}")


def test_weak_and_ground_truth_are_what_they_were() -> None:
    task = student_world()
    plain = w2s.fit(task, method="kd+lp", seeds=2, **SHORT)
    named = w2s.fit(task, method="kd+lp", seeds=2, supervision="weak", **SHORT)
    assert [r["run_id"] for r in plain.rows] == [r["run_id"] for r in named.rows]
    truth = w2s.fit(task, method="kd+lp", seeds=2, supervision="gt", **SHORT)
    assert {r["supervision"] for r in truth.rows} == {"gt"} and all(r["reads_truth"] for r in truth.rows)
    acc = {name: np.mean([r["acc_w2s"] for r in found.rows]) for name, found in (("weak", plain), ("gt", truth))}
    assert acc["gt"] >= acc["weak"]


def test_a_second_round_is_taught_by_the_first() -> None:
    task = student_world()
    results = w2s.fit(task, method="kd+lp", supervision="twice(scale=3)", seeds=2, **SHORT)
    assert len(SEEN) == 2
    for one in results.fits:
        first = next(fit for _, fit in SEEN if fit.run.seed == one.seed)
        theta, rows = first.theta["last"], one.split.train[::2]
        x = task.features / task.features.norm(dim=1, keepdim=True)
        said = (10 * x @ theta["weight"].T + theta["bias"]).log_softmax(-1)
        # the same by hand: the engine alone, on the first student's log-probabilities
        by_hand = next(
            run.fit_heads(
                _moved(task.features, 3.0),
                [replace(one.fitted.fit.run, head=Spec(name="linear"), loss=Spec(name="kd"), split=0, supervision=0)],
                splits=[type(one.split)(**{**vars(one.split), "train": rows})],
                supervisions=[Supervision(weak=said)],
                start=run.Start(k=4, d=12, names=task.classes, text=task.text),
                truth=task.labels,
            )
        )  # fmt: skip
        torch.testing.assert_close(one.fitted.fit.theta["last"]["weight"], by_hand.theta["last"]["weight"])
        assert len(rows) == one.fitted.fit.resolved["n_train"]
    for row in results.rows:
        assert row["n_train"] == len(task.splits(seed=row["seed"]).train[::2])
        assert row["stages"] == [{"stage": 1, "keep_rate": 0.5, "acc_teacher": 0.25}]
        assert row["method"] == "kd+lp[twice(scale=3)]" and row["supervision"] == "twice(scale=3)"
    assert {tuple(stage) for row in without_truth(results.rows) for stage in row["stages"]} == {("stage", "keep_rate")}


def test_the_taken_out_head_moves_raw_features() -> None:
    task = student_world()
    results = w2s.fit(task, method="kd+lp", supervision="twice(scale=3)", seeds=1, **SHORT)
    [one] = results.fits
    said = results.best("last").to_torch()(task.features).argmax(-1)
    assert np.array_equal(said.numpy()[one.split.test], one.predicted["last"])


def test_requests_of_one_key_are_fitted_once() -> None:
    task = student_world()
    for shared, fits in ((False, 4), (True, 2)):
        SEEN.clear()
        w2s.fit(task, method=["kd+lp", "ce+lp"], supervision=f"twice(shared={shared})", seeds=2, **SHORT)
        assert len(SEEN) == 4 and len({id(fit) for _, fit in SEEN}) == fits
    SEEN.clear()  # also where one of them asks in a later round
    w2s.fit(task, method="kd+lp", supervision="twice(shared=True)", seeds=2, lr=[0.01, 0.02], **SHORT)
    assert len({id(fit) for _, fit in SEEN}) == 4, "other settings are another fit"


def test_arms_of_one_seed_may_train_on_other_rows() -> None:
    task = student_world()
    results = w2s.fit(task, method="kd+lp", supervision=["twice(every=2)", "twice(every=3)"], seeds=1, **SHORT)
    n = len(task.splits(seed=0).train)
    assert [one.fitted.fit.resolved["n_train"] for one in results.fits] == [-(-n // 2), -(-n // 3)]


def test_transductive_students_are_ranked_apart() -> None:
    task = student_world()
    given = {**SHORT, "references": True}
    results = w2s.fit(task, method="kd+lp", supervision=["weak", "twice(transductive=True)"], seeds=2, **given)
    table = results.table()
    groups = {line.group: [x.system for x in table.rows if x.group == line.group] for line in table.rows}
    assert len(groups) == 2
    inductive, seen = groups["arrays (inductive)"], groups["arrays (transductive)"]
    assert "kd+lp" in inductive and not any("twice" in name for name in inductive)
    assert "kd+lp[twice(transductive=True)]" in seen and "kd+lp" not in seen
    assert {"weak", "zero-shot", "ceiling+lp", "best ceiling"} <= set(inductive) & set(seen)
    cells = {(x.group, x.system): x.cells[0] for x in table.rows}
    for name in ("weak", "ceiling+lp"):
        assert cells["arrays (inductive)", name].value == cells["arrays (transductive)", name].value
    runs = [(r["run_id"], r["selection"]) for r in results.rows]
    assert len(runs) == len(set(runs))


def test_transductive_rows_survive_a_file(tmp_path: Any) -> None:
    task = student_world()
    results = w2s.fit(task, method="kd+lp", supervision=["weak", "twice(transductive=True)"], seeds=2, **SHORT)
    results.save(tmp_path / "r.jsonl")
    again = w2s.Results.load(tmp_path / "r.jsonl")
    assert [x.cells for x in again.table().rows] == [x.cells for x in results.table().rows]


def test_several_supervisions_have_names_of_their_own() -> None:
    found = resolve(method=["kd+lp", "cpl"], supervision=["weak", "gt", "twice(scale=[1, 2])"])
    assert [m.name for m in found] == [
        f"{name}{told}" for name in ("kd+lp", "cpl") for told in ("", "[gt]", "[twice(scale=1)]", "[twice(scale=2)]")
    ]
    assert [str(m.supervision) for m in found[:4]] == ["weak", "gt", "twice", "twice(scale=2)"]


@pytest.mark.parametrize(
    ("supervision", "error", "words"),
    [
        ("twise", SpecError, "no supervision 'twise'; did you mean 'twice'"),
        ("twice(scal=1)", SpecError, "supervision 'twice' has no parameter 'scal'"),
        ("twice(scale=0)", SpecError, "scale=0.0 lies outside"),
        ("nothing", UsageError, "asks for no fit"),
        ("nothing(round=True)", UsageError, "keeps no row"),
    ],
)
def test_what_is_wrong_is_one_sentence(supervision: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as told:
        w2s.fit(student_world(), method="kd+lp", supervision=supervision, **SHORT)
    assert words in str(told.value)


def test_a_method_named_after_its_supervision_takes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from w2s_fast.methods.method import Method
    from w2s_fast.methods.presets import METHODS

    twice = Method(name="twice+lp", head=Spec(name="linear"), loss=Spec(name="kd"), supervision=Spec(name="twice"))
    monkeypatch.setitem(METHODS, "twice+lp", twice)
    assert [str(m.supervision) for m in resolve(method="twice+lp")] == ["twice"]
    with pytest.raises(UsageError, match="has its own supervision twice; for weak give its head and its loss"):
        resolve(method="twice+lp", supervision="weak")


def test_rows_without_d_train_are_no_ones(tmp_path: Any) -> None:
    task = student_world(d_train=200)
    split = task.splits(seed=0)
    assert sorted(split.weak_train) == list(range(200)) and split.pool.min() >= 200
    with pytest.raises(DataError, match="d_train"):
        w2s.Task.from_arrays(features=np.ones((4, 2)), weak_logits=np.ones((4, 2)), labels=[0, 1, 0, 1], d_train=[1, 0])
    with pytest.raises(DataError, match="encoder 'a' has 3 rows"):
        w2s.Task.from_arrays(
            features=np.ones((4, 2)), weak_logits=np.ones((4, 2)), labels=[0, 1, 0, 1], encoders={"a": np.ones((3, 2))}
        )
    with pytest.raises(UsageError, match="no encoder 'weak/7'"):
        assert task.open_features is not None
        task.open_features("weak/7")


def test_outlines_count_stages() -> None:
    task = student_world()
    asked = FitOptions(
        method=("kd+lp",),
        supervision=("weak", "twice"),
        seeds=(0, 1),
        references=False,
        settings={"epochs": 1, "batch_size": 8},
    )
    trials = Plan.of(asked).trials(task)
    assert [run.split for run in run.outlined_runs(task, trials, [0, 1])] == [0, 1, 0, 0, 1, 1]
