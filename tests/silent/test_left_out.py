"""What is left out of a data set is counted and told."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from w2s_fast.data import open_manifest


def test_pictures_of_other_endings_are_counted(tmp_path: Path) -> None:
    for at, kind in enumerate("ab"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (8, 8), (at, 0, 0)).save(tmp_path / kind / "x.png")
    for name in ("a/1.gif", "a/2.GIF", "b/3.tif", "b/bare"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="GIF")
    (tmp_path / "a" / "notes.txt").write_text("not a picture")
    manifest = open_manifest(f"imagefolder:{tmp_path}")
    assert len(manifest) == 2
    assert manifest.notes == (
        "4 files beside the images are not read (2 .gif, 1 .tif, 1 without a suffix); save pictures as .jpeg",
    )


def test_nothing_left_out_is_not_told(tmp_path: Path) -> None:
    for at, kind in enumerate("ab"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (8, 8), (at, 0, 0)).save(tmp_path / kind / "x.png")
    assert open_manifest(f"imagefolder:{tmp_path}").notes == ()
