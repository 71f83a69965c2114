"""Images to banks: the numbers are the encoder's own, failures keep their row, a kill at any time changes nothing."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.device import pick_device
from w2s_fast.core import processor
from w2s_fast.core.errors import BankMissing, DataError, UsageError
from w2s_fast.data import open_manifest
from w2s_fast.data.decode import read_image
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.worker import encode, extract
from w2s_fast.store import open_bank

MODEL = "timm:test_resnet"
OPTIONS = ExtractOptions(random_weights=True, batch_size=8, workers=0, device="cpu")
SCRIPT = Path(__file__).with_name("interrupted.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """44 PNG and JPEG images of two classes."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(22):
            image = Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), np.uint8))
            image.save(tmp_path / "images" / label / f"{i:02d}.{'png' if i % 2 else 'jpg'}")
    return tmp_path / "images"


def test_bank_equals_the_encoder_on_each_image(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    [record] = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    assert record.rows == 44 and record.failures == 0 and record.made_parts == 1
    bank = open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key())
    assert bank.ids == manifest.ids
    encoder = open_encoder(MODEL, random_weights=True)
    for row in (0, 7, 43):
        alone, logits = encoder.encode(encoder.prepare(read_image(manifest, row))[None])
        assert torch.allclose(bank.features()[row], alone[0], rtol=2e-3, atol=2e-3)
        assert logits is not None
        found = bank.logits()
        assert found is not None and torch.allclose(found[row], logits[0], rtol=2e-3, atol=2e-3)
        assert bank.norms()[row].item() == pytest.approx(alone[0].norm().item(), rel=1e-4)


def test_several_models_in_one_go_and_a_second_run_makes_nothing(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    models = [MODEL, "timm:test_vit", MODEL]
    first = extract(manifest, models, data=data, options=OPTIONS, cache=tmp_path / "cache")
    again = extract(manifest, models, data=data, options=OPTIONS, cache=tmp_path / "cache")
    assert [r.made_parts for r in first] == [1, 1] and [r.made_parts for r in again] == [0, 0]
    assert [r.digest for r in first] == [r.digest for r in again]
    assert first[0].key != first[1].key


def test_models_in_company_get_what_they_get_alone(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    models = ["timm:test_vit", "drawn:clip", MODEL]
    together = extract(manifest, models, data=data, options=OPTIONS, cache=tmp_path / "together")
    for model, record in zip(models, together, strict=True):
        [alone] = extract(manifest, [model], data=data, options=OPTIONS, cache=tmp_path / "alone")
        assert alone.digest == record.digest, model


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_decoding_processes_change_nothing(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "a")
    one = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "a")
    two = extract(manifest, [MODEL], data=data, options=replace(OPTIONS, workers=2), cache=tmp_path / "b")
    assert one[0].digest == two[0].digest


def test_an_unreadable_image_keeps_its_row(folder: Path, tmp_path: Path) -> None:
    bad = folder / "dog" / "03.png"
    bad.write_bytes(bad.read_bytes()[:-200])
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    [record] = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    assert record.failures == 1 and record.rows == 44
    bank = open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key())
    row = manifest.uris.index("dog/03.png")
    assert np.flatnonzero(~bank.ok).tolist() == [row]
    assert bank.failures[0]["id"] == manifest.ids[row] and "03.png" in bank.failures[0]["reason"]
    assert bank.features()[row].abs().sum() == 0 and bank.features()[row + 1].abs().sum() > 0


def test_too_many_failures_stop_and_no_readable_image_is_an_error(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.*"):
        path.write_bytes(path.read_bytes()[:40] + path.name.encode() + path.parent.name.encode())
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="more than --max-failures 3"):
        extract(manifest, [MODEL], data=data, options=replace(OPTIONS, max_failures=3), cache=tmp_path / "cache")
    with pytest.raises(DataError, match="none of its 44 images can be read"):
        extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    with pytest.raises(BankMissing):
        open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key())


def test_bf16_is_another_key_and_close(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    half = replace(OPTIONS, compute="bf16")
    [a] = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    [b] = extract(manifest, [MODEL], data=data, options=half, cache=tmp_path / "cache")
    assert a.key != b.key
    x = open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key()).features()
    y = open_bank(MODEL, data, cache=tmp_path / "cache", options=half.in_key()).features()
    assert not torch.equal(x, y)
    assert torch.nn.functional.cosine_similarity(x, y).min() > 0.99

    # a bank that is there is served; only making one needs the instructions
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert extract(manifest, [MODEL], data=data, options=half, cache=tmp_path / "cache") == [
        replace(b, made_parts=0, images_per_second=None)
    ]
    with pytest.raises(UsageError, match=r"no bfloat16 instructions.*--compute fp32"):
        extract(manifest, [MODEL], data=data, options=half, cache=tmp_path / "other")


def test_batch_size_and_device_are_not_in_the_key(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    [a] = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "a")
    [b] = extract(manifest, [MODEL], data=data, options=replace(OPTIONS, batch_size=5), cache=tmp_path / "b")
    assert a.key == b.key


def test_memory_shrinks_the_batch_and_says_so() -> None:
    class Small:
        def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            if len(x) > 2:
                raise torch.OutOfMemoryError("too large")
            return x.flatten(1), None

    x = torch.arange(7.0).reshape(7, 1, 1, 1)
    features, logits, shrunk = encode(Small(), x, device="cpu", options=OPTIONS)  # type: ignore[arg-type]
    assert shrunk and logits is None and features.flatten().tolist() == list(range(7))


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"compute": "fp8"}, {"stored": "bf16"}, {"batch_size": 0}, {"workers": -1}):
        with pytest.raises(UsageError):
            ExtractOptions(**wrong).checked()  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="use --device cpu"):
            pick_device("cuda")


def _run(data: str, cache: Path, *, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), data, str(cache), MODEL, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_kill_and_rerun_end_in_the_bytes_of_an_undisturbed_run(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    whole, _ = _run(data, tmp_path / "whole", pause=0).communicate(timeout=120)
    expected = whole.splitlines()[-1].split()
    rng = random.Random(0)
    for _ in range(3):
        process = _run(data, tmp_path / "killed", pause=0.05)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    rest, errors = _run(data, tmp_path / "killed", pause=0).communicate(timeout=120)
    found = rest.splitlines()[-1].split()
    assert found[:3] == expected[:3], errors
    assert expected[3] == "3"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_transient_error_stops_and_flags_nothing(folder: Path, tmp_path: Path, workers: int) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    gone = folder / "dog" / "03.png"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(DataError, match=r"^the image .*03\.png cannot be read \(No such file or directory\); restore"):
        extract(manifest, [MODEL], data=data, options=replace(OPTIONS, workers=workers), cache=tmp_path / "cache")
    gone.write_bytes(content)
    [record] = extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    assert record.failures == 0 and record.made_parts == 1
    bank = open_bank(MODEL, data, cache=tmp_path / "cache", options=OPTIONS.in_key())
    assert bank.ok.all()


def test_an_image_that_changes_under_the_extraction_stops_it(folder: Path, tmp_path: Path) -> None:
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / "dog" / "03.png")
    with pytest.raises(DataError, match="changed since the manifest was made; run w2s-fast extract again"):
        extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
    assert extract(open_manifest(data, cache=tmp_path), [MODEL], data=data, options=OPTIONS, cache=tmp_path)


def test_no_readable_image_is_refused_again_and_never_completed(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.*"):
        path.write_bytes(path.read_bytes()[:40] + path.name.encode() + path.parent.name.encode())
    data = f"imagefolder:{folder}"
    manifest = open_manifest(data, cache=tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(DataError, match="none of its 44 images can be read"):
            extract(manifest, [MODEL], data=data, options=OPTIONS, cache=tmp_path / "cache")
        assert not list((tmp_path / "cache" / "v1").glob("*/*/complete.json"))
