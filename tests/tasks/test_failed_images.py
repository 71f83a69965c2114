"""Images that could not be read: training refuses them unless it may leave them out, and then joins by id."""

from pathlib import Path

import pytest
from PIL import Image

from w2s_fast.core.errors import DataError
from w2s_fast.data import open_manifest
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.worker import extract
from w2s_fast.store import open_bank
from w2s_fast.tasks.opening import readable


def test_a_bank_with_unreadable_images_is_refused_or_thinned(tmp_path: Path) -> None:
    for label, shade in (("axe", 40), ("bird", 200)):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (shade, i, 0)).save(tmp_path / "pics" / label / f"{i}.png")
    (tmp_path / "pics" / "axe" / "2.png").write_bytes(b"no image")
    data, cache = f"imagefolder:{tmp_path / 'pics'}", tmp_path / "cache"
    options = ExtractOptions(device="cpu", workers=0)
    manifest = open_manifest(data, cache=cache)
    extract(manifest, ["drawn:clip"], data=data, options=options, cache=cache)
    bank = open_bank("drawn:clip", data, cache=cache, options=options.in_key())
    assert bank.rows == 8 and not bank.ok[2] and bank.ok.sum() == 7 and bank.failures[0]["row"] == 2
    with pytest.raises(DataError, match=r"1 of 8 images could not be read, axe/2\.png first; .*--drop-failed"):
        readable(manifest, [bank], drop_failed=False, cache=cache)
    kept = readable(manifest, [bank], drop_failed=True, cache=cache)
    assert kept.ids == tuple(i for r, i in enumerate(manifest.ids) if r != 2)
    assert [u for u in manifest.uris if u not in kept.uris] == ["axe/2.png"]
    assert kept.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
