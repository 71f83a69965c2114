"""The shipped recipe files: what each says, that its numbers agree with each other, and what a file may not say."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from w2s_fast.core.errors import DataError, ModelError, UsageError
from w2s_fast.methods.resolve import resolve
from w2s_fast.recipes.places import placed, under
from w2s_fast.recipes.recipe import SHIPPED, Recipe, globs, shipped
from w2s_fast.studies.experiment import Experiment

NAMES = shipped()


def test_every_table_of_the_papers_has_a_recipe() -> None:
    wanted = {f"cpl_table{n}" for n in (1, 3, 4, 5, 6, 7)} | {
        "cpl_figure2",
        "csl",
        "openai_vision_resnet50",
        "openai_vision_vitb8",
        "pgr_matrix",
    }
    assert wanted <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_source_command_and_cost(name: str) -> None:
    recipe = Recipe.read(name)
    header = recipe.text.partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for word in ("Source:", "Command: w2s-fast recipe run", "Cost, real data:", "Cost, miniature:"):
        assert word in header, word
    assert f"recipe run {name} " in header and "arXiv" in header
    assert recipe.place and set(recipe.scales) == {"full", "drawn"}


@pytest.mark.parametrize("name", NAMES)
def test_the_miniature_needs_nothing_but_the_package(name: str) -> None:
    recipe = Recipe.read(name)
    found, left_out = placed(recipe, scale="drawn", root=None)
    asked = Experiment.of(found.scale("drawn").asked)
    assert not left_out
    for data in asked.data.names:
        assert data.startswith("drawn:")
    for model in (*asked.models.strong, *asked.models.weak):
        own = recipe.supervisors.get(model.partition(":")[2], {})
        assert model.startswith("drawn:") or own["model"] == "drawn:cnn", model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["full", "drawn"])
def test_methods_and_columns_are_known(name: str, scale: str) -> None:
    recipe = Recipe.read(name)
    asked = recipe.scale(scale).asked
    methods = {m.name for m in resolve(*(asked.get(key) for key in ("method", "loss", "head", "supervision")))}
    named = {one for value in recipe.values.values() if not isinstance(value, str) for one in value.values()}
    assert not named or named == methods
    published = recipe.published(scale)
    places = {column.paper for column in published.columns} - {None}
    assert places <= set(recipe.paper_columns)
    if scale == "full" and recipe.paper_columns:
        assert places == set(recipe.paper_columns), "a column of the paper has no place in the real scale"
    for kind in recipe.paper:
        assert kind in recipe.show


def percent(recipe: Recipe, system: str) -> list[float | None]:
    return [None if value is None else 100 * value for value in recipe.paper["accuracy"][system]]


def mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def test_printed_averages_are_those_of_their_rows_but_for_the_slips() -> None:
    table1 = Recipe.read("cpl_table1")
    for system in ("kd+lp", "cpl"):
        *row, average = percent(table1, system)
        assert average is not None and mean(row) == pytest.approx(average, abs=0.006), system
    *row, average = percent(Recipe.read("cpl_table6"), "cpl")
    assert mean(row) == pytest.approx(75.86) and average == pytest.approx(75.36)
    assert "75.86" in " ".join(Recipe.read("cpl_table6").slips)


@pytest.mark.parametrize(("name", "epochs"), [("openai_vision_resnet50", 20), ("openai_vision_vitb8", 5)])
def test_openai_s_pgr_are_those_of_its_accuracies_and_its_epochs_those_of_its_readme(name: str, epochs: int) -> None:
    recipe = Recipe.read(name)
    assert recipe.scale("full").asked["settings"]["epochs"] == epochs and not recipe.slips
    weak, student, ceiling = (recipe.paper["accuracy"][s] for s in ("weak", "openai+lp", "best ceiling"))
    for n, printed in enumerate(recipe.paper["pgr"]["openai+lp"]):
        w, s, c = weak[n], student[n], ceiling[n]
        assert w is not None and s is not None and c is not None
        assert (s - w) / (c - w) == pytest.approx(printed, abs=0.0051)


VALUES = tomllib.loads((SHIPPED / "cpl_table6.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": "x"}, "unknown key 'sources'; did you mean 'source'"),
        ({"columns": "domain"}, "columns 'domain' is not an axis"),
        ({"title": 3}, "title must be a string"),
        ({"paper": {"columns": ["a"], "accuracies": {}}}, "did you mean 'accuracy'"),
        ({"paper": {"columns": ["a", "b"], "accuracy": {"cpl": [1.0]}}}, "cpl needs 2 numbers"),
        ({"paper": {"columns": ["a"], "accuracy": {"cpl": ["none"]}}}, "'none' is neither a number nor 'n/a'"),
        ({"drawn": {**VALUES["drawn"], "methods": ["cpl"]}}, "[drawn]: unknown key 'methods'; did you mean 'method'"),
        ({"drawn": {"data": "drawn:real", "strong": "drawn:clip"}}, "weak is missing"),
        ({"drawn": {**VALUES["drawn"], "settings": {"epoch": 3}}}, "did you mean 'epochs'"),
    ],
)
def test_a_wrong_file_is_named_by_its_key(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as error:
        Recipe.of({**VALUES, **change}, name="x", where="x.toml")
    assert words in str(error.value) and str(error.value).startswith("x.toml")


def test_unknown_recipes_and_columns_are_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'cpl_table1'"):
        Recipe.read("cpl_tabel1")
    with pytest.raises(UsageError, match="cannot read the recipe"):
        Recipe.read("/nowhere/mine.toml")
    with pytest.raises(UsageError, match="no column 'clip' at scale drawn; did you mean 'clipart'"):
        Recipe.read("cpl_table1").only(("clip",), scale="drawn")
    chosen = Recipe.read("cpl_table1").only(("sketch", "real"), scale="drawn")
    assert chosen.scale("drawn").asked["data"] == ["drawn:real", "drawn:sketch"]
    assert [c.name for c in chosen.published("drawn").columns] == ["real", "sketch"]


def test_globs_take_any_root_and_any_weight_file() -> None:
    assert globs("list:{root}/domainnet/a_{train,test}.txt") == ("list:*/domainnet/a_{train,test}.txt",)
    assert globs("open_clip:B-32/openai") == ("open_clip:B-32/openai", "open_clip:B-32/openai@*", "open_clip:B-32/@*")
    assert globs("weak:r18") == ("weak:r18",)


def test_what_is_not_there_is_told_with_what_to_place_where(tmp_path: Path) -> None:
    recipe = Recipe.read("cpl_table6")
    with pytest.raises(UsageError, match="--data-root DIR .OfficeHome as image folders: DIR/officehome/Art"):
        placed(recipe, scale="full", root=None)
    with pytest.raises(DataError, match=f"{tmp_path}/no: there is no such folder; cpl_table6 wants OfficeHome"):
        placed(recipe, scale="full", root=tmp_path / "no")
    for name in ("Art", "Clipart", "Real World"):
        (tmp_path / "officehome" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=f"Product: {tmp_path}/officehome/Product is not there; it wants .*--only"):
        placed(recipe, scale="full", root=tmp_path)
    found, _ = placed(recipe.only(("Real World",), scale="full"), scale="full", root=tmp_path)
    assert found.scale("full").asked["data"] == [f"imagefolder:{tmp_path}/officehome/Real World"]


def test_a_weight_file_under_the_root_stands_for_the_model(tmp_path: Path) -> None:
    recipe = Recipe.read("cpl_table5")
    (tmp_path / "domainnet").mkdir()
    for part in ("train", "test"):
        (tmp_path / "domainnet" / f"clipart_{part}.txt").touch()
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "open_clip-ViT-B-16-openai.safetensors"
    file.touch()
    (tmp_path / "models" / "timm-resnet34.a1_in1k.pth").touch()
    found, _ = placed(recipe, scale="full", root=tmp_path)
    strong = found.scale("full").asked["strong"]
    assert strong == ["open_clip:ViT-B-32/openai", f"open_clip:ViT-B-16/openai@{file}", "open_clip:ViT-L-14/openai"]
    assert (
        found.supervisors["cpl-r34"]["model"] == f"timm:resnet34.a1_in1k/@{tmp_path}/models/timm-resnet34.a1_in1k.pth"
    )
    vision = Recipe.read("openai_vision_resnet50")
    (tmp_path / "imagenet").mkdir()
    for part in ("train", "test"):
        (tmp_path / "imagenet" / f"val_{part}.txt").touch()
    with pytest.raises(ModelError, match=r"dino_resnet50_pretrain.pth is not there; it wants ImageNet"):
        placed(vision, scale="full", root=tmp_path)


def test_a_model_library_that_is_not_here_costs_its_column_or_the_scale(tmp_path: Path) -> None:
    (tmp_path / "domainnet").mkdir()
    for part in ("train", "test"):
        (tmp_path / "domainnet" / f"clipart_{part}.txt").touch()
    table3 = Recipe.read("cpl_table3")
    absent = {name: {**t, "model": t["model"].replace("hf:", "absent:")} for name, t in table3.supervisors.items()}
    found, left_out = placed(replace(table3, supervisors=absent), scale="full", root=tmp_path)
    assert "CvT-13" not in found.scale("full").labels["weak"] and len(found.scale("full").asked["weak"]) == 4
    assert left_out == [
        "CvT-13 is left out: absent:microsoft/cvt-13 needs the model library 'absent', which is not here"
    ]
    one = Recipe.read("cpl_table4").only(("clipart",), scale="full")
    scale = replace(one.scale("full"), labels={**one.scale("full").labels, "strong": {"BLIP": "absent:blip"}})
    with pytest.raises(ModelError, match=r"BLIP is left out: absent:blip needs .*; the miniature runs: --scale drawn"):
        placed(replace(one, scales={"full": scale}), scale="full", root=tmp_path)


def test_place_is_written_with_the_root() -> None:
    assert under("{root}/a and {root}/b", Path("/r")) == "/r/a and /r/b" and under("{root}", None) == "{root}"


def test_the_readme_s_recipe_is_one() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    recipe = Recipe.of(tomllib.loads(text), name="mine")
    assert set(recipe.scales) == {"full", "drawn"} and recipe.supervisors["my-r18"]["epochs"] == 3
    [column] = recipe.published("drawn").columns
    assert (column.name, column.paper) == ("shipped", "ResNet-18")
    assert recipe.published("full").number("accuracy", "cpl", recipe.published("full").columns[0]).value == 0.7225
