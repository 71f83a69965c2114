"""Recipes run: each in miniature on one domain, the second on the same encoders from the cache, one on real files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from w2s_fast.backbones.weak import d_train_ids, supervisor_dir
from w2s_fast.core.errors import ModelError, UsageError
from w2s_fast.core.rows import Row
from w2s_fast.data import open_manifest
from w2s_fast.data.splits import halves
from w2s_fast.extract import text, worker
from w2s_fast.finetune import supervisors
from w2s_fast.recipes import run as running
from w2s_fast.recipes.recipe import Recipe, shipped
from w2s_fast.recipes.run import RecipeRun
from w2s_fast.recipes.tables import by_group, tables_against
from w2s_fast.report.comparison import side_by_side
from w2s_fast.report.tables import to_markdown
from w2s_fast.results.results import Results

ONE = {"cpl_table1": "clipart", "cpl_table3": "400 steps", "cpl_table4": "clipart", "cpl_table6": "clipart"}
"""Recipes of many columns, and the one that is run here."""
SLOW = {"cpl_table7"}
"""A step of its text encoder takes as long as all other methods together."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was extracted: one name per model and data set, class names included."""
    made: list[str] = []

    def counted(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(what)
            return real(*args, **options)

        return call

    monkeypatch.setattr(worker, "extract", counted("images", worker.extract))
    monkeypatch.setattr(text, "extract_text", counted("text", text.extract_text))
    yield made


def quick(name: str) -> Recipe:
    """A recipe with supervisors of twenty steps, students of two epochs, and two rungs of a ladder."""
    recipe = Recipe.read(name)
    weak = {one: {**table, "steps": 20} if "steps" in table else table for one, table in recipe.supervisors.items()}
    scale = recipe.scale("drawn")
    settings = {"epochs": 2, **scale.asked.get("settings", {})}
    if isinstance(settings["epochs"], int):
        settings["epochs"] = 2
    labels = scale.labels
    if recipe.lines is not None:
        labels = {**labels, "weak": {label: labels["weak"][label] for label in ("400 steps", "shipped")}}
    scale = replace(scale, asked={**scale.asked, "settings": settings}, labels=labels)
    return replace(recipe, supervisors=weak, scales={**recipe.scales, "drawn": scale})


def of(recipe: Recipe, *, seeds: int = 1, **where: Any) -> RecipeRun:
    return RecipeRun.of(recipe, changes={"seeds": seeds}, **where)


def fitted(run: RecipeRun) -> tuple[Results, list[str]]:
    said: list[str] = []
    total: Results | None = None
    for one in run.fit(say=said.append):
        total = one if total is None else total + one
    assert total is not None
    return total, said


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in shipped()])
def test_each_recipe_runs_in_miniature(name: str, cache: Path) -> None:
    recipe = quick(name)
    plan = of(recipe, scale="drawn", only=(ONE[name],) if name in ONE else (), cache=cache)
    results, _ = fitted(plan)
    assert {row["status"] for row in results.rows} == {"ok"}
    tables = plan.tables(results)
    assert any(cell.value is not None for row in tables[0].rows for cell in row.cells[:1])
    if recipe.lines is not None:
        assert {r.system for r in tables[0].rows} == set(recipe.scale("drawn").labels["weak"])
        return
    systems = {row.system for row in tables[0].rows if row.kind == "method"}
    printed = {system for table in recipe.paper.values() for system in table} - {"weak", "best ceiling"}
    assert printed <= systems
    means: dict[str, list[float]] = {}
    for row in results.rows:
        if (
            row["selection"] == recipe.selection
            and row["weak_seed"] is not None
            and row["strong"] == plan.experiment.models.strong[-1]
        ):
            means.setdefault(row["method"], []).append(row["acc_w2s"] or 0.0)
    last = tables[0].groups[-1]
    for method, values in means.items():
        column = next((c for c in recipe.published("drawn").columns if c.name == last), None)
        assert column is not None
        bare = next((s for s in systems if column.name_of(s) == method), None)
        if bare is not None:
            assert tables[0].cell(last, bare, "accuracy").value == pytest.approx(np.mean(values))
    assert "| weak |" in to_markdown(side_by_side(tables[0], "accuracy"))


def test_a_second_recipe_on_the_same_encoders_extracts_nothing(cache: Path, extracted: list[str]) -> None:
    fitted(of(quick("cpl_table1"), scale="drawn", only=("clipart",), cache=cache))
    extracted.clear()
    for name in ("cpl_table4", "cpl_table6", "cpl_figure2"):
        fitted(of(quick(name), scale="drawn", only=("clipart",) if name in ONE else (), cache=cache))
    assert extracted == []


MINE = """
title = "Mine"
source = "me"
columns = "data"
place = "lists: {root}/small/a_train.txt and a_test.txt"
[paper]
columns = ["a"]
[paper.accuracy]
"kd+lp" = [50.0]
[supervisors.tiny]
model = "drawn:cnn"
steps = 3
[full]
method = "kd+lp"
strong = "drawn:clip"
weak = "weak:tiny"
[full.data]
a = "list:{root}/small/a_{train,test}.txt"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one small data set as lists, as DomainNet has them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "root" / "small"
    for part, count in (("train", 4), ("test", 12)):
        lines: list[str] = []
        for label, name in enumerate(("cat", "dog")):
            (folder / "a" / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                path = folder / "a" / name / f"{part}{i}.png"
                base = rng.integers(0, 128, (32, 32, 3)) + 100 * label
                Image.fromarray(base.astype(np.uint8)).save(path)
                lines.append(f"a/{name}/{path.name} {label}")
        (folder / f"a_{part}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.toml").write_text(MINE)
    return tmp_path / "root"


def test_real_files_under_a_root(root: Path, tmp_path: Path, extracted: list[str]) -> None:
    recipe = Recipe.read(tmp_path / "mine.toml")
    plan = of(recipe, seeds=2, scale="full", root=root, cache=tmp_path / "cache")
    results, said = fitted(plan)
    assert any("training weak:tiny on D_train (drawn:cnn, weak seeds 0-0)" in line for line in said)
    assert {row["data"] for row in results.rows} == {f"list:{root}/small/a_{{train,test}}.txt"}
    table = plan.tables(results)[0]
    rows = [r for r in results.rows if (r["method"], r["selection"]) == ("kd+lp", "last")]
    assert table.cell("a", "kd+lp", "accuracy").value == pytest.approx(np.mean([r["acc_w2s"] for r in rows]))
    assert table.cell("a", "kd+lp", "paper_accuracy").value == 0.5
    assert "images" in extracted
    extracted.clear()
    again, said = fitted(plan)
    assert extracted == [] and not any("training weak:tiny" in line for line in said)
    assert values(again.rows) == values(results.rows)
    # results of another root stand in the same columns
    moved: list[Row] = [row.copy() for row in results.rows]
    for row in moved:
        row["data"] = "list:/elsewhere/small/a_{train,test}.txt"
    [other] = tables_against(recipe, moved, by_group(Results(rows=moved)))
    assert other.cell("a", "kd+lp", "accuracy").value == table.cell("a", "kd+lp", "accuracy").value


def test_supervisors_know_images_as_the_study_does(root: Path, tmp_path: Path) -> None:
    """Under ids of another kind a supervisor's D_train would never meet the pool, whatever it was trained on."""
    (tmp_path / "mine.toml").write_text(MINE.replace("[full]", '[full]\nidentity = "path"'))
    plan = of(Recipe.read(tmp_path / "mine.toml"), scale="full", root=root, cache=tmp_path / "cache")
    fitted(plan)
    data = f"list:{root}/small/a_{{train,test}}.txt"
    manifest = open_manifest(data, identity="path", cache=tmp_path / "cache")
    kept = d_train_ids(supervisor_dir("tiny", data, 0, tmp_path / "cache"))
    assert sorted(kept) == sorted(manifest.ids[row] for row in halves(manifest)[0])


def values(rows: list[Row]) -> list[float | None]:
    return [row["acc_w2s"] for row in rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 4}, "weak:tiny/0 was trained with steps=3, and mine wants 4"),
        ({"model": "timm:resnet18"}, "from drawn:cnn, and mine wants timm:resnet18"),
    ],
)
def test_a_supervisor_of_that_name_that_was_trained_otherwise_is_refused(
    root: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    recipe = Recipe.read(tmp_path / "mine.toml")
    cache = tmp_path / "cache"
    data = f"list:{root}/small/a_{{train,test}}.txt"
    list(supervisors.train_supervisors([data], model="drawn:cnn", name="tiny", recipe={"steps": 3}, cache=cache))
    changed = replace(recipe, supervisors={"tiny": {**recipe.supervisors["tiny"], **change}})
    plan = of(changed, scale="full", root=root, cache=cache)
    with pytest.raises(UsageError, match=words):
        next(iter(plan.fit(say=lambda _: None)))


def test_weights_that_cannot_be_had_are_told_with_their_place(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.read(tmp_path / "mine.toml")
    scale = recipe.scale("full")
    model = "open_clip:ViT-B-32/openai"
    labels = {**scale.labels, "strong": {model: model}}
    recipe = replace(recipe, scales={"full": replace(scale, labels=labels)})

    def absent(*_: Any, **__: Any) -> Any:
        raise ModelError(f"the weights of {model} are not here and cannot be fetched")

    monkeypatch.setattr(running, "train_supervisors", lambda *_, **__: iter(()))
    monkeypatch.setattr(running.Study, "fit", absent)
    plan = of(recipe, scale="full", root=root, cache=tmp_path / "cache")
    with pytest.raises(ModelError, match=f"place the file as {root}/models/open_clip-ViT-B-32-openai.safetensors"):
        next(iter(plan.fit(say=lambda _: None)))
