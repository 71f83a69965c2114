"""Supervisors of a user's own folder: unreadable images, a folder that was moved, transient errors, class names."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import w2s_fast as w2s
from w2s_fast.backbones.weak import d_train_ids
from w2s_fast.core.errors import DataError, MissingText, ModelError, UsageError
from w2s_fast.core.hashing import digest_ids
from w2s_fast.data import open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import halves
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.text import Prompts, extract_text
from w2s_fast.tasks import supervisors

OPTIONS = ExtractOptions(workers=0)
RECIPE = {"steps": 3, "batch_size": 8}


def folder(root: Path, *, per: int = 16) -> Path:
    """Two classes of noise, `per` PNG images each."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(per):
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / name / f"{i:02d}.png")
    return root


def cut(manifest: Manifest, row: int) -> None:
    path = manifest.root / manifest.uris[row]
    path.write_bytes(path.read_bytes()[:200] + str(row).encode())


def train(data: str, cache: Path, **more: object) -> dict[str, object]:
    [record] = w2s.train_supervisors([data], model="drawn:cnn", name="w", recipe=RECIPE, cache=cache, **more)  # type: ignore[arg-type]
    return record


def official(root: Path) -> str:
    """A folder with train/ and test/, so that breaking an image leaves the halves as they are."""
    folder(root / "train", per=8)
    folder(root / "test", per=8)
    for path in (root / "test").rglob("*.png"):  # not the train images again
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return f"imagefolder:{root}"


@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_unreadable_images_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr("w2s_fast.finetune.images.IN_MEMORY", in_memory)
    data = official(tmp_path / "p")
    manifest = open_manifest(data, cache=tmp_path)
    d_train, pool, _ = halves(manifest)
    for row in (d_train[0], d_train[5], pool[2]):
        cut(manifest, int(row))
    record = train(data, tmp_path)
    assert (record["failures"], record["failures_pool"], record["n_train"]) == (2, 1, 14)
    assert "truncated" in str(record["first_failure"])
    manifest = open_manifest(data, cache=tmp_path)
    used = d_train_ids(str(record["directory"]))
    assert set(used) == {manifest.ids[r] for r in d_train} - {manifest.ids[d_train[0]], manifest.ids[d_train[5]]}
    assert isinstance(record["acc_pool"], float) and (record["acc_pool"] * 15) % 1 == pytest.approx(0, abs=1e-9)
    assert supervisors.of("weak:w", manifest, data=data, cache=tmp_path) == {0: "weak:w/0"}


def test_no_readable_image_is_an_error_and_a_missing_one_stops(tmp_path: Path) -> None:
    data = official(tmp_path / "p")
    manifest = open_manifest(data, cache=tmp_path)
    for row in halves(manifest)[1]:
        cut(manifest, int(row))
    with pytest.raises(DataError, match="none of 16 images of the pool"):
        train(data, tmp_path)
    for row in halves(manifest)[0]:
        cut(manifest, int(row))
    with pytest.raises(DataError, match="none of the 16 images of D_train"):
        train(data, tmp_path)


def test_a_transient_error_stops_training_and_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = official(tmp_path / "p")
    whole = os.open

    def flaky(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(path).name == "03.png":
            raise PermissionError(13, "Permission denied")
        return whole(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", flaky)
    with pytest.raises(DataError, match=r"03\.png cannot be read \(Permission denied\)"):
        train(data, tmp_path)


def test_a_moved_folder_keeps_its_supervisor(tmp_path: Path) -> None:
    data = f"imagefolder:{folder(tmp_path / 'photos')}"
    record = train(data, tmp_path / "cache")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    moved = f"imagefolder:{tmp_path / 'elsewhere'}"
    task = w2s.open_task(moved, strong="drawn:clip", weak="weak:w", cache=tmp_path / "cache", options=OPTIONS)
    assert list(task.weak_logits) == [0]
    manifest = open_manifest(moved, cache=tmp_path / "cache")
    assert supervisors.expand("weak:w", manifest, data=moved, cache=tmp_path / "cache") == ["weak:w/0"]
    ids = d_train_ids(str(record["directory"]))
    assert digest_ids(ids) == digest_ids(sorted(manifest.ids[r] for r in halves(manifest)[0]))
    folder(tmp_path / "other", per=15)
    other = f"imagefolder:{tmp_path / 'other'}"
    with pytest.raises(ModelError, match="no supervisor weak:w"):
        supervisors.of("weak:w", open_manifest(other, cache=tmp_path), data=other, cache=tmp_path / "cache")


def test_a_moved_folder_with_a_broken_image_keeps_its_supervisor(tmp_path: Path) -> None:
    data = official(tmp_path / "p")
    cut(open_manifest(data, cache=tmp_path), 3)
    assert train(data, tmp_path)["failures"] == 1
    (tmp_path / "p").rename(tmp_path / "q")
    moved = f"imagefolder:{tmp_path / 'q'}"
    manifest = open_manifest(moved, cache=tmp_path)
    assert supervisors.of("weak:w", manifest, data=moved, cache=tmp_path) == {0: "weak:w/0"}


@pytest.mark.parametrize("count", [0, -1])
def test_no_supervisors_is_no_number_to_ask_for(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="at least one supervisor"):
        w2s.open_task("drawn:sketch", weak_seeds=count, cache=tmp_path)


def test_banks_by_path_say_what_mends_them(tmp_path: Path) -> None:
    data = official(tmp_path / "p")
    whole = (tmp_path / "p" / "test" / "cat" / "02.png").read_bytes()
    (tmp_path / "p" / "test" / "cat" / "02.png").write_bytes(whole[:-9] + bytes(9))
    train(data, tmp_path, identity="path")
    options = ExtractOptions(workers=0)

    def opened() -> w2s.Task:
        return w2s.open_task(data, strong="drawn:clip", weak="weak:w", identity="path", cache=tmp_path, options=options)

    (tmp_path / "p" / "test" / "cat" / "02.png").write_bytes(whole[:60] + bytes(len(whole) - 60))
    with pytest.raises(DataError, match="repair --failed .*, and extract again") as caught:
        opened()
    (tmp_path / "p" / "test" / "cat" / "02.png").write_bytes(whole)
    commands = str(caught.value).split("`")[1::2]
    assert len(commands) == 2 and "`, and extract again" in str(caught.value)
    with pytest.raises(DataError, match="repair --failed"):
        opened()
    program = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        subprocess.run(["bash", "-c", command], check=True, env={**os.environ, "PATH": program}, timeout=60)
    assert len(opened().ids) == 32


def test_a_name_without_tokens_leaves_no_bank(tmp_path: Path) -> None:
    with pytest.raises(MissingText):
        extract_text("drawn:clip", Prompts(classes=("xylographa", "xylographb"), templates=("{}",)), cache=tmp_path)
    assert not (tmp_path / "v1").exists()
    prompts = Prompts(classes=open_manifest("drawn:sketch").classes, templates=("a photo of a {}",))
    first, again = (extract_text("drawn:clip", prompts, cache=tmp_path) for _ in range(2))
    assert (first.rows, first.made_parts, again.made_parts) == (len(prompts.classes), 1, 0)
    assert first.data == "text" and first.failures == 0 and first.digest == again.digest and first.key == again.key


def test_a_model_without_the_words_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2s_fast.extract import text, textless

    names = tmp_path / "names.txt"
    names.write_text("cat\txylographa\ndog\txylographb\n")
    data = official(tmp_path / "p")
    train(data, tmp_path)
    loads: list[str] = []
    opened = text.open_encoder

    def counted(model: str, **more: object) -> object:
        loads.append(model)
        return opened(model, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(text, "open_encoder", counted)

    def note() -> str | None:
        return w2s.open_task(
            data, strong="drawn:clip", weak="weak:w", class_names=names, cache=tmp_path, options=OPTIONS
        ).text_note

    first = note()
    assert first is not None and "xylograph" in first and len(loads) == 1
    assert note() == first and len(loads) == 1
    monkeypatch.setattr(textless, "CODE", "another")  # a later version may know more words
    assert note() == first and len(loads) == 2
    [file] = (tmp_path / textless.FOLDER).glob("*.json")
    file.write_text("torn")
    assert note() == first and len(loads) == 3


@pytest.mark.parametrize("broken", [False, True])
def test_more_teachers_and_their_encoders_are_joined_by_id(tmp_path: Path, broken: bool) -> None:
    data = official(tmp_path / "p")
    for seed in (0, 1):
        train(data, tmp_path, seeds=[seed])
    rows = 32
    if broken:
        manifest = open_manifest(data, cache=tmp_path)
        cut(manifest, int(halves(manifest)[1][2]))
        rows = 31
    task = w2s.open_task(
        data, strong="drawn:clip", weak="weak:w", teachers=["weak:w"], cache=tmp_path, options=OPTIONS,
        drop_failed=broken,
    )  # fmt: skip
    assert list(task.teachers) == ["weak:w/0", "weak:w/1"] and list(task.more_teachers) == ["weak:w/1"]
    assert list(task.weak_logits) == [0] and len(task.ids) == rows
    assert task.open_features is not None
    for name, logits in task.teachers.items():
        bank = w2s.open_bank(name, data, cache=tmp_path, options=OPTIONS)
        order = w2s.rows_of(bank, task.ids)
        kept = bank.logits()
        assert kept is not None and logits.equal(kept[order])
        assert task.open_features(name).equal(bank.features()[order])
    assert len(task.open_features("drawn:clip")) == rows
    with pytest.raises(ModelError, match="no supervisor weak:v"):
        w2s.open_task(data, strong="drawn:clip", weak="weak:w", teachers=["weak:v"], cache=tmp_path, options=OPTIONS)


def test_ids_of_another_identity_show_nothing(tmp_path: Path) -> None:
    data = official(tmp_path / "p")
    train(data, tmp_path, identity="path")
    with pytest.raises(DataError, match="under the same --identity: w2s-fast weak"):
        w2s.open_task(data, strong="drawn:clip", weak="weak:w", cache=tmp_path, options=OPTIONS)


def _catches(process: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return bool(int(next(x for x in lines if x.startswith("SigCgt")).split()[1], 16) >> (number - 1) & 1)


def test_a_supervisor_that_was_terminated_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGTERM saves the state and ends with status 0; the same command goes on."""
    from safetensors.torch import load_file

    data = official(tmp_path / "p")
    program = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["w2s-fast", "weak", "--data", data, "--model", "drawn:cnn", "--name", "w", "--batch-size", "16"]
    command += ["--steps", "30", "--cache", str(tmp_path / "killed")]
    with subprocess.Popen(command, env={**os.environ, "PATH": program}, stderr=subprocess.PIPE, text=True) as running:
        while not _catches(running.pid, signal.SIGTERM):
            assert running.poll() is None
            time.sleep(0.01)
        running.terminate()
        assert running.stderr is not None
        told = running.stderr.read()
    assert running.returncode == 0, told
    assert "was stopped and saved; go on with: w2s-fast weak" in told
    [state] = (tmp_path / "killed" / "weak").rglob("state.safetensors")
    whole, cut = tmp_path / "whole", tmp_path / "killed"
    for cache in (whole, cut):
        list(w2s.train_supervisors([data], model="drawn:cnn", name="w", cache=cache,
                                   recipe={"batch_size": 16, "steps": 30}))  # fmt: skip
    one, other = (load_file(next((c / "weak").rglob("model.safetensors"))) for c in (whole, cut))
    assert all(torch.equal(v, other[k]) for k, v in one.items())
    assert not state.exists()
