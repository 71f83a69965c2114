"""A user's own folder: scikit-learn's digits as PNG, a timm supervisor, and the ceiling against scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import w2s_fast as w2s
from w2s_fast.core.errors import DataError, ModelError
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.tasks import supervisors

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """1,797 digits in ten folders, and a cache with a supervisor trained on their D_train."""
    root = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        grey.save(folder / f"{number:04d}.png")
    (root / "names.txt").write_text("\n".join(WORDS) + "\n")
    data, cache = f"imagefolder:{root / 'images'}", root / "cache"
    recipe = {"steps": 60, "batch_size": 32}
    [record] = w2s.train_supervisors([data], model="drawn:cnn", name="w", recipe=recipe, cache=cache)
    assert 0.2 < record["acc_pool"] < 1
    return data, cache


def test_own_folder_end_to_end(world: tuple[str, Path]) -> None:
    data, cache = world
    said: list[str] = []
    task = w2s.open_task(
        data, strong="drawn:clip", weak="weak:w", class_names=cache.parent / "names.txt", cache=cache, say=said.append
    )
    assert task.classes == WORDS and len(task.ids) == 1797
    assert any("extracting" in s for s in said)
    init = "text" if task.text is not None else "weak_mean"
    results = w2s.fit(task, method=["cpl", "kd+lp", "ce+lp"], seeds=2, init=init, epochs=5, batch_size=64)
    assert {"cpl", "kd+lp", "ce+lp", "ceiling+lp", "ceiling+proto"} == {r["method"] for r in results.rows}
    last = [r for r in results.rows if r["selection"] == "last" and r["method"] == "kd+lp"]
    assert all(r["acc_w2s"] is not None and r["acc_w2s"] > 0.3 for r in last)
    again: list[str] = []
    w2s.open_task(
        data, strong="drawn:clip", weak="weak:w", class_names=cache.parent / "names.txt", cache=cache, say=again.append
    )
    assert not any("extracting" in s or "encoding" in s for s in again)


def test_ceiling_trained_to_convergence_is_scikit_learns(world: tuple[str, Path]) -> None:
    data, cache = world
    task = w2s.open_task(data, strong="drawn:clip", weak="weak:w", cache=cache)
    split = task.splits(seed=0)
    l2 = 1e-3
    results = w2s.fit(
        task,
        loss="ce",
        head="linear",
        supervision="gt",
        epochs=4000,
        batch_size=1024,
        lr=0.05,
        schedule="cosine(warmup=0.1)",
        weight_decay=l2,
    )
    [row] = [r for r in results.rows if r["selection"] == "last"]
    x = 10 * torch.nn.functional.normalize(task.features.double(), dim=-1).numpy()
    y = task.manifest.labels
    # the engine's objective is the mean CE + l2/2 |W|^2; scikit-learn's is C times the sum + 1/2 |W|^2
    oracle = LogisticRegression(C=1 / (l2 * len(split.train)), max_iter=5000, tol=1e-8)
    oracle.fit(x[split.train], y[split.train])
    assert row["acc_w2s"] == pytest.approx(oracle.score(x[split.test], y[split.test]), abs=0.015)
    assert (results.fits[0].predicted["last"] == oracle.predict(x[split.test])).mean() > 0.99


def test_unknown_words_leave_text_out_and_say_so(world: tuple[str, Path], tmp_path: Path) -> None:
    data, cache = world
    (tmp_path / "odd.txt").write_text("\n".join(f"xylograph{c}" for c in "abcdefghij") + "\n")
    task = w2s.open_task(data, strong="drawn:clip", weak="weak:w", class_names=tmp_path / "odd.txt", cache=cache)
    assert task.text is None and task.text_note is not None and "xylograph" in task.text_note


def test_a_supervisor_that_saw_the_pool_is_refused(world: tuple[str, Path]) -> None:
    data, cache = world
    from w2s_fast.backbones.students import new_module
    from w2s_fast.backbones.weak import read_card, save_supervisor, supervisor_dir
    from w2s_fast.data import open_manifest
    from w2s_fast.data.splits import halves

    manifest = open_manifest(data, cache=cache)
    d_train, pool, _ = halves(manifest)
    card = read_card(supervisor_dir("w", data, 0, cache))
    module, _, _ = new_module("drawn:cnn", 10, seed=0, pretrained=False)
    fields = {k: v for k, v in card.items() if k not in ("format", "sha256", "d_train_digest")}
    ids = [manifest.ids[r] for r in d_train]
    save_supervisor(supervisor_dir("leaky", data, 0, cache), module, fields, [*ids, manifest.ids[pool[3]]])
    with pytest.raises(DataError, match="was trained on an image of the pool"):
        supervisors.of("weak:leaky", manifest, data=data, cache=cache)
    save_supervisor(supervisor_dir("fewer", data, 0, cache), module, fields, ids[1:])
    assert supervisors.of("weak:fewer", manifest, data=data, cache=cache) == {0: "weak:fewer/0"}


def test_a_weak_model_of_other_classes_or_name_is_refused(world: tuple[str, Path]) -> None:
    data, cache = world
    with pytest.raises(ModelError, match="did you mean 'w'|known are: w"):
        w2s.open_task(data, strong="drawn:clip", weak="weak:ww", cache=cache)
    options = ExtractOptions(random_weights=True, workers=0)
    with pytest.raises(DataError, match="1000 classes, .* has 10 classes"):
        w2s.open_task(data, strong="drawn:clip", weak="torchvision:squeezenet1_1", cache=cache, options=options)
    with pytest.raises(ModelError, match="w2s-fast weak"):
        w2s.open_task(data, strong="drawn:clip", weak="drawn:cnn", cache=cache)


def test_a_changed_image_stops_train_with_the_extract_command(world: tuple[str, Path], tmp_path: Path) -> None:
    import shutil

    from w2s_fast.core.errors import BankStale

    data, cache = world
    copied = tmp_path / "images"
    shutil.copytree(data.removeprefix("imagefolder:"), copied)
    moved = f"imagefolder:{copied}"
    options = ExtractOptions(workers=0)
    from w2s_fast.data import open_manifest
    from w2s_fast.tasks.opening import prepare

    first = prepare(open_manifest(moved, cache=cache), ["drawn:clip"], data=moved, cache=cache, options=options)
    original = w2s.open_bank("drawn:clip", data, cache=cache, options=options)
    assert first["drawn:clip"].key == original.key, "a moved data set has the same bank"
    picture = next(copied.rglob("*.png"))
    Image.new("RGB", (32, 32), (9, 9, 9)).save(picture)
    with pytest.raises(BankStale, match="w2s-fast extract"):
        prepare(open_manifest(moved, cache=cache), ["drawn:clip"], data=moved, cache=cache, options=options)
