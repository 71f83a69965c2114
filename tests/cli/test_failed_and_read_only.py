"""`extract` and `train` over images that cannot be read, and over a cache that cannot be written."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Said = Callable[..., tuple[int, str, str]]
TRAIN = ("--method", "kd+lp", "--seeds", "1", "--set", "epochs=1", "--strong", "drawn:clip", "--weak", "weak:w")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("W2S_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def pictures(root: Path, *, broken: int) -> str:
    """Two classes of noise with an official split, 8 images each; the last `broken` cats of the test half are cut."""
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            (root / half / name).mkdir(parents=True)
            for i in range(8):
                image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
                image.save(root / half / name / f"{i}.png")
    for i in range(8 - broken, 8):
        path = root / "test" / "cat" / f"{i}.png"
        path.write_bytes(path.read_bytes()[:200] + bytes([i]))
    return f"imagefolder:{root}"


def filled(said: Said, data: str, *, status: int) -> None:
    assert said("weak", "--data", data, "--name", "w", "--steps", "3", "-q")[0] == 0
    code, _, err = said("extract", "--data", data, "--model", "drawn:clip", "--model", "weak:w")
    assert code == status, err


def test_train_refuses_unreadable_images_unless_it_may_drop_them(said: Said, cache: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "p", broken=1)
    filled(said, data, status=3)
    code, out, err = said("train", "--data", data, *TRAIN)
    assert code == 1 and out == "" and "1 of 32 images could not be read, test/cat/7.png first" in err
    assert "repair them and extract again" in err and "--drop-failed" in err
    assert not (tmp_path / "w2s_runs" / "results.jsonl").exists()
    code, out, err = said("train", "--data", data, *TRAIN, "--drop-failed", "--json", "-q")
    assert code == 0, err
    assert all(json.loads(line)["method"] for line in out.splitlines()) and out


def test_max_failures_stops_before_the_part_is_whole(said: Said, cache: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "p", broken=4)
    few = ("extract", "--data", data, "--model", "drawn:clip", "--batch-size", "4", "--workers", "0")
    code, _, err = said(*few, "--max-failures", "3")
    assert code == 1 and "4 unreadable images, more than --max-failures 3" in err
    assert not list(cache.glob("v1/??/*/commits/*"))
    assert said(*few, "--max-failures", "4")[0] == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_train_needs_no_writable_cache(said: Said, cache: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "p", broken=0)
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "w2s_fast_test", str(cache)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        filled(said, data, status=0)
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (cache / "x").touch()
        code, out, err = said("train", "--data", data, *TRAIN, "--json", "-q")
        assert code == 0 and out, err
        assert said("cache", "ls")[0] == 0 and said("cache", "verify", "--deep")[0] == 0
    finally:
        subprocess.run(["umount", str(cache)], check=True)
