"""A sweep's file, its groups before anything runs, what it hides, and what is kept of fits that were cut short."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import gaussian_task

from w2s_fast.core.errors import DataError, TrainError, UsageError
from w2s_fast.core.rows import without_truth
from w2s_fast.data import open_manifest
from w2s_fast.data.splits import split
from w2s_fast.methods import run as fitting
from w2s_fast.methods.fit import fit
from w2s_fast.methods.options import FitOptions
from w2s_fast.results.results import Results
from w2s_fast.studies import dry_run as outlines
from w2s_fast.studies.dry_run import Group, Missing, dry_run, totals
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.sweep import agreements, read_sweep
from w2s_fast.tasks.options import DataOptions, ModelOptions
from w2s_fast.tasks.task import Task

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 64, "device": "cpu"}


def test_a_file_is_read_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('method = "cpl"\nloss = ["ce", "kd"]\nseeds = [3, 4]\ndata = ["drawn:sketch"]\nreferences = false\n'
                    'weak_seeds = 2\nroot = "pics"\n[settings]\nlr = [0.1, 0.01]\nepochs = 3\n')  # fmt: skip
    asked = read_sweep(path, cache=tmp_path)
    assert asked.fits == FitOptions(
        method=("cpl",), loss=("ce", "kd"), seeds=(3, 4), references=False, settings={"lr": [0.1, 0.01], "epochs": 3}
    )
    assert asked.data == DataOptions(names=("drawn:sketch",), root=Path.cwd() / "pics")
    assert asked.models == ModelOptions(weak_seeds=2) and asked.cache == tmp_path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metod = 'cpl'", "unknown key 'metod'; did you mean 'method'"),
        ("lr = 0.1", "unknown key 'lr'; write it below a line [settings]"),
        ("[settings]\nlearning = 1", "[settings]: unknown setting 'learning'"),
        ("[settings]\nlr = -1.0", "[settings]: lr must be a finite number above 0"),
        ("method = 3", "method must be a string or a list of strings, not 3"),
        ("seeds = 'five'", "give a count (5) or a range (100-104)"),
        ("weak_seeds = true", "weak_seeds must be a whole number"),
        ("references = 1", "references must be true or false"),
        ("settings = 1", "settings must be a table"),
        ("method = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as told:
        read_sweep(path)
    assert words in str(told.value) and str(path) in str(told.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the sweep .* No such file"):
        read_sweep(tmp_path / "none.toml")


def test_groups_before_anything_is_extracted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("w2s_fast.extract.worker.extract", lambda *_, **__: pytest.fail("extracted"))
    monkeypatch.setattr(fitting, "fit_heads", lambda *_, **__: pytest.fail("trained"))
    sizes: list[tuple[int, int, int, int]] = []
    real = outlines.estimate

    def seen(stack: Any, **size: Any) -> Any:
        sizes.append((size["n_train"], size["scored"], size["d"], size["k"]))
        return real(stack, **size)

    monkeypatch.setattr(outlines, "estimate", seen)
    asked = {"data": "drawn:sketch", "method": ["cpl", "kd+lp"], "loss": "ce", "seeds": 3, "device": "cpu"}
    found = list(dry_run(Experiment.of({**asked, "settings": {"lr": [0.01, 0.001]}}, cache=tmp_path)))
    missing = [one for one in found if isinstance(one, Missing)]
    assert [(m.model, m.data) for m in missing] == [("drawn:clip", "drawn:sketch"), ("drawn:cnn", "drawn:sketch")]
    assert all(f"w2s-fast extract --data drawn:sketch --model {m.model}" in m.command for m in missing)
    groups = [one for one in found if isinstance(one, Group)]
    assert [(g.head, g.losses, g.runs) for g in groups] == [
        ("prototype", {"cpl": 6, "ce": 6}, 12),
        ("linear", {"kd": 6, "ce": 12}, 18),
    ]
    assert [sum(g.widths) for g in groups] == [12, 18]
    dealt = split(open_manifest("drawn:sketch"), mode="rotate", seed=0)
    assert set(sizes) == {(len(dealt.train), len(dealt.val) + len(dealt.test), 128, 40)}
    whole = totals(groups)
    assert whole["runs"] == 30 and whole["stacks"] == len(sizes) and whole["seconds"] > 0
    assert not any((tmp_path / "store").glob("*")) if (tmp_path / "store").exists() else True


def test_banks_of_teachers_are_missing_too(tmp_path: Path) -> None:
    asked = {"data": "drawn:sketch", "weak": "drawn:cnn/0", "teachers": "drawn:cnn", "method": "ensemble+lp"}
    found = list(dry_run(Experiment.of(asked, cache=tmp_path)))
    assert [m.model for m in found if isinstance(m, Missing)] == ["drawn:clip", "drawn:cnn/0", "drawn:cnn"]


def test_a_dry_run_refuses_what_the_fits_would(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting 'foo'"):
        Experiment.of({"data": "drawn:sketch", "method": "cpl", "settings": {"foo": 1}}, cache=tmp_path)


def test_agreement_is_that_of_hold_val() -> None:
    task = gaussian_task()
    results = fit(task, method=["kd+lp", "ce+lp"], seeds=3, **SHORT)
    found = agreements(results.rows)
    assert [(one.method, one.runs, one.data_sets, one.diverged) for one in found] == [
        ("kd+lp", 3, 1, 0),
        ("ce+lp", 3, 1, 0),
    ]
    z = task.weak_logits[0].numpy()
    for one in found:
        values = []
        for scored in (s for s in results.fits if s.method == one.method):
            theta, rows = scored.fitted.fit.theta["last"], task.splits(seed=scored.seed).val
            x = task.features[rows] / task.features[rows].norm(dim=1, keepdim=True)
            said = (10 * x @ theta["weight"].T + theta["bias"]).argmax(1).numpy()
            values.append(float((said == z[rows].argmax(1)).mean()))
        assert one.mean == pytest.approx(np.mean(values)) and one.sd == pytest.approx(np.std(values, ddof=1))


def test_rows_without_truth_hold_none() -> None:
    results = fit(gaussian_task(), method="kd+lp", seeds=2, **SHORT)
    shown = without_truth(results.rows)
    assert {row["selection"] for row in shown} == {"last", "weak_val"} and len(shown) == 4
    assert {row["method"] for row in shown} == {"kd+lp"}
    for row in shown:
        assert not [key for key in row if "acc" in key or "pgr" in key or key in ("agree_right", "agree_wrong")]
        assert row["agree_val"] is not None and row["agreement"] is not None
    assert all("acc_w2s" in row and "acc_val" in row for row in results.rows)


def test_seconds_of_a_row_are_its_share() -> None:
    results = fit(gaussian_task(), method=["kd+lp", "cpl"], seeds=2, **SHORT)
    last = [row for row in results.rows if row["selection"] == "last"]
    for row in last:
        assert row["seconds"] == pytest.approx(row["seconds_compile"] + row["seconds_fit"] + row["seconds_evaluate"])
        assert row["seconds_load"] > 0 and row["seconds_fit"] > 0
    heads = {(row["stack"], row["head"].partition("(")[0]) for row in last}
    assert len({stack for stack, _ in heads}) == len(heads) >= 2, "a stack has one kind of head"


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainError])
def test_fits_that_are_done_are_handed_over_when_others_are_cut(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    real = fitting.fit_heads

    def cut(*args: Any, **options: Any) -> Any:
        for number, one in enumerate(real(*args, **options)):
            if number == 5:
                raise error("stopped here")
            yield one

    task = gaussian_task()
    whole = fit(task, method=["kd+lp", "cpl"], seeds=3, **SHORT)
    monkeypatch.setattr(fitting, "fit_heads", cut)
    kept: list[Results] = []
    with pytest.raises(error):
        fit(task, method=["kd+lp", "cpl"], seeds=3, on_cut=kept.append, **SHORT)
    [part] = kept
    assert len(part.fits) == 5 and part.unfinished == len(whole.fits) - 5
    full = {(row["run_id"], row["selection"]): row for row in whole.rows}
    assert len(part.rows) == 20
    for row in part.rows:
        same = full[row["run_id"], row["selection"]]
        assert (row["acc_w2s"], row["agreement"], row["acc_weak"]) == (
            same["acc_w2s"],
            same["agreement"],
            same["acc_weak"],
        )
        assert row["acc_ceiling"] in (None, same["acc_ceiling"])
    joined = part + whole
    assert len(joined.rows) == len(whole.rows)


@pytest.mark.parametrize(
    ("n", "k", "batch", "words"),
    [(60, 1, 8, "only one class"), (2, 2, 8, "too few images: .* is empty"), (60, 3, 1000, None), (60, 3, 39, None)],
)
def test_small_tasks_have_results_or_a_sentence(n: int, k: int, batch: int, words: str | None) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    arrays = {"features": rng.normal(size=(n, 4)), "weak_logits": rng.normal(size=(n, k)), "labels": labels}
    if words is not None:
        with pytest.raises(DataError, match=words):
            fit(Task.from_arrays(**arrays), method="kd+lp", epochs=2, batch_size=batch)
        return
    task = Task.from_arrays(**arrays)
    rows = fit(task, method="kd+lp", epochs=2, batch_size=batch, references=False).rows
    assert {row["status"] for row in rows} == {"ok"} and all(row["acc_w2s"] is not None for row in rows)
    assert len(task.splits().train) <= batch


def test_a_run_that_diverges_says_so_in_its_row() -> None:
    options = {**SHORT, "solver": "sgd", "weight_decay": 0.01, "epochs": 6, "batch_size": 32}
    results = fit(gaussian_task(), method="kd+lp", lr=[0.01, 1e6], seeds=1, references=False, **options)
    by_lr = {row["lr"]: row for row in results.rows if row["selection"] == "last"}
    assert by_lr[0.01]["status"] == "ok" and by_lr[1e6]["status"] == "diverged"
    assert by_lr[1e6]["acc_w2s"] is None and "lower lr" in str(by_lr[1e6]["note"])
    good, bad = agreements(results.rows)
    assert (good.diverged, bad.diverged, bad.runs, bad.mean) == (0, 1, 1, None) and good.mean is not None
