"""No supervision reads more than it says: labels of the pool and test images, changed, change no student."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from cases import QUICK

import w2s_fast as w2s
from w2s_fast import supervisions
from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.core.rows import STAGE_MADE_BY_TRUTH, without_truth
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests
from w2s_fast.supervisions.graph import Smooth
from w2s_fast.supervisions.strategy import Strategy
from w2s_fast.tasks.task import Task

STEPS = "teacher_steps=20"
VARIANTS: dict[str, tuple[str, ...]] = {
    "csl": (
        f"csl(levels='1-2-4', {STEPS})",
        f"csl(levels='1-2', assign='oracle', {STEPS})",
        f"csl(levels='1-2', order='semantic', level1='weak', {STEPS})",
        f"csl(levels='1-3', by='domain', assign='kl', keep=0.7, {STEPS})",
    ),
    "smooth": ("smooth", "smooth(transductive=True)"),
    "knn_relabel": ("knn_relabel", "knn_relabel(transductive=True)"),
    "two_stage": ("two_stage", "two_stage(by='knn')", "two_stage(by='agreement')"),
    "channel_em": ("channel_em(rounds=2)", "channel_em(transductive=True)"),
    "salience": ("salience", "salience(via='linear', reads='logits')", "salience(via='tip')"),
    "adapted": ("adapted(center='domain', smooth=0.5)", "adapted(smooth=0.5, transductive=True)"),
    "ensem_w2s_like": (f"ensem_w2s_like({STEPS})", "ensem_w2s_like(members='teachers')"),
}
"""Parameter values that read something else than the defaults do."""


def world(*, teachers: int = 2, noise: float = 0.4) -> Task:
    """Two weak models, three domains, a D_train of 160 rows, an encoder per weak model."""
    rng, n, k, d = np.random.default_rng(0), 400, 4, 12
    means, y = rng.normal(size=(k, d)), np.arange(n) % k
    x = means[y] + rng.normal(size=(n, d))
    weak: dict[int, Any] = {}
    for s in range(teachers):
        said = np.where(rng.random(n) < noise, rng.integers(0, k, n), y)
        weak[s] = 3.0 * np.eye(k)[said] + 0.5 * rng.normal(size=(n, k))
    return Task.from_arrays(
        features=x,
        weak_logits=weak,
        labels=y,
        text=means,
        ids=[f"item-{i}" for i in range(n)],
        d_train=np.arange(n) < 160,
        groups=[f"domain-{i % 3}" for i in range(n)],
        encoders={f"weak/{s}": x[:, :6] + rng.normal(size=(n, 6)) for s in range(teachers)},
    )


def with_labels(task: Task, labels: np.ndarray) -> Task:
    """The task and its splits, with other labels on the same rows."""
    split = task.splits(seed=0)
    made = replace(task, manifest=replace(task.manifest, labels=labels))
    object.__setattr__(made, "splits", lambda **_: split)
    return made


def student(task: Task, spec: str) -> tuple[w2s.Results, list[torch.Tensor]]:
    """Results of seed 0, and every student's parameters at the last epoch."""
    loss = "raven" if spec == "teachers" else "kd"
    results = w2s.fit(task, supervision=spec, seeds=[0], **{**QUICK, "loss": loss, "epochs": 2})
    return results, [value for one in results.fits for value in one.fitted.fit.theta["last"].values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def shown(results: w2s.Results) -> list[dict[str, Any]]:
    """What is seen of rows without ground truth, but for digests over the labels and what was measured in time."""
    digests = {"run_id", "question", "asked", "truth_digest", "preds"}
    rows = without_truth(results.rows)
    assert all(set(stage) <= set(STAGE_MADE_BY_TRUTH) for row in results.rows for stage in row["stages"] or ())
    return [{k: v for k, v in row.items() if k not in digests and not k.startswith("seconds")} for row in rows]


@pytest.mark.parametrize("spec", [v for name in supervisions.names() for v in VARIANTS.get(name, (name,))])
def test_rows_say_what_a_student_has_seen(spec: str) -> None:
    """`fusion` learns nothing, so nothing can change it but its inputs."""
    task = world()
    split, (results, theta) = task.splits(seed=0), student(task, spec)
    rng = np.random.default_rng(1)
    labels = task.manifest.labels.copy()
    labels[split.pool] = rng.integers(0, 4, len(split.pool))
    relabelled, other_truth = student(with_labels(task, labels), spec)
    assert {row["reads_truth"] for row in results.rows} == {not same(theta, other_truth)}
    assert shown(results) == shown(relabelled), "what is shown without ground truth does not change with it"
    test = torch.from_numpy(split.test)
    x, weak = task.features.clone(), {s: z.clone() for s, z in task.weak_logits.items()}
    x[test] += torch.randn(len(test), x.shape[1], generator=torch.Generator().manual_seed(2))
    for z in weak.values():
        z[test] = z[test].flip(1)
    _, other_images = student(replace(task, features=x, weak_logits=weak), spec)
    assert {row["transductive"] for row in results.rows} == {not same(theta, other_images)}


@pytest.mark.parametrize("spec", ["ensemble", "teachers", "two_stage(by='agreement')", "bootstrap"])
def test_a_run_that_others_teach_is_another_run(spec: str) -> None:
    """More weak models, other ones, or another encoder: rows of one may not replace rows of the other."""
    task = world()
    more, less_noise = world(teachers=3), world(noise=0.2)
    first = {row["run_id"] for row in student(task, spec)[0].rows}
    for other in (more, less_noise):
        assert not first & {row["run_id"] for row in student(other, spec)[0].rows}
    assert first == {row["run_id"] for row in student(world(), spec)[0].rows}


def test_a_loss_of_ones_own_sees_labels_only_where_it_says_so() -> None:
    def peeks(z: torch.Tensor, weak: Any, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(z, batch.labels, reduction="none")

    with pytest.raises(TrainError, match="peeks"):
        w2s.fit(world(), **{**QUICK, "loss": peeks})
    peeks.needs = {"labels"}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="peeks reads ground-truth labels"):
        w2s.fit(world(), **{**QUICK, "loss": peeks})
    rows = w2s.fit(world(), **{**QUICK, "loss": peeks}, w_gt=0.1).rows
    assert all(row["reads_truth"] for row in rows)


@dataclass(frozen=True, kw_only=True)
class SmoothAll(Smooth):
    transductive: bool = True


def test_a_supervision_with_test_images_by_default_is_transductive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(supervisions.SUPERVISIONS, "smooth_all", f"{__name__}:SmoothAll")
    assert all(row["transductive"] for row in student(world(), "smooth_all")[0].rows)


@pytest.mark.parametrize("spec", [*VARIANTS["two_stage"], "self_train", "bootstrap", "salience"])
def test_stages_in_double_precision(spec: str) -> None:
    found = w2s.fit(world(), supervision=spec, precision="fp64", **{**QUICK, "epochs": 2})
    assert all(row["status"] == "ok" for row in found.rows)


def test_full_batches_take_no_more_iterations_of_fewer_rows() -> None:
    for spec in ("retrain_confident_like(keep=0.25)", "select_random(keep=0.25)"):
        found = w2s.fit(world(), supervision=spec, solver="lbfgs", **{**QUICK, "epochs": 4})
        assert {one.fitted.fit.run.epochs for one in found.fits} == {4}


def test_specialists_of_few_rows_bound_a_large_batch() -> None:
    found = w2s.fit(world(), supervision=VARIANTS["csl"][0], **{**QUICK, "batch_size": 10**9, "epochs": 2})
    assert all(row["status"] == "ok" for row in found.rows)


def test_teachers_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="loss kd takes one teacher"):
        Experiment.of({"data": "drawn:sketch", "loss": "kd", "supervision": "teachers"})


@dataclass(frozen=True, kw_only=True)
class Stops(Strategy):
    """Ends in a wrong use that only its second round can see."""

    def requests(self, context: Context) -> FitRequests:
        yield [FitRequest(supervision=context.weak)]
        raise UsageError("enough")


def test_what_stops_half_way_keeps_the_rows_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(supervisions.SUPERVISIONS, "stops", f"{__name__}:Stops")
    monkeypatch.setattr(Study, "tasks", lambda *_, **__: iter([world()]))
    found: list[w2s.Results] = []
    asked = {
        "loss": "ce", "head": "linear", "data": "drawn:sketch", "supervision": ["weak", "stops"], "references": False,
        "settings": {"batch_size": 64, "epochs": 1},
    }  # fmt: skip
    with pytest.raises(UsageError, match="enough"):
        found += Study.of(Experiment.of(asked)).fit()
    assert [row["supervision"] for one in found for row in one.rows][:1] == ["weak"]
