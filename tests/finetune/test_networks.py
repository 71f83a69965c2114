"""Whole networks from data to rows: outcomes are scored as heads' are, teacher banks, recipes in miniature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_worlds import SHORT, judge, pictures, small, views
from PIL import Image

from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.teachers import LiveTeacher, columns_of, make_bank
from w2s_fast.finetune.training import Training
from w2s_fast.methods.networks import NetworkMethod, NetworkStudy
from w2s_fast.recipes.networks import FOLDER, NetworkRecipe, shipped

TRAINING = Training(
    batch_size=16, lr=0.01, epochs=2, optimizer="adam", schedule="cosine(warmup=0.1)", augment="crop(pad=2), flip"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Three classes of real PNG files, one of them not readable, and the cache with two supervisors."""
    import w2s_fast as w2s

    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir()
        for i in range(40):
            pixels = rng.integers(0, 160, (24, 24, 3))
            pixels[:, :, label] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
    cache = root.parent / "cache"
    one = f"imagefolder:{root}"
    recipe = {"steps": 12, "batch_size": 16}
    list(w2s.train_supervisors([one], model="drawn:cnn", name="w", recipe=recipe, seeds=[0], cache=cache))
    return one, cache


def study(data: tuple[str, Path], folder: Path, **more: object) -> NetworkStudy:
    methods = [NetworkMethod(loss="adapt_conf", gt=0.0), NetworkMethod(loss="fitnet", gt=1.0)]
    given: dict[str, object] = {
        **{"data": data[0], "cache": data[1], "student": "drawn:cnn", "teacher": "weak:w", "methods": methods},
        **{"training": TRAINING, "seeds": [0, 1], "folder": folder, **more},
    }
    return NetworkStudy(**given)  # type: ignore[arg-type]


def test_a_study_is_scored_as_heads_are(data: tuple[str, Path], tmp_path: Path) -> None:
    results = study(data, tmp_path / "states").run()
    rows = [row for row in results.rows if row["selection"] == "last"]
    roles = [(row["role"], row["method"]) for row in rows]
    assert roles.count(("ceiling", "from scratch")) == 2 and len(rows) == 6
    for row in rows:
        assert row["selected_epoch"] == 2 and row["n_train"] < 60 and row["status"] == "ok"
        assert row["reads_truth"] == (row["method"] != "adapt_conf")
        assert 0 <= row["acc_w2s"] <= 1 and row["acc_weak"] is not None
        if row["role"] == "student":
            assert row["acc_ceiling"] is not None and row["weak_seed"] == 0
    assert {row["selection"] for row in results.rows} == {"last", "weak_val", "oracle", "test_best"}
    results.save(tmp_path / "r.jsonl")
    # the same again trains nothing, and gives the same rows
    told: list[str] = []
    again = study(data, tmp_path / "states").run(on_progress=lambda *a: told.append(a[0]))
    assert told == []
    assert [r["acc_w2s"] for r in again.rows] == [r["acc_w2s"] for r in results.rows]
    assert [r["run_id"] for r in again.rows] == [r["run_id"] for r in results.rows]


def test_a_trained_student_is_an_encoder(data: tuple[str, Path], tmp_path: Path) -> None:
    study(data, tmp_path / "states", seeds=[0], methods=[NetworkMethod(loss="kd", gt=0.0)], student="cifar:resnet20",
          training=replace(TRAINING, epochs=None, steps=1)).run()  # fmt: skip
    from w2s_fast.backbones import open_encoder

    file = next((tmp_path / "states").rglob("last.safetensors"))
    encoder = open_encoder(f"cifar:resnet20/@{file}")
    assert encoder.dim == 64


def test_a_bank_is_the_teacher_on_its_views() -> None:
    pixels, labels = pictures(30)
    teacher, view = LiveTeacher(module=small(9)), views(pixels, "crop(pad=1), flip")
    bank = make_bank(teacher, view, 3, seed=11, size=7)
    assert bank.table.shape == (3, 30, 3)
    for epoch in (0, 2, 3, 7):
        seed, number = bank.view_of(4, epoch)
        rows = np.array([3, 29, 0])
        seen = view.batch(rows, seed=seed, epoch=number)
        torch.testing.assert_close(bank.logits(seen, rows, epoch), teacher.logits(seen, rows, epoch))
    # a student cannot tell a bank from a teacher that sees the bank's views

    class Same(LiveTeacher):
        def view_of(self, seed: int, epoch: int) -> tuple[int, int]:
            return bank.view_of(seed, epoch)

    results = []
    for one in (bank, Same(module=small(9))):
        model = small()
        fit_network(model, view, None, training=replace(SHORT, loss="kd", gt=0.0), seed=0, k=3, teacher=one,
                    evaluate=judge(pixels, labels))  # fmt: skip
        results.append(model.fc.weight.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_a_bank_is_kept_in_the_cache_and_changes_the_question(data: tuple[str, Path], tmp_path: Path) -> None:
    banked = study(data, tmp_path / "states", bank=2, methods=[NetworkMethod(loss="kd", gt=0.0)], seeds=[0])
    first = banked.run()
    [file] = (data[1] / "teacher_banks").rglob("state.safetensors")
    before = file.stat().st_mtime_ns
    replace(banked, folder=tmp_path / "others", seeds=[0]).run()
    assert file.stat().st_mtime_ns == before
    plain = replace(banked, bank=0).run()
    students = [[r["run_id"] for r in one.rows if r["role"] == "student"] for one in (first, plain)]
    assert set(students[0]).isdisjoint(students[1])
    with pytest.raises(UsageError, match="leave out mixing"):
        replace(banked, training=replace(TRAINING, augment="mixup"))


def test_classes_are_joined_by_name() -> None:
    assert columns_of(("a", "b"), ("a", "b"), name="t") is None
    columns = columns_of(("b", "c", "a"), ("a", "b", "c"), name="t")
    assert columns is not None and columns.tolist() == [2, 0, 1]
    with pytest.raises(UsageError, match="teacher t does not know the class 'd'"):
        columns_of(("a", "b"), ("a", "d"), name="t")
    with pytest.raises(UsageError, match="knows the class 'c', which the data lack"):
        columns_of(("a", "b", "c"), ("a", "b"), name="t")
    weak = LiveTeacher(module=small(9), columns=columns)
    pixels, _ = pictures(4)
    view = views(pixels, "none").batch(np.arange(4), seed=0, epoch=0)
    plain = LiveTeacher(module=small(9)).logits(view, np.arange(4), 0)
    assert torch.equal(weak.logits(view, np.arange(4), 0), plain[:, [2, 0, 1]])


@pytest.mark.parametrize("name", shipped())
def test_recipes_name_losses_networks_and_trainings_that_there_are(name: str) -> None:
    from w2s_fast import losses
    from w2s_fast.backbones.cifar import NETWORKS
    from w2s_fast.finetune.augment import parse_augments
    from w2s_fast.finetune.distillers import is_distiller

    recipe = NetworkRecipe.read(name)
    for scale in recipe.table["scales"]:
        studies = list(recipe.studies(scale, root=Path("/data")))
        assert studies
        for pair, one in studies:
            parse_augments(one.training.augment)
            one.training.rate_factors(1000)
            assert pair.student.partition(":")[0] in ("cifar", "timm", "drawn")
            assert not pair.student.startswith("cifar:") or pair.student.partition(":")[2] in NETWORKS
            for method in one.methods:
                assert is_distiller(method.loss) or losses.make(method.loss)
                replace(one.training, loss=method.loss, gt=method.gt, **method.more)
        recipe.published(scale)


@pytest.mark.slow
def test_a_recipe_runs_beside_the_paper_in_one_command(data: tuple[str, Path], tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    text = (FOLDER / "adaptconf_table2b.toml").read_text()
    mine = tmp_path / "adaptconf_table2b.toml"
    text = text.replace('"drawn:sketch"', f'"{data[0]}"').replace('"drawn:cnn", "drawn:cnn"', '"weak:w", "drawn:cnn"')
    mine.write_text(text.replace("epochs = 6", "epochs = 1"))
    command = ["w2s-fast", "finetune", "run", str(mine), "--scale", "drawn", "--seeds", "1", "--quiet"]
    more = ["--cache", str(data[1]), "--out", str(tmp_path / "r.jsonl")]
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "78.48" in done.stdout and "79.04" not in done.stdout  # the first column's pair, not the last's
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {row["method"] for row in rows} == {"from scratch", "kd", "fitnet", "rkd", "augconf", "adaptconf"}


def test_wrong_commands_are_told() -> None:
    with pytest.raises(UsageError, match="no recipe of networks 'adaptconf_table9'.*adaptconf_table"):
        NetworkRecipe.read("adaptconf_table9")
    recipe = NetworkRecipe.read("adaptconf_table4")
    with pytest.raises(UsageError, match="no scale 'tiny'; it has full, drawn, fashion"):
        recipe.scale("tiny")
    with pytest.raises(UsageError, match="give --data-root DIR"):
        list(recipe.studies("full"))
    with pytest.raises(SpecError, match="no augmentation"):
        from w2s_fast.finetune.augment import parse_augments

        parse_augments("blur")
