"""Writes the banks of `fixtures_v1`: `python tests/store_faults/make_fixtures_v1.py FOLDER`.

They were made once, when format v1 was settled, and are never made again: a later version must read these very bytes.
Names of attempts are numbered instead of drawn, so that whoever writes v1 can be compared with them byte for byte.

images   18 rows: float16 features and logits, in parts of seven rows instead of 8192 (which would take 130 kB of ids)
         part 1 needs float32; row 8 failed; row 4 repeats the image of row 1; the id of row 9 is not a hash
text     three class names, float32, no logits; names in two alphabets; parts as they are
wide     two rows with the largest, smallest and strangest numbers that are allowed
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from w2s_fast.core.hashing import digest_ids, digest_json, number_repeats, row_id
from w2s_fast.store import Ref, begin_bank, complete_bank, files, layout, refs, write_part

IMAGES_PART_ROWS = 7
MODEL = "drawn:clip"
DATA = {"images": "drawn:sketch", "text": "text:0123", "wide": "drawn:shift"}


def images(cache: Path) -> Path:
    i = np.arange(18, dtype=np.float32)
    features = np.stack([i - 9, i / 8, -i / 16, np.full_like(i, 0.5)], axis=1)
    logits = np.stack([i, -i, i / 4], axis=1)
    features[10, 3] = 70_000  # more than float16 holds
    logits[11, 0] = -100_000
    ok = i != 8
    ids = [row_id(f"image {n}".encode()) for n in range(18)]
    ids[4] = ids[1]
    ids[9] = "a hôuse"
    ids = number_repeats(ids)
    bank = begin_bank(
        cache,
        {
            "kind": "images",
            "weights": "5e" * 32,
            "preprocess": {"size": 224, "interpolation": "bicubic", "mean": [0.5, 0.25, 0.125]},
            "rows_digest": digest_ids(ids),
        },
    )
    for part in range(3):
        start, stop = layout.row_range(part, 18)
        at = slice(start, stop)
        write_part(
            bank,
            part,
            ids=ids[at],
            features=features[at],
            logits=logits[at],
            norms=np.linalg.norm(features[at].astype(np.float64), axis=1).astype(np.float32),
            ok=ok[at],
            failures=[{"id": ids[8], "row": 8, "reason": "truncated JPEG"}] if part == 1 else [],
            producer={"device": "cpu", "batch_size": 4},
        )
    complete_bank(bank, rows=18, rows_digest=digest_ids(ids))
    return bank


def text(cache: Path) -> Path:
    classes, templates = ["dog", "café", "犬"], ["a photo of a {}.", "{}"]
    ids = [digest_json([label, name, templates])[:32] for label, name in enumerate(classes)]
    features = np.array([[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]], np.float32)
    bank = begin_bank(cache, {"kind": "text", "classes": classes, "templates": templates, "logit_scale": 100.0})
    write_part(
        bank,
        0,
        ids=ids,
        features=features,
        norms=np.linalg.norm(features.astype(np.float64), axis=1).astype(np.float32),
        ok=np.ones(3, bool),
        stored="f32",
    )
    complete_bank(bank, rows=3, rows_digest=digest_ids(ids))
    return bank


def wide(cache: Path) -> Path:
    half = np.finfo(np.float16)
    features = np.array([[half.max, -half.max, 1.0], [float(half.smallest_subnormal), -0.0, 2.0]], np.float16)
    ids = ["0" * 32, "f" * 32]
    bank = begin_bank(cache, {"kind": "images", "weights": "wide", "rows_digest": digest_ids(ids)})
    write_part(
        bank,
        0,
        ids=ids,
        features=features,
        logits=np.array([[0.0, 1e-8], [65504.0, 1e30]], np.float32),
        norms=np.linalg.norm(features.astype(np.float64), axis=1).astype(np.float32),
        ok=np.ones(2, bool),
    )
    complete_bank(bank, rows=2, rows_digest=digest_ids(ids))
    return bank


def reference(cache: Path, name: str, bank: Path, rows_digest: str) -> None:
    """As `write_ref` would, of weight files that are nowhere (images), or of none."""
    options = {"dtype": "f32", "tap": None} if name == "images" else {}
    weights = (("/models/clip.safetensors", 123, 1_700_000_000_000_000_000),) if name == "images" else ()
    ref = Ref(model=MODEL, data=DATA[name], options=options, key=bank.name, rows_digest=rows_digest, weights=weights)
    path = layout.ref_file(cache, MODEL, DATA[name], options)
    files.make_dirs(path.parent)
    files.put(path, refs._to_bytes(ref))


def make(cache: Path) -> dict[str, Path]:
    """All three in one cache folder; name -> the bank's folder."""
    counter = itertools.count(1)
    banks: dict[str, Path] = {}
    with mock.patch.object(files, "nonce", lambda: f"{next(counter):016x}"):
        for name, one in (("images", images), ("text", text), ("wide", wide)):
            with mock.patch.object(layout, "PART_ROWS", IMAGES_PART_ROWS if name == "images" else layout.PART_ROWS):
                banks[name] = one(cache)
                record = refs.unseal(layout.complete_file(banks[name]).read_bytes())
                reference(cache, name, banks[name], record["rows_digest"])
    return banks


if __name__ == "__main__":
    for name, bank in make(Path(sys.argv[1])).items():
        sys.stdout.write(f"{name} {bank.name}\n")
