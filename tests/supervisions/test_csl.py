"""Co-supervised learning against a re-statement of its authors' script, and where theory says that it must win."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from csl_restated import blocks_of, restated, shaped, trained
from csl_worlds import block_world, domain_worlds

from w2s_fast import fit, supervisions
from w2s_fast.core.errors import SpecError, TrainError, UsageError
from w2s_fast.methods import run
from w2s_fast.results.results import Results
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.csl import CSL, kept_rows
from w2s_fast.supervisions.fit_request import FitRequest
from w2s_fast.supervisions.specialists import bisected, blocks
from w2s_fast.tasks.pooling import pool_tasks
from w2s_fast.tasks.task import Task


def world(*, n: int = 360, k: int = 5, seed: int = 0) -> Task:
    """Gaussian classes; a weak encoder that sees them through much noise; half of the rows are D_train."""
    rng = np.random.default_rng(seed)
    means, weak_means = rng.normal(size=(k, 10)), rng.normal(size=(k, 6))
    labels = np.arange(n) % k
    x = means[labels] + rng.normal(size=(n, 10))
    z = weak_means[labels] + 1.2 * rng.normal(size=(n, 6))
    return Task.from_arrays(
        features=x,
        weak_logits=2.0 * z @ weak_means.T,
        labels=labels,
        ids=[f"item-{i}" for i in range(n)],
        d_train=np.arange(n) < n // 2,
        encoders={"weak/0": z},
    )


def bare() -> Task:
    """A task without D_train."""
    x = np.random.default_rng(0).normal(size=(80, 4))
    return Task.from_arrays(features=x, weak_logits=x, labels=np.arange(80) % 4, encoders={"weak/0": x})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[FitRequest]]:
    """The rounds that the supervision asks for."""
    rounds: list[Sequence[FitRequest]] = []
    own = CSL.requests

    def recorded(self: CSL, context: Context) -> Iterator[Any]:
        requests, answer = own(self, context), None
        while True:
            try:
                wanted = requests.send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            rounds.append(wanted)
            answer = yield wanted

    monkeypatch.setattr(CSL, "requests", recorded)
    return rounds


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("csl(levels='1-2-4', teacher_steps=12)", {"levels": [1, 2, 4]}),
        (
            "csl(levels='1-2-4', teacher_steps=12, hard=True, keep='top1')",
            {"levels": [1, 2, 4], "hard": True, "top": 1},
        ),
        ("csl(levels='1-3', teacher_steps=12, assign='kl', keep='top2')", {"levels": [1, 3], "assign": "kl", "top": 2}),
        ("csl(levels='1-3', teacher_steps=12, assign='oracle', keep='all')", {"assign": "oracle", "top": None}),
    ],
)
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-5), ("fp64", 1e-9)])
def test_assignments_kept_rows_and_students_are_those_of_the_restated_script(
    spec: str, told: dict[str, Any], precision: str, atol: float, asked: list[Sequence[FitRequest]]
) -> None:
    task = world()
    split = task.splits(seed=0)
    loss = "ce" if told.get("hard") else "kd"
    plain = {"head": "linear", "epochs": 4, "batch_size": 32, "lr": 1e-2, "references": False, "seeds": 1}
    results = fit(task, loss=loss, supervision=spec, precision=precision, **plain)
    naive = restated(
        task.features.numpy(),
        task.open_features("weak/0").numpy(),  # type: ignore[misc]
        task.manifest.labels,
        d_train=split.weak_train,
        train=split.train,
        epochs=4,
        batch=32,
        lr=1e-2,
        steps=12,
        seed=0,
        **{"levels": [1, 3], "hard": False, "top": 3, "assign": "block", **told},
    )
    details = results.rows[0]["stages"]
    assert details is not None and [d["epochs"] for d in details] == naive.epochs
    assert any(len(kept) < len(split.train) for kept in naive.kept) or told.get("top", 3) is None
    for requests, table, kept in zip(asked[1:], naive.labels, naive.kept, strict=True):
        [request] = requests
        assert request.train is not None and request.train.tolist() == kept
        said = request.supervision.weak.double().softmax(-1).numpy()
        wanted = np.eye(5)[table.argmax(1)] if told.get("hard") else table
        np.testing.assert_allclose(said, wanted, atol=2 * atol)
    theta = results.fits[0].fitted.fit.theta["last"]
    last = naive.students[-1]
    np.testing.assert_allclose(theta["weight"].numpy(), last.weight.detach().numpy(), rtol=atol, atol=atol)
    np.testing.assert_allclose(theta["bias"].numpy(), last.bias.detach().numpy(), rtol=atol, atol=atol)
    right = np.array([table.argmax(1) == task.manifest.labels for table in naive.labels])
    for place, d in enumerate(details):
        kept = naive.kept[place]
        assert d["acc_teacher"] == pytest.approx(right[place][split.train].mean())
        assert d["precision_kept"] == pytest.approx(right[place][kept].mean())
        assert d["recall_kept"] == pytest.approx(right[place][kept].sum() / right[place][split.train].sum())
        assert d["keep_rate"] == pytest.approx(len(kept) / len(split.train)) and d["n_kept"] == len(kept)
        if d["level"] > 1:
            own = [next(i for i, b in enumerate(blocks_of(5, d["level"])) if y in b) for y in task.manifest.labels]
            agree = np.array(naive.assigned[place]) == np.array(own)
            assert d["acc_assign"] == pytest.approx(agree[split.train].mean())


def accuracy(results: Results) -> dict[str, float]:
    """Supervision -> accuracy of its student, mean over seeds."""
    found: dict[str, list[float]] = {}
    for row in results.rows:
        if row["selection"] == "last":
            found.setdefault(row["supervision"], []).append(row["acc_w2s"] or 0.0)
    return {name: float(np.mean(values)) for name, values in found.items()}


QUICK: dict[str, Any] = {"head": "linear", "epochs": 10, "batch_size": 64, "references": False, "seeds": 2}


@pytest.mark.parametrize("seed", [0, 1])
def test_disjoint_specialists_beat_the_generalist_and_their_own_ensemble_by_far(seed: int) -> None:
    task = block_world(seed=seed)
    csl, generalist, oracle = (
        f"csl({args}, teacher_steps=200)"
        for args in ("levels='1-2-4'", "levels='1'", "assign='oracle', levels='1-2-4'")
    )
    found = accuracy(fit(task, loss="ce", supervision=["weak", csl, generalist, oracle], **QUICK))
    assert found[csl] > found["weak"] + 0.1 and found[csl] > found[generalist] + 0.1
    assert found[oracle] > found[csl]
    ensemble = accuracy(fit(_taught_by_all(task), loss="ce", supervision="weak", **QUICK))["weak"]
    assert found[csl] > ensemble + 0.1


def _taught_by_all(task: Task) -> Task:
    """The task with the mean probabilities of four specialists for a weak model."""
    z, y = shaped(task.open_features("weak/0").numpy()), task.labels  # type: ignore[misc]
    d_train = task.splits(seed=0).weak_train
    said = []
    for block in blocks_of(8, 4):
        rows = d_train[np.isin(y.numpy()[d_train], block)]
        probe = trained(z[rows], y[rows], k=8, epochs=50, batch=64, lr=1e-2, seed=0)
        said.append(torch.softmax(probe(z), 1).detach())
    return replace(task, weak_logits={0: torch.stack(said).mean(0).log().float()})


def test_domain_specialists_assigned_by_kl_win_on_pooled_domains() -> None:
    task = pool_tasks(domain_worlds())
    kl, oracle = (f"csl(assign='{a}', by='domain', levels='1-3', teacher_steps=200)" for a in ("kl", "oracle"))
    results = fit(task, loss="kd", supervision=["weak", kl, oracle], **QUICK)
    found = accuracy(results)
    assert found[kl] > found["weak"] + 0.12 and found[oracle] > found[kl]
    [first, second] = next(r for r in results.rows if r["supervision"] == kl)["stages"] or ()
    assert (first["level"], second["level"]) == (1, 3) and second["acc_assign"] > 0.5  # 1/3 by chance
    assert second["acc_teacher"] > first["acc_teacher"] + 0.15
    assert all(r["reads_truth"] == (r["supervision"] == oracle) for r in results.rows)


@pytest.mark.parametrize("order", ["label", "random", "semantic"])
def test_blocks_need_not_divide_the_classes_and_may_be_in_any_order(
    order: str, asked: list[Sequence[FitRequest]]
) -> None:
    task = world(k=7, n=280)
    spec = f"csl(levels='1-2-4', order='{order}', teacher_steps=10)"
    results = fit(task, loss="kd", supervision=spec, **{**QUICK, "seeds": [0, 3]})
    y, d_train = task.manifest.labels, task.splits(seed=0).weak_train
    for first in asked[:2]:
        shown = [sorted(set(y[request.train].tolist())) for request in first if request.train is not None]
        assert [len(one) for one in shown] == [7, 4, 3, 2, 2, 2, 1]
        for level in (shown[:1], shown[1:3], shown[3:]):
            assert sorted(c for block in level for c in block) == list(range(7))
        assert all(set(request.train.tolist()) <= set(d_train.tolist()) for request in first)  # type: ignore[union-attr]
    both = [[sorted(set(y[request.train].tolist())) for request in first] for first in asked[:2]]
    assert (both[0] == both[1]) == (order != "random")
    assert (both[0][1] == [0, 1, 2, 3]) == (order == "label")
    assert len([r for r in results.rows if r["selection"] == "last" and r["status"] == "ok"]) == 2


def test_semantic_order_finds_clusters_and_blocks_are_balanced() -> None:
    rng = np.random.default_rng(1)
    cluster = np.array([2, 0, 1, 3, 0, 2, 1, 3, 0, 1, 2, 3])
    means = 10.0 * rng.normal(size=(4, 5))[cluster] + 0.1 * rng.normal(size=(12, 5))
    order = bisected(means)
    assert sorted(order) == list(range(12))
    assert all(len({cluster[c] for c in block}) == 1 for block in blocks(order, 4))
    assert bisected(means) == order == bisected(means + 3.0)
    for k in range(1, 30):
        for m in range(1, k + 1):
            assert [list(b) for b in blocks(range(k), m)] == blocks_of(k, m)


@pytest.mark.parametrize(("keep", "kept"), [("all", 4), ("top1", 2), ("top2", 3), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_as_many_rows_are_kept_as_agree_and_the_likeliest_of_them(keep: str | float, kept: int) -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]).log()
    label = torch.tensor([0, 1, 2, 0])  # ranks 1, 1, 3, 2; probabilities .5, .8, .1, .2
    order = [1, 0, 3, 2]
    mask = kept_rows(p, label, "top3" if keep == "all" else keep)
    assert sorted(np.flatnonzero(mask).tolist()) == sorted(order[:kept])


def test_specialists_and_first_levels_are_fitted_once_for_all_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    own = run.fit_heads

    def counted(x: Any, asked: Any, **kwargs: Any) -> Any:
        runs.append(len(asked))
        return own(x, asked, **kwargs)

    monkeypatch.setattr(run, "fit_heads", counted)
    grid = "csl(levels=['1', '1-2', '1-2-4', '1-4'], teacher_steps=10)"
    results = fit(world(), loss="kd", supervision=grid, **{**QUICK, "seeds": 1, "lr": [0.01, 0.02]})
    # 7 specialists for both learning rates, and for each the students of 1, 1-2, 1-2-4 and 1-4
    assert sum(runs) == 7 + 2 * 4
    longest = next(r for r in results.rows if "1-2-4" in r["supervision"] and "lr=0.01" in r["method"])
    short = next(r for r in results.rows if "'1-2'" in r["supervision"] and "lr=0.01" in r["method"])
    assert longest["stages"][:2] == short["stages"] and short["stages"][1]["acc_student"] == short["acc_w2s"]  # type: ignore[index]


def test_the_task_s_own_weak_model_may_be_the_first_teacher(asked: list[Sequence[FitRequest]]) -> None:
    task = world()
    fit(task, loss="kd", supervision="csl(level1='weak', levels='1-2', teacher_steps=10)", **{**QUICK, "seeds": 1})
    assert len(asked[0]) == 2
    torch.testing.assert_close(asked[1][0].supervision.weak, task.weak_logits[0].log_softmax(-1))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("csl(levels='2-4')", "rising numbers from 1"),
        ("csl(levels='1-4-4')", "rising numbers from 1"),
        ("csl(levels='1,2')", "rising numbers from 1"),
        ("csl(levels=8)", "not a string"),
        ("csl(keep='top0')", "'top3'"),
        ("csl(keep='most')", "'top3'"),
        ("csl(keep=0)", "outside"),
        ("csl(keep=1.5)", "outside"),
        ("csl(keep=True)", "a string or a finite number"),
        ("csl(by='domain')", "assign='kl'"),
        ("csl(assign='nearest')", "none of 'block', 'kl', 'oracle'"),
        ("csl(teacher_steps=0)", "outside"),
        ("csl(level=4)", "levels"),
    ],
)
def test_a_wrong_spec_is_told_before_anything_runs(spec: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        supervisions.make(spec)


@pytest.mark.parametrize(
    ("spec", "task", "told"),
    [
        ("csl(levels='1-8')", world(), "8 specialists for 5 classes"),
        ("csl(by='domain', assign='kl')", world(), "--pool --data A B"),
        ("csl(levels='1-2')", bare(), "Task.from_arrays"),
        ("csl(levels='1-2', backbone='weak/9')", world(), "weak/9"),
        ("csl(levels='1-2', teacher_lr=1e38)", world(), "teacher_lr"),
    ],
)
def test_what_a_task_lacks_is_told_with_the_way_to_give_it(spec: str, task: Task, told: str) -> None:
    with pytest.raises((UsageError, TrainError), match=told):
        fit(task, loss="kd", supervision=spec, **QUICK)


def test_named_methods_and_the_pool_of_six() -> None:
    task = pool_tasks(domain_worlds(domains=6, d_train=60, pool=90))
    names = ["csl_domain+lp", "csl_oracle+lp", "csl_hard+lp"]
    short = {**QUICK, "seeds": 1, "head": None, "epochs": 2, "batch_size": 16}
    with pytest.raises(UsageError, match="8 specialists for 6 classes"):
        fit(task, method="csl+lp", **short)
    rows = [r for r in fit(task, method=names[:1], **short).rows if r["selection"] == "last"]
    assert [(r["method"], [s["level"] for s in r["stages"] or ()]) for r in rows] == [("csl_domain+lp", [1, 2, 3, 6])]
    rows = [r for r in fit(world(k=8), method=names[1:], **short).rows if r["selection"] == "last"]
    assert [(r["method"], r["status"], r["reads_truth"]) for r in rows] == [
        ("csl_oracle+lp", "ok", True),
        ("csl_hard+lp", "ok", False),
    ]
    [row] = [
        r for r in fit(world(k=8), method="csl+lp_literal", references=False, seeds=1).rows if r["selection"] == "last"
    ]
    assert (row["lr"], row["epochs"], row["batch_size"], row["schedule"]) == (1e-4, 20, 100, "cosine(warmup=0.0)")
