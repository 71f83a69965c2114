"""Real PNG files: a folder of embedded drawings with an official split, few enough to extract in a second or two."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from w2s_fast.data import drawn

WEAK = "drawn:cnn/sketch-0"
"""A weak model that knows the classes of these folders, on any data set."""


def drawn_folder(folder: Path, *, train: int = 2, test: int = 10, style: str = "sketch") -> Path:
    """`train/CLASS/*.png` and `test/CLASS/*.png` of the 40 drawn classes; returns the folder."""
    for part, space, count in (("train", "train", train), ("test", "pool", test)):
        for name in drawn.CLASSES:
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = drawn.render(style, name, space=space, index=i)
                Image.fromarray(pixels, "RGB").save(folder / part / name / f"{i:03}.png", compress_level=1)
    return folder
