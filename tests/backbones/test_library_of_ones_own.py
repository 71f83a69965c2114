"""An encoder library of one's own, installed as a package: its transform, its text tower, its names, its training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from w2s_fast.tasks.supervisors import known_models

MODULE = '''
import hashlib

import numpy as np
import torch

from w2s_fast.backbones import Library, open_encoder


class Tower:
    """What core's protocol asks of a text tower, and nothing else."""

    def __init__(self, inner):
        self._inner = inner
        self.width, self.context_length, self.logit_scale = inner.width, inner.context_length, inner.logit_scale

    def tokenize(self, texts):
        return self._inner.tokenize(texts)

    def eot(self, tokens):
        return self._inner.eot(tokens)

    def params(self):
        return self._inner.params()

    def embed(self, tokens):
        return self._inner.embed(tokens)

    def encode(self, emb, eot, prefix=None, params=None, *, dtype=None, chunk=None):
        return self._inner.encode(emb, eot, prefix, params, dtype=dtype, chunk=chunk)


class Mirror:
    """The embedded CLIP on mirrored images: the transform is this library's own."""

    classes, weight_files = None, ()
    config = {"library": "mine"}
    preprocess = {"mirror": True}

    def __init__(self):
        self._inner = open_encoder("drawn:clip")
        self.dim = self._inner.dim
        self.weights_digest = hashlib.sha256(b"mirror" + self._inner.weights_digest.encode()).hexdigest()

    def prepare(self, image):
        return self._inner.prepare(image).flip(-1)

    def encode(self, x):
        return self._inner.encode(x)


class WithText(Mirror):
    def text_tower(self):
        return Tower(self._inner.text_tower())


def open_named(model, options):
    return WithText() if model.rest == "org/clip" else Mirror()


def names(pattern):
    return iter([("org/clip", "my CLIP")] if pattern in "org/clip" else [])


LIBRARY = Library(open=open_named, names=names)
'''
POINTS = "[w2s_fast.backbones]\nmine = my_models:LIBRARY\nplain = my_models:open_named\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("installed")
    (folder / "my_models.py").write_text(MODULE)
    about = folder / "my_models-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-models\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    return {**os.environ, "PYTHONPATH": str(folder), "W2S_FAST_CACHE": str(folder / "cache")}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "w2s_fast_cli", *words], env=environment, capture_output=True, text=True, timeout=240
    )


def test_whatever_keeps_the_protocol_is_extracted_and_trained(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = run(
        environment,
        *("train", "--data", "drawn:sketch", "--strong", "mine:org/clip", "--method", "cpl", "--method", "kd+tp"),
        *("--seeds", "1", "--epochs", "1", "--out", str(out)),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    last = {row["method"]: row for row in rows if row["selection"] == "last"}
    assert {"cpl", "kd+tp"} <= set(last) and all(row["status"] == "ok" for row in last.values())
    assert last["cpl"]["acc_zero_shot"] > 0.2, "mirrored drawings are still drawings; chance is 1 of 40"
    assert last["cpl"]["text_key"]


def test_an_encoder_without_text_says_so(environment: dict[str, str]) -> None:
    code = "from w2s_fast.backbones import open_encoder; from w2s_fast.backbones.text import text_tower\n"
    code += "print(open_encoder('mine:other').dim); text_tower(open_encoder('plain:other'), 'plain:other')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "128\n" and "MissingText: plain:other has no text tower; use a CLIP model" in done.stderr


def test_its_names_are_listed(environment: dict[str, str]) -> None:
    done = run(environment, "models", "mine:org", "--json")
    assert [one["model"] for one in json.loads(done.stdout)] == ["mine:org/clip"], done.stderr


@pytest.mark.parametrize("pattern", ["timm:resnet18", "ResNet18.a1", "drawn:clip", "open_clip:vit-b-32/open", "cnn"])
def test_names_are_found_with_and_without_their_library(pattern: str, tmp_path: Path) -> None:
    found = [one["model"] for one in known_models(pattern, cache=tmp_path)]
    assert any(pattern.lower() in name.lower() for name in found)
    library, colon, _ = pattern.partition(":")
    assert not colon or all(name.startswith(f"{library}:") for name in found)
